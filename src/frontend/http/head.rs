//! The head of an HTTP/1 request: what may be read of it before anything is answered.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri};

use crate::base::limits::{HTTP1_BODY_BYTES_MAX, HTTP1_HEAD_BYTES_MAX, HTTP1_HEADERS_MAX};

/// A request without its body.
#[derive(Debug)]
pub(super) struct Head {
    /// Method, target and headers.
    pub(super) request: Request<Bytes>,
    /// Bytes of the head.
    pub(super) bytes: usize,
    /// Bytes of the body behind it.
    pub(super) body_bytes: usize,
    /// Whether the connection goes on after the answer.
    pub(super) keeps_alive: bool,
    /// Whether the client must be told that the connection goes on.
    pub(super) is_http10: bool,
}

/// Reads a head from the front of `input`. `None`: it is not whole yet.
pub(super) fn parse(input: &[u8]) -> Result<Option<Head>, StatusCode> {
    let mut fields = [httparse::EMPTY_HEADER; HTTP1_HEADERS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let bytes = match head.parse(input) {
        Ok(httparse::Status::Complete(bytes)) if bytes <= HTTP1_HEAD_BYTES_MAX => bytes,
        Ok(httparse::Status::Partial) if input.len() < HTTP1_HEAD_BYTES_MAX => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        Err(_) => return Err(StatusCode::BAD_REQUEST),
    };
    let bad = |()| StatusCode::BAD_REQUEST;
    let method = Method::from_bytes(head.method.unwrap_or_default().as_bytes());
    let uri: Result<Uri, _> = head.path.unwrap_or_default().parse();
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = method.map_err(|_| bad(()))?;
    *request.uri_mut() = uri.map_err(|_| bad(()))?;
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| bad(()))?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| bad(()))?;
        request.headers_mut().append(name, value);
    }
    let is_http10 = head.version == Some(0);
    let headers = request.headers();
    if !is_http10 && headers.get_all(header::HOST).iter().count() != 1 {
        return Err(StatusCode::BAD_REQUEST);
    }
    let body_bytes = body_bytes(headers)?;
    let says = |word: &str| {
        let lines =
            headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|said| said.trim().eq_ignore_ascii_case(word))
    };
    let keeps_alive = !says("close") && (!is_http10 || says("keep-alive"));
    Ok(Some(Head { bytes, body_bytes, keeps_alive, is_http10, request }))
}

/// The length of the body. Whatever leaves it in doubt is refused: two readers of the same bytes
/// must not see different requests.
fn body_bytes(headers: &HeaderMap) -> Result<usize, StatusCode> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(StatusCode::NOT_IMPLEMENTED);
    }
    if headers.contains_key(header::EXPECT) {
        return Err(StatusCode::EXPECTATION_FAILED);
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(0) };
    let digits = length.to_str().unwrap_or_default();
    if lengths.next().is_some() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(StatusCode::BAD_REQUEST);
    }
    match digits.parse() {
        Ok(bytes) if bytes <= HTTP1_BODY_BYTES_MAX => Ok(bytes),
        Ok(_) => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) if digits.is_empty() => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::PAYLOAD_TOO_LARGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_soon_as_they_are_whole() {
        let text = b"POST http://h:1/a?b=c HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\n\r\nxyz";
        let whole = text.len() - 3;
        for len in 0..whole {
            assert!(parse(&text[..len]).expect("no mistake in it").is_none(), "{len}");
        }
        let head = parse(text).expect("no mistake in it").expect("whole");
        assert_eq!((head.bytes, head.body_bytes, head.keeps_alive), (whole, 3, true));
        let request = head.request;
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/a"));
        assert_eq!(request.uri().query(), Some("b=c"));
    }

    #[test]
    fn connections_go_on_as_the_versions_say() {
        let cases = [
            ("HTTP/1.1\r\nHost: h\r\n\r\n", true),
            ("HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n", false),
            ("HTTP/1.0\r\n\r\n", false),
            ("HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
        ];
        for (rest, expect) in cases {
            let text = format!("GET / {rest}");
            let head = parse(text.as_bytes()).expect("no mistake in it").expect("whole");
            assert_eq!(head.keeps_alive, expect, "{rest}");
        }
    }

    #[test]
    fn what_is_doubtful_or_too_large_is_refused() {
        let many = "A: b\r\n".repeat(HTTP1_HEADERS_MAX + 1);
        let long = "a".repeat(HTTP1_HEAD_BYTES_MAX);
        let cases = [
            ("nonsense\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/2.0\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n".to_owned(), 400),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
                    .to_owned(),
                400,
            ),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n".to_owned(), 413),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", u128::MAX), 413),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 501),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n".to_owned(), 417),
            (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
            (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 431),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}"), 431),
        ];
        for (text, expect) in cases {
            let status = parse(text.as_bytes()).expect_err(&text);
            assert_eq!(status.as_u16(), expect, "{}", &text[..text.len().min(80)]);
        }
    }

    #[test]
    fn arbitrary_bytes_are_survived() {
        let mut prng = crate::base::prng::Prng::new(5);
        let seed = b"GET /health?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        for _ in 0..5_000 {
            let mut text = seed.to_vec();
            for _ in 0..prng.below(6) {
                let at = prng.below(text.len() as u64) as usize;
                text[at] = prng.next_u64() as u8;
            }
            if let Ok(Some(head)) = parse(&text) {
                assert!(head.bytes <= text.len() && head.body_bytes <= HTTP1_BODY_BYTES_MAX);
            }
        }
    }
}
