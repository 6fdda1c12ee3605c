//! Keys of the trees that are not plain ones.
//!
//! ```text
//! current   the key
//! undo      revision i64, sub u32
//! leased    lease i64, and behind it a key on it or nothing
//! ```
//!
//! Numbers within keys are big-endian, so that bytes order as they do; a lease's, which may be
//! negative, with its sign turned. `undone.rs` has the values of `current` and `undo`, the others
//! have none.

use crate::base::record::Malformed;
use crate::base::{LeaseId, Revision, Sub};

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
