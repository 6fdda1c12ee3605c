//! Tells HTTP/2 with prior knowledge from HTTP/1 by the first bytes of a connection.

/// What a client that speaks HTTP/2 says first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2, so gRPC most of the time.
    Http2,
    /// HTTP/1, or something that its parser will refuse.
    Http1,
}

/// Decides by the first bytes; `None` while they could still be either. Never needs more than
/// the preface's 24 bytes.
#[must_use]
pub fn sniff(first: &[u8]) -> Option<Protocol> {
    let len = first.len().min(PREFACE.len());
    if first[..len] != PREFACE[..len] {
        return Some(Protocol::Http1);
    }
    (len == PREFACE.len()).then_some(Protocol::Http2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_as_soon_as_the_bytes_do() {
        let cases: [(&[u8], Option<Protocol>); 7] = [
            (b"", None),
            (b"P", None),
            (b"PO", Some(Protocol::Http1)),
            (b"GET /health HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
            (PREFACE, Some(Protocol::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", Some(Protocol::Http2)),
        ];
        for (first, expected) in cases {
            assert_eq!(sniff(first), expected, "{}", String::from_utf8_lossy(first));
        }
    }
}
