//! What the first shard keeps for the whole member: keys and values of the tree `meta`.
//!
//! ```text
//! lease   key: 1 u8, lease i64                 value: ttl_s i64
//! alarm   key: 2 u8, member u64, kind u8       value: none
//! ```
//!
//! Numbers in keys are big-endian, a lease's with its sign turned; those in values little-endian.

use bytes::Bytes;

use crate::base::LeaseId;
use crate::base::effect::AlarmKind;
use crate::base::record::Malformed;

const LEASE: u8 = 1;
const ALARM: u8 = 2;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A lease that exists.
    Lease {
        /// Its name.
        id: LeaseId,
        /// Its TTL as granted, in seconds.
        ttl_s: i64,
    },
    /// An alarm in force.
    Alarm {
        /// The member that it is about.
        member: u64,
        /// Its kind.
        kind: AlarmKind,
    },
}

/// The key of a lease.
#[must_use]
pub fn lease_key(id: LeaseId) -> Bytes {
    let mut key = vec![LEASE];
    key.extend_from_slice(&(id.0 ^ i64::MIN).to_be_bytes());
    key.into()
}

/// The value of a lease.
#[must_use]
pub fn lease_value(ttl_s: i64) -> Bytes {
    Bytes::copy_from_slice(&ttl_s.to_le_bytes())
}

/// The key of an alarm. It has no value.
#[must_use]
pub fn alarm_key(member: u64, kind: AlarmKind) -> Bytes {
    let mut key = vec![ALARM];
    key.extend_from_slice(&member.to_be_bytes());
    key.push(kind.tag());
    key.into()
}

/// Reads an entry back.
///
/// # Errors
/// [`Malformed`] says what is wrong with it.
pub fn decode(key: &[u8], value: &[u8]) -> Result<Entry, Malformed> {
    match key {
        [LEASE, rest @ ..] => {
            let id = <[u8; 8]>::try_from(rest).map_err(|_| Malformed("a lease without its ID"))?;
            let ttl = value.try_into().map_err(|_| Malformed("a lease without its TTL"))?;
            let id = LeaseId(i64::from_be_bytes(id) ^ i64::MIN);
            let ttl_s = i64::from_le_bytes(ttl);
            if id == LeaseId::NONE || ttl_s <= 0 {
                return Err(Malformed("a lease that nobody was granted"));
            }
            Ok(Entry::Lease { id, ttl_s })
        }
        [ALARM, rest @ ..] => {
            let (member, kind) = match rest {
                [member @ .., kind] => (<[u8; 8]>::try_from(member), *kind),
                [] => return Err(Malformed("an alarm without its member")),
            };
            let member = member.map_err(|_| Malformed("an alarm without its member"))?;
            let kind = AlarmKind::of_tag(kind).ok_or(Malformed("an alarm of unknown kind"))?;
            Ok(Entry::Alarm { member: u64::from_be_bytes(member), kind })
        }
        _ => Err(Malformed("an entry of meta of unknown kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back() {
        for id in [i64::MIN, -1, 1, i64::MAX].map(LeaseId) {
            let found = decode(&lease_key(id), &lease_value(60));
            assert_eq!(found, Ok(Entry::Lease { id, ttl_s: 60 }));
            assert!(decode(&lease_key(id), &lease_value(0)).is_err());
        }
        for kind in [AlarmKind::NoSpace, AlarmKind::Corrupt] {
            let found = decode(&alarm_key(u64::MAX - 3, kind), b"");
            assert_eq!(found, Ok(Entry::Alarm { member: u64::MAX - 3, kind }));
        }
        assert!(decode(&lease_key(LeaseId::NONE), &lease_value(60)).is_err());
        let lease = lease_key(LeaseId(1));
        for (key, value) in [(&b""[..], &b""[..]), (&lease, b"1"), (&lease[..5], b""), (&[3], b"")]
        {
            assert!(decode(key, value).is_err());
        }
        assert!(decode(&[ALARM], b"").is_err());
        assert!(decode(&alarm_key(1, AlarmKind::Corrupt)[..9], b"").is_err());
    }
}
