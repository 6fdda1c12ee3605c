//! Versions as they differ from what replaced them.
//!
//! Only the value goes through zstd, with the value that replaced it as the dictionary: what else
//! a version says follows from the one that replaced it and from the entry (RFC 8878 has the frame,
//! zstd's manual the dictionary of plain content).

use bytes::Bytes;
use zstd_safe::{CCtx, DCtx};

use crate::base::limits::{DELTA_VALUE_BYTES_MIN, PAGE_LOGICAL_BYTES_MAX};
use crate::base::record::{Malformed, PutFields, Record};
use crate::shard::tree::Delta;

/// Up to here both values fit the window of zstd's lowest level.
const LOW_LEVEL_BYTES_MAX: usize = 512 << 10;
/// A delta is shorter than this share of its value and what a frame takes by itself: frames do not
/// get smaller within a page, and whole values do.
const VALUE_SHARE: usize = 6;
const FRAME_BYTES: usize = 24;
/// A dictionary that starts so is taken for one that zstd made.
const DICTIONARY_MAGIC: [u8; 4] = [0x37, 0xA4, 0x30, 0xEC];

/// Makes deltas and versions from them. Holds the contexts of zstd, which are dear to make.
pub(super) struct Deltas {
    compressor: CCtx<'static>,
    expander: DCtx<'static>,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Deltas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Deltas")
    }
}

impl Deltas {
    pub(super) fn new() -> Deltas {
        Deltas { compressor: CCtx::create(), expander: DCtx::create(), scratch: Vec::new() }
    }

    /// `version` as it differs from the one that replaced it; `None` if it is longer than what a
    /// page makes of a whole one, or one does not follow the other.
    pub(super) fn make(&mut self, version: &Record, next: &Record) -> Option<Delta> {
        let (value, dictionary) = (version.value(), next.value());
        let follows = !version.is_tombstone()
            && !next.is_tombstone()
            && version.create == next.create
            && version.version + 1 == next.version;
        let is_plain = !dictionary.starts_with(&DICTIONARY_MAGIC) && !dictionary.is_empty();
        if !follows || !is_plain || value.len() < DELTA_VALUE_BYTES_MIN {
            return None;
        }
        let level = if value.len() + dictionary.len() > LOW_LEVEL_BYTES_MAX { 3 } else { 1 };
        // What does not fit is not wanted.
        let share = room(&mut self.scratch, FRAME_BYTES + value.len() / VALUE_SHARE);
        let len = self.compressor.compress_using_dict(share, value, dictionary, level).ok()?;
        let kv_len = u32::try_from(version.kv().len()).expect("a record is far below 4 GiB");
        Some(Delta {
            revision: version.revision,
            sub: version.sub,
            lease: version.lease,
            is_lease_other: version.lease != next.lease,
            kv_len,
            kv_crc: crc32c::crc32c(version.kv()),
            frame: Bytes::copy_from_slice(&self.scratch[..len]),
        })
    }

    /// The version that `next` replaced.
    ///
    /// # Errors
    /// [`Malformed`]: it is not that one.
    pub(super) fn expand(&mut self, delta: &Delta, next: &Record) -> Result<Record, Malformed> {
        let kv_len = delta.kv_len as usize;
        if next.is_tombstone() || kv_len > PAGE_LOGICAL_BYTES_MAX {
            return Err(Malformed("a delta that belongs to no version"));
        }
        let all = room(&mut self.scratch, kv_len);
        let len = self.expander.decompress_using_dict(all, &delta.frame, next.value());
        let len = len.map_err(|_| Malformed("a delta that cannot be expanded"))?;
        let version = Record::put(PutFields {
            key: next.key(),
            value: &self.scratch[..len],
            revision: delta.revision,
            sub: delta.sub,
            create: next.create,
            version: next.version.saturating_sub(1),
            lease: if delta.is_lease_other { delta.lease } else { next.lease },
        });
        let kv = version.kv();
        if kv.len() != kv_len || crc32c::crc32c(kv) != delta.kv_crc {
            return Err(Malformed("a delta that leads to another version than it says"));
        }
        Ok(version)
    }
}

/// So many bytes to write to.
fn room(scratch: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if scratch.len() < bytes {
        scratch.resize(bytes, 0);
    }
    &mut scratch[..bytes]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;
    use crate::base::{LeaseId, Revision, Sub};

    fn version(number: i64, value: &[u8], lease: i64) -> Record {
        Record::put(PutFields {
            key: b"/registry/pods/default/one",
            value,
            revision: Revision(100 * number),
            sub: Sub(3),
            create: Revision(100),
            version: number,
            lease: LeaseId(lease),
        })
    }

    #[test]
    fn a_version_comes_back_from_the_one_that_replaced_it() {
        let mut deltas = Deltas::new();
        let mut prng = Prng::new(3);
        for len in [DELTA_VALUE_BYTES_MIN, 500, 13_000, 200_000, 900_000] {
            let mut value: Vec<u8> = (0..len).map(|_| prng.next_u64() as u8).collect();
            let mut last = version(1, &value, 0);
            for number in 2..6 {
                let at = prng.below(value.len() as u64) as usize;
                value[at] = value[at].wrapping_add(1);
                value.extend_from_slice(b"more");
                let next = version(number, &value, number / 4);
                let delta = deltas.make(&last, &next).expect("they are alike");
                let bytes = delta.frame.len();
                assert!(bytes < 50 + len / 500, "{bytes} B of {len}");
                assert_eq!(delta.is_lease_other, number == 4);
                let back = deltas.expand(&delta, &next).expect("own delta");
                assert_eq!(back.log(), last.log());
                // From another version it is refused.
                assert!(deltas.expand(&delta, &last).is_err());
                last = next;
            }
        }
    }

    #[test]
    fn what_is_not_alike_stays_whole() {
        let mut deltas = Deltas::new();
        let mut prng = Prng::new(4);
        let mut noise = || (0..600).map(|_| prng.next_u64() as u8).collect::<Vec<u8>>();
        let (one, other) = (version(1, &noise(), 0), version(2, &noise(), 0));
        assert_eq!(deltas.make(&one, &other), None, "other bytes");
        let (one, other) = (version(1, &[1; 600], 0), version(3, &[1; 600], 0));
        assert_eq!(deltas.make(&one, &other), None, "not the next");
        assert_eq!(deltas.make(&version(1, b"few", 0), &version(2, b"few", 0)), None, "few bytes");
        assert_eq!(deltas.make(&one, &version(2, b"", 0)), None, "nothing to start from");
        let gone = Record::tombstone(one.key(), Revision(9), Sub(0));
        assert_eq!(deltas.make(&one, &gone), None, "a delete");
        let odd = [&DICTIONARY_MAGIC[..], &[1; 600]].concat();
        let odd = version(2, &odd, 0);
        assert_eq!(deltas.make(&one, &odd), None, "what zstd would take for a dictionary");
    }

    #[test]
    fn hostile_deltas_are_refused() {
        let mut deltas = Deltas::new();
        let (one, next) = (version(1, &[7; 600], 0), version(2, &[7; 601], 0));
        let good = deltas.make(&one, &next).expect("they are alike");
        let mut prng = Prng::new(5);
        for _ in 0..3_000 {
            let mut frame = good.frame.to_vec();
            for _ in 0..=prng.below(3) {
                let at = prng.below(frame.len() as u64) as usize;
                frame[at] = prng.next_u64() as u8;
            }
            let bad = Delta { frame: frame.into(), ..good.clone() };
            if let Ok(back) = deltas.expand(&bad, &next) {
                assert_eq!(back.log(), one.log());
            }
        }
        let long = Delta { kv_len: u32::MAX, ..good.clone() };
        assert!(deltas.expand(&long, &next).is_err());
        let short = Delta { kv_len: 5, ..good };
        assert!(deltas.expand(&short, &next).is_err());
    }
}
