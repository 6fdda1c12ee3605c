//! Cuts the bytes of a stream into gRPC messages: a flag, a length of four bytes, the message.
//!
//! A message that arrives within one DATA frame, as nearly all do, is a slice of that frame. The
//! length is judged before anything is gathered.

use bytes::{Buf, Bytes, BytesMut};

use super::status::{Code, Status};

/// Bytes before each message.
pub const PREFIX_BYTES: usize = 5;
/// A message is not given more memory than this before its bytes have arrived.
const RESERVE_BYTES_MAX: usize = 64 << 10;

/// Gathers messages of one stream.
#[derive(Debug, Default)]
pub struct Decoder {
    input: Bytes,
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    body_len: usize,
    partial: BytesMut,
}

impl Decoder {
    /// Takes what arrived next. The caller has called [`Decoder::next`] until it gave nothing.
    pub fn push(&mut self, data: Bytes) {
        assert!(self.input.is_empty(), "stream data was pushed over data not yet read");
        self.input = data;
    }

    /// The next whole message, if it is there.
    ///
    /// # Errors
    /// The status to end the call with: too large, compressed, or no gRPC framing at all.
    pub fn next(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Status> {
        if self.prefix_len < PREFIX_BYTES {
            let take = self.input.len().min(PREFIX_BYTES - self.prefix_len);
            let end = self.prefix_len + take;
            self.input.copy_to_slice(&mut self.prefix[self.prefix_len..end]);
            self.prefix_len = end;
            if end < PREFIX_BYTES {
                return Ok(None);
            }
            self.body_len = judge(self.prefix, bytes_max)?;
        }
        if self.partial.is_empty() && self.input.len() >= self.body_len {
            self.prefix_len = 0;
            return Ok(Some(self.input.split_to(self.body_len)));
        }
        if self.partial.is_empty() {
            self.partial.reserve(self.body_len.min(RESERVE_BYTES_MAX));
        }
        let take = self.input.len().min(self.body_len - self.partial.len());
        self.partial.extend_from_slice(&self.input.split_to(take));
        if self.partial.len() < self.body_len {
            return Ok(None);
        }
        self.prefix_len = 0;
        Ok(Some(std::mem::take(&mut self.partial).freeze()))
    }

    /// Bytes held of a message that is not whole yet.
    #[must_use]
    pub fn held(&self) -> usize {
        self.partial.len()
    }

    /// Whether the stream could end here without cutting a message.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.prefix_len == 0 && self.input.is_empty()
    }
}

/// The length that a prefix announces.
fn judge(prefix: [u8; PREFIX_BYTES], bytes_max: usize) -> Result<usize, Status> {
    let [flag, length @ ..] = prefix;
    match flag {
        0 => {}
        1 => {
            let text = "grpc: compressed flag set with identity or empty encoding";
            return Err(Status::fixed(Code::Internal, text));
        }
        other => {
            let text = format!("grpc: received unexpected payload format {other}");
            return Err(Status::new(Code::Internal, text));
        }
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > bytes_max {
        return Err(Status::message_too_large(length, bytes_max));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 64;

    fn framed(messages: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            out.push(0);
            out.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
            out.extend_from_slice(message);
        }
        out
    }

    fn decode(chunks: &[&[u8]]) -> Result<Vec<Bytes>, Status> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for chunk in chunks {
            decoder.push(Bytes::copy_from_slice(chunk));
            while let Some(message) = decoder.next(MAX)? {
                out.push(message);
            }
        }
        assert_eq!(decoder.held(), 0);
        assert!(decoder.is_between_messages());
        Ok(out)
    }

    #[test]
    fn several_messages_are_found_wherever_the_stream_is_cut() {
        let messages: [&[u8]; 4] = [b"first", b"", b"a third one", &[7; MAX]];
        let bytes = framed(&messages);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let chunks = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(decode(&chunks).expect("well-formed"), messages, "{first} {second}");
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single).expect("well-formed"), messages);
    }

    #[test]
    fn a_message_of_one_frame_is_not_copied() {
        let data = Bytes::from(framed(&[b"value"]));
        let mut decoder = Decoder::default();
        decoder.push(data.clone());
        let message = decoder.next(MAX).expect("fits").expect("whole");
        assert_eq!(message.as_ptr(), data[PREFIX_BYTES..].as_ptr());
    }

    #[test]
    fn a_bad_prefix_is_refused_before_its_message_arrives() {
        let cases: [(&[u8], Code, &str); 4] = [
            (
                &[0, 0, 0, 0, 65],
                Code::ResourceExhausted,
                "grpc: received message larger than max (65 vs. 64)",
            ),
            (
                &[0, 255, 255, 255, 255],
                Code::ResourceExhausted,
                "grpc: received message larger than max (4294967295 vs. 64)",
            ),
            (
                &[1, 0, 0, 0, 1],
                Code::Internal,
                "grpc: compressed flag set with identity or empty encoding",
            ),
            (&[9, 0, 0, 0, 1], Code::Internal, "grpc: received unexpected payload format 9"),
        ];
        for (bytes, code, text) in cases {
            let status = decode(&[bytes]).expect_err("refused");
            assert_eq!((status.code, &*status.message), (code, text));
        }
    }

    #[test]
    fn a_cut_message_is_known_as_such() {
        let bytes = framed(&[b"value"]);
        for len in 1..bytes.len() {
            let mut decoder = Decoder::default();
            decoder.push(Bytes::copy_from_slice(&bytes[..len]));
            assert_eq!(decoder.next(MAX), Ok(None));
            assert!(!decoder.is_between_messages(), "{len}");
        }
    }
}
