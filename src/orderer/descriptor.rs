//! What raft's own entry data holds: 32 bytes about a batch. The payload stays beside the log.
//!
//! ```text
//! byte 0         1       2        4       8        16       24      32
//!      | version | flags | zero   | count | before | last   | term  |
//!      | u8 = 1  | u8    | 2 B    | u32   | i64    | i64    | u64   |
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::base::record::Malformed;
use crate::base::{Revision, Term};

const VERSION: u8 = 1;
const FLAG_MORE: u8 = 1;
const BYTES: usize = 32;

/// What an entry says about its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Term in which the batch was evaluated; an entry of another term is void.
    pub term: Term,
    /// Revision before its first effect.
    pub before: Revision,
    /// Revision behind its last effect.
    pub last: Revision,
    /// Whether the operation goes on in the next entry.
    pub more: bool,
    /// Effects that follow.
    pub count: u32,
}

impl Descriptor {
    /// The 32 bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(BYTES);
        out.put_u8(VERSION);
        out.put_u8(if self.more { FLAG_MORE } else { 0 });
        out.put_u16_le(0);
        out.put_u32_le(self.count);
        out.put_i64_le(self.before.0);
        out.put_i64_le(self.last.0);
        out.put_u64_le(self.term.0);
        out.freeze()
    }

    /// Reads the 32 bytes.
    ///
    /// # Errors
    /// [`Malformed`] for another length, version or flag.
    pub fn decode(bytes: &[u8]) -> Result<Descriptor, Malformed> {
        let mut rest = bytes;
        if rest.len() != BYTES {
            return Err(Malformed("an entry descriptor of another length"));
        }
        if rest.get_u8() != VERSION {
            return Err(Malformed("an entry descriptor of another format version"));
        }
        let flags = rest.get_u8();
        if flags & !FLAG_MORE != 0 {
            return Err(Malformed("an entry descriptor with unknown flags"));
        }
        rest.advance(2);
        let count = rest.get_u32_le();
        let before = Revision(rest.get_i64_le());
        let last = Revision(rest.get_i64_le());
        let term = Term(rest.get_u64_le());
        Ok(Descriptor { term, before, last, more: flags & FLAG_MORE != 0, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_refuses_what_it_does_not_know() {
        let descriptor = Descriptor {
            term: Term(3),
            before: Revision(9),
            last: Revision(12),
            more: true,
            count: 7,
        };
        let bytes = descriptor.encode();
        assert_eq!(Descriptor::decode(&bytes), Ok(descriptor));
        assert!(Descriptor::decode(&bytes[..31]).is_err());
        for (at, value) in [(0, 2), (1, 2)] {
            let mut changed = bytes.to_vec();
            changed[at] = value;
            assert!(Descriptor::decode(&changed).is_err());
        }
    }
}
