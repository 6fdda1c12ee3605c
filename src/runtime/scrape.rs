//! One GET of a small page, such as a server's /metrics. It blocks: for before and after a
//! measurement, not for within one.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest that connecting, and each read, may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest page.
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// The body of `path` at `address` (`host:port`), over plain HTTP.
///
/// # Errors
/// A sentence, if there is no page of status 200 and text.
pub fn get(address: &str, path: &str) -> Result<String, String> {
    let failed = |what: &str| format!("http://{address}{path} was not read: {what}");
    let mut found = address.to_socket_addrs().map_err(|error| failed(&error.to_string()))?;
    let found = found.next().ok_or_else(|| failed("the name has no address"))?;
    let page = fetch(found, address, path).map_err(|error| failed(&error.to_string()))?;
    let text = String::from_utf8(page).map_err(|_| failed("it is no text"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| failed("it has no end"))?;
    let status = head.split_whitespace().nth(1).unwrap_or("nothing");
    if !head.starts_with("HTTP/1.") || status != "200" {
        return Err(failed(&format!("the answer is {status}")));
    }
    Ok(body.to_owned())
}

fn fetch(found: std::net::SocketAddr, host: &str, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&found, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // 1.0: the page ends with the connection, and nothing comes in chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut page = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn served(answer: &'static [u8]) -> Result<String, String> {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address").to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = socket.accept().expect("a client");
            let mut asked = [0; 512];
            let length = stream.read(&mut asked).expect("a request");
            stream.write_all(answer).expect("room");
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        let got = get(&address, "/metrics");
        let asked = server.join().expect("a request");
        assert!(asked.starts_with("GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:"), "{asked}");
        got
    }

    #[test]
    fn a_page_is_read_and_others_are_told() {
        assert_eq!(
            served(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nx 1\n\r\n\r\n"),
            Ok("x 1\n\r\n\r\n".into())
        );
        let cases: [(&[u8], &str); 4] = [
            (b"HTTP/1.1 404 Not Found\r\n\r\n", "the answer is 404"),
            (b"", "it has no end"),
            (b"\x00\xff\r\n\r\n", "it is no text"),
            (b"SSH-2.0 200\r\n\r\n", "the answer is 200"),
        ];
        for (answer, expect) in cases {
            let why = served(answer).expect_err(expect);
            assert!(why.ends_with(expect), "{why}");
        }
        let why = get("127.0.0.1:1", "/metrics").expect_err("nobody there");
        assert!(why.starts_with("http://127.0.0.1:1/metrics was not read"), "{why}");
    }
}
