//! Cuts a stream's bytes into gRPC messages without copying those that arrive whole.

use super::status::Status;

/// Bytes before each message: a flag and a length.
const PREFIX_BYTES: usize = 5;
/// A message is not given more memory than this before its bytes have arrived.
const RESERVE_BYTES_MAX: usize = 1 << 20;

/// A message: a slice of what was read, or gathered from several pieces.
#[derive(Debug, PartialEq, Eq)]
pub enum Body<'i> {
    /// Arrived whole.
    Slice(&'i [u8]),
    /// Arrived in pieces.
    Gathered(Vec<u8>),
}

impl Body<'_> {
    /// The message.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Body::Slice(bytes) => bytes,
            Body::Gathered(bytes) => bytes,
        }
    }
}

/// One stream's place in its messages.
#[derive(Debug, Default)]
pub(super) struct Gather {
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    body_len: usize,
    partial: Vec<u8>,
}

impl Gather {
    /// Takes from the head of `data` until a message is whole or nothing is left.
    pub(super) fn next<'i>(
        &mut self,
        data: &mut &'i [u8],
        bytes_max: usize,
    ) -> Result<Option<Body<'i>>, Status> {
        if self.prefix_len < PREFIX_BYTES {
            let take = data.len().min(PREFIX_BYTES - self.prefix_len);
            let (head, rest) = data.split_at(take);
            self.prefix[self.prefix_len..self.prefix_len + take].copy_from_slice(head);
            self.prefix_len += take;
            *data = rest;
            if self.prefix_len < PREFIX_BYTES {
                return Ok(None);
            }
            self.body_len = judge(self.prefix, bytes_max)?;
        }
        if self.partial.is_empty() && data.len() >= self.body_len {
            let (body, rest) = data.split_at(self.body_len);
            *data = rest;
            self.prefix_len = 0;
            return Ok(Some(Body::Slice(body)));
        }
        if self.partial.is_empty() {
            self.partial.reserve(self.body_len.min(RESERVE_BYTES_MAX));
        }
        let take = data.len().min(self.body_len - self.partial.len());
        let (head, rest) = data.split_at(take);
        self.partial.extend_from_slice(head);
        *data = rest;
        if self.partial.len() < self.body_len {
            return Ok(None);
        }
        self.prefix_len = 0;
        Ok(Some(Body::Gathered(std::mem::take(&mut self.partial))))
    }
}

/// Appends a message with its prefix. The caller keeps it below 4 GiB.
pub(super) fn prefix(out: &mut Vec<u8>, message_len: usize) {
    debug_assert!(u32::try_from(message_len).is_ok());
    out.push(0);
    out.extend_from_slice(&(message_len as u32).to_be_bytes());
}

fn judge(prefix: [u8; PREFIX_BYTES], bytes_max: usize) -> Result<usize, Status> {
    let [flag, length @ ..] = prefix;
    let length = u32::from_be_bytes(length) as usize;
    if flag != 0 {
        let text = format!("a message came with flag {flag}; no compression was agreed");
        return Err(Status::new(Status::INTERNAL, text));
    }
    if length > bytes_max {
        let text = format!("a message of {length} bytes is above the limit of {bytes_max}");
        return Err(Status::new(Status::RESOURCE_EXHAUSTED, text));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, Status> {
        let mut gather = Gather::default();
        let mut out = Vec::new();
        for chunk in chunks {
            let mut data = *chunk;
            while let Some(body) = gather.next(&mut data, 64)? {
                out.push(body.bytes().to_vec());
            }
            assert!(data.is_empty());
        }
        Ok(out)
    }

    #[test]
    fn messages_are_found_wherever_the_stream_is_cut() {
        let messages: [&[u8]; 4] = [b"first", b"", b"third", &[9; 64]];
        let mut bytes = Vec::new();
        for message in messages {
            prefix(&mut bytes, message.len());
            bytes.extend_from_slice(message);
        }
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let chunks = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(all(&chunks).expect("well-formed"), messages, "{first} {second}");
            }
        }
    }

    #[test]
    fn flags_and_lengths_are_judged_before_the_message() {
        assert_eq!(all(&[&[1, 0, 0, 0, 0]]).expect_err("compressed").code, Status::INTERNAL);
        let error = all(&[&[0, 0, 0, 0, 65]]).expect_err("too long");
        assert_eq!(error.code, Status::RESOURCE_EXHAUSTED);
    }
}
