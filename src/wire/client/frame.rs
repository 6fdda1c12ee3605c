//! HTTP/2 frames (RFC 9113): heads, numbers, and the frames that are written from parts.

/// Bytes of a frame's head.
pub(super) const HEAD_BYTES: usize = 9;
/// Payload of the largest frame until settings say otherwise; we leave it there for what we
/// receive.
pub(super) const PAYLOAD_BYTES: usize = 16_384;
/// What a client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Window of a stream and of a connection before anything is said about it.
pub(super) const WINDOW_BYTES: i64 = 65_535;
/// No window grows beyond this.
pub(super) const WINDOW_BYTES_MAX: i64 = (1 << 31) - 1;

pub(super) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

pub(super) mod flag {
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 32;
}

pub(super) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Error codes of RST_STREAM and GOAWAY that we send or look at.
pub(super) mod code {
    pub(crate) const NO_ERROR: u32 = 0;
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
    pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
    pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
    pub(crate) const REFUSED_STREAM: u32 = 7;
    pub(crate) const CANCEL: u32 = 8;
    pub(crate) const COMPRESSION_ERROR: u32 = 9;
    pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
    pub(crate) const INADEQUATE_SECURITY: u32 = 12;
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) payload_len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn parse(bytes: [u8; HEAD_BYTES]) -> Head {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = bytes;
        Head {
            payload_len: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            // The highest bit is reserved and ignored.
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1),
        }
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes a head. The caller keeps the payload below 2^24 bytes.
pub(super) fn head(out: &mut Vec<u8>, payload_len: usize, kind: u8, flags: u8, stream: u32) {
    debug_assert!(payload_len < 1 << 24);
    let [_, a, b, c] = (payload_len as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, s0, s1, s2, s3]);
}

pub(super) fn settings(out: &mut Vec<u8>, values: &[(u16, u32)]) {
    head(out, values.len() * 6, kind::SETTINGS, 0, 0);
    for (name, value) in values {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    head(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&bytes.to_be_bytes());
}

pub(super) fn reset(out: &mut Vec<u8>, stream: u32, code: u32) {
    head(out, 4, kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&code.to_be_bytes());
}

pub(super) fn go_away(out: &mut Vec<u8>, code: u32) {
    // No stream of the server's making was ever processed.
    head(out, 8, kind::GOAWAY, 0, 0);
    out.extend_from_slice(&0_u32.to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
}

/// What a padded payload holds. None if the padding is longer than the payload.
pub(super) fn unpadded(flags: u8, payload: &[u8]) -> Option<&[u8]> {
    if flags & flag::PADDED == 0 {
        return Some(payload);
    }
    let (pad, rest) = payload.split_first()?;
    rest.len().checked_sub(usize::from(*pad)).map(|end| &rest[..end])
}

/// The big-endian number at the head of `payload`, if it has four bytes.
pub(super) fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_written() {
        let mut out = Vec::new();
        head(&mut out, 0x01_02_03, kind::DATA, flag::END_STREAM, 0x7fff_fffe);
        let bytes: [u8; HEAD_BYTES] = out.try_into().expect("nine bytes");
        let parsed = Head::parse(bytes);
        let expect = Head { payload_len: 0x01_02_03, kind: 0, flags: 1, stream: 0x7fff_fffe };
        assert_eq!(parsed, expect);
    }

    #[test]
    fn padding_is_bounded_by_the_payload() {
        assert_eq!(unpadded(0, b"abc"), Some(&b"abc"[..]));
        assert_eq!(unpadded(flag::PADDED, &[1, b'a', 0]), Some(&b"a"[..]));
        assert_eq!(unpadded(flag::PADDED, &[2, 0, 0]), Some(&b""[..]));
        assert_eq!(unpadded(flag::PADDED, &[3, 0, 0]), None);
        assert_eq!(unpadded(flag::PADDED, &[]), None);
    }
}
