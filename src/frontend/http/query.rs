//! What a request's target says behind its path, and which host it is for.

use bytes::Bytes;
use http::{Request, Uri, header};

/// The parameters of a query, decoded, in their order.
#[derive(Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads the query of a target.
    pub(super) fn of(uri: &Uri) -> Query {
        let text = uri.query().unwrap_or_default();
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Query { pairs: pairs.collect() }
    }

    /// Whether a parameter is there, with whatever value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == name)
    }

    /// The first value of a parameter.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Whether a parameter is there with this value.
    pub(super) fn names(&self, name: &str, wanted: &str) -> bool {
        self.pairs.iter().any(|(known, value)| known == name && value == wanted)
    }
}

/// Undoes percent-encoding; what is no encoding stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                match (digit(ahead.next()), digit(ahead.next())) {
                    (Some(high), Some(low)) => {
                        bytes.extend(u8::try_from(high * 16 + low));
                        rest = ahead;
                    }
                    _ => bytes.push(b'%'),
                }
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The host that a request is for, without its port.
pub(super) fn host_of(request: &Request<Bytes>) -> String {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let host = named.or(authority).unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            name.trim_start_matches('[').trim_end_matches(']').to_owned()
        }
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_repeat() {
        let uri: Uri = "/readyz?verbose&exclude=a&exclude=b%2Bc&x=%zz+y".parse().expect("a URI");
        let query = Query::of(&uri);
        assert!(query.has("verbose") && !query.has("verb"));
        assert!(query.names("exclude", "a") && query.names("exclude", "b+c"));
        assert_eq!((query.first("exclude"), query.first("x")), (Some("a"), Some("%zz y")));
    }

    #[test]
    fn hosts_lose_their_port() {
        let cases = [
            ("a:1", "a"),
            ("a", "a"),
            ("[::1]:2379", "::1"),
            ("127.0.0.1:2379", "127.0.0.1"),
            ("", ""),
        ];
        for (host, expect) in cases {
            let request = Request::builder().header("host", host).body(Bytes::new());
            assert_eq!(host_of(&request.expect("a request")), expect);
        }
    }
}
