//! Keys and values of the trees that are not plain ones.
//!
//! ```text
//! current   key: the key                       value: the log form of its newest version
//! undo      key: revision i64, sub u32         value: turn u8, replaced u8, zero 2 B, key_len u32,
//!                                                     key, log form of the version replaced
//! leased    key: lease i64                     value: none
//!           key: lease i64, the key            value: none
//! ```
//!
//! Numbers within keys are big-endian, so that bytes order as they do; a lease's, which may be
//! negative, with its sign turned. Turn: 1 created, 2 updated, 3 deleted. Replaced: 0 none, 1 the
//! whole version; 2 is for a delta, which nothing writes yet.

use bytes::{Bytes, BytesMut};

use crate::base::record::{Malformed, Record, Turn};
use crate::base::{LeaseId, Revision, Sub};

const UNDO_HEADER_BYTES: usize = 8;
const REPLACED_NONE: u8 = 0;
const REPLACED_WHOLE: u8 = 1;
const REPLACED_DELTA: u8 = 2;

/// What undoes a change.
#[derive(Clone, Debug)]
pub struct Undone {
    /// What the change did.
    pub turn: Turn,
    /// The key that changed.
    pub key: Bytes,
    /// The change of the key before this one, a tombstone included. Its own place says where the
    /// one before that is.
    pub replaced: Option<Record>,
}

impl Undone {
    /// The value that `undo` holds.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let log = self.replaced.as_ref().map(|record| &record.log()[..]);
        Undone::encode_parts(self.turn, &self.key, log)
    }

    /// The same from its parts, the version replaced in its log form.
    #[must_use]
    pub fn encode_parts(turn: Turn, key: &[u8], replaced: Option<&[u8]>) -> Bytes {
        let turn = match turn {
            Turn::Created => 1,
            Turn::Updated => 2,
            Turn::Deleted => 3,
        };
        let kind = if replaced.is_some() { REPLACED_WHOLE } else { REPLACED_NONE };
        let log = replaced.unwrap_or_default();
        let key_len = u32::try_from(key.len()).expect("a key is far below 4 GiB");
        let mut out = BytesMut::with_capacity(UNDO_HEADER_BYTES + key.len() + log.len());
        out.extend_from_slice(&[turn, kind, 0, 0]);
        out.extend_from_slice(&key_len.to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(log);
        out.freeze()
    }

    /// A copy that does not share the memory of a page.
    #[must_use]
    pub fn copied(&self) -> Undone {
        let replaced = self.replaced.as_ref().map(Record::copied);
        Undone { turn: self.turn, key: Bytes::copy_from_slice(&self.key), replaced }
    }

    /// Reads a value of `undo` back, sharing its memory.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong with it.
    pub fn decode(value: &Bytes) -> Result<Undone, Malformed> {
        let head = value.first_chunk::<UNDO_HEADER_BYTES>();
        let &[turn, kind, _, _, a, b, c, d] =
            head.ok_or(Malformed("an undo entry shorter than its header"))?;
        let key_len = u32::from_le_bytes([a, b, c, d]) as usize;
        if key_len > value.len() - UNDO_HEADER_BYTES {
            return Err(Malformed("an undo entry shorter than its key"));
        }
        let turn = match turn {
            1 => Turn::Created,
            2 => Turn::Updated,
            3 => Turn::Deleted,
            _ => return Err(Malformed("an undo entry of an unknown change")),
        };
        let key = value.slice(UNDO_HEADER_BYTES..UNDO_HEADER_BYTES + key_len);
        let rest = value.slice(UNDO_HEADER_BYTES + key_len..);
        let replaced = match kind {
            REPLACED_NONE if rest.is_empty() => None,
            REPLACED_NONE => return Err(Malformed("an undo entry longer than it says")),
            REPLACED_WHOLE => Some(Record::decode(rest)?),
            REPLACED_DELTA => return Err(Malformed("an undo entry of a later format: a delta")),
            _ => return Err(Malformed("an undo entry of unknown form")),
        };
        let was_live = replaced.as_ref().is_some_and(|replaced| !replaced.is_tombstone());
        if (turn == Turn::Created) == was_live {
            return Err(Malformed("an undo entry whose change and version do not fit"));
        }
        Ok(Undone { turn, key, replaced })
    }
}

/// The key of a change in `undo`.
#[must_use]
pub fn undo_key((revision, sub): (Revision, Sub)) -> [u8; 12] {
    assert!(revision.0 >= 0, "revision {revision} is none: they begin at {}", Revision::EMPTY);
    let mut key = [0; 12];
    key[..8].copy_from_slice(&revision.0.to_be_bytes());
    key[8..].copy_from_slice(&sub.0.to_be_bytes());
    key
}

/// The place of the change that a key of `undo` names.
///
/// # Errors
/// [`Malformed`] for a key of another length or no revision.
pub fn undo_place(key: &[u8]) -> Result<(Revision, Sub), Malformed> {
    let &[a, b, c, d, e, f, g, h, i, j, k, l] =
        <&[u8; 12]>::try_from(key).map_err(|_| Malformed("an undo key of another length"))?;
    let revision = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
    if revision < 0 {
        return Err(Malformed("an undo key below every revision"));
    }
    Ok((Revision(revision), Sub(u32::from_be_bytes([i, j, k, l]))))
}

/// The key in `leased` of a lease, or of one of its keys. No key is empty, so the two differ.
#[must_use]
pub fn leased_key(lease: LeaseId, key: &[u8]) -> Vec<u8> {
    let ordered = lease.0 ^ i64::MIN;
    [&ordered.to_be_bytes(), key].concat()
}

/// The lease that a key of `leased` names, and the key that is on it, if it names one.
///
/// # Errors
/// [`Malformed`] for a key that is too short.
pub fn lease_of(leased: &[u8]) -> Result<(LeaseId, Option<&[u8]>), Malformed> {
    let parts = leased.split_first_chunk::<8>();
    let (lease, key) = parts.ok_or(Malformed("a lease's key shorter than its ID"))?;
    let lease = LeaseId(i64::from_be_bytes(*lease) ^ i64::MIN);
    Ok((lease, Some(key).filter(|key| !key.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::record::PutFields;

    fn version(key: &[u8]) -> Record {
        Record::put(PutFields {
            key,
            value: b"old",
            revision: Revision(9),
            sub: Sub(3),
            create: Revision(4),
            version: 2,
            lease: LeaseId(5),
        })
    }

    #[test]
    fn what_undoes_a_change_reads_back() {
        for turn in [Turn::Created, Turn::Updated, Turn::Deleted] {
            let replaced = match turn {
                Turn::Created => Record::tombstone(b"key", Revision(8), Sub(1)),
                _ => version(b"key"),
            };
            let replaced = Some(replaced);
            let undone = Undone { turn, key: Bytes::from_static(b"key"), replaced };
            let value = undone.encode();
            let back = Undone::decode(&value).expect("own encoding");
            assert_eq!((back.turn, &back.key), (turn, &undone.key));
            let places = [&back, &undone].map(|one| one.replaced.as_ref().map(Record::at));
            assert_eq!(places[0], places[1]);
            for len in 0..value.len() {
                assert!(Undone::decode(&value.slice(..len)).is_err(), "{len}");
            }
            for (at, wrong) in [(0, 0), (1, 2), (1, 3), (7, 1)] {
                let mut bytes = value.to_vec();
                bytes[at] = wrong;
                assert!(Undone::decode(&bytes.into()).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn keys_order_as_what_they_name() {
        let places = [(2, 0), (2, 1), (2, 256), (3, 0), (256, 0), (1 << 40, 7)];
        let places = places.map(|(revision, sub)| (Revision(revision), Sub(sub)));
        assert!(places.map(undo_key).is_sorted());
        for place in places {
            assert_eq!(undo_place(&undo_key(place)), Ok(place));
        }
        assert!(undo_place(&[255; 12]).is_err());
        assert!(undo_place(&[0; 11]).is_err());

        let leases = [i64::MIN, -5, 1, 7, i64::MAX].map(LeaseId);
        let keys = leases.map(|lease| [leased_key(lease, b""), leased_key(lease, b"a")]);
        assert!(keys.as_flattened().is_sorted());
        assert_eq!(lease_of(&leased_key(LeaseId(-5), b"")), Ok((LeaseId(-5), None)));
        assert_eq!(lease_of(&leased_key(LeaseId(7), b"k")), Ok((LeaseId(7), Some(&b"k"[..]))));
        assert!(lease_of(b"short").is_err());
    }
}
