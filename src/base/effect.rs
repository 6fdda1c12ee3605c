//! What a write leaves behind: effects, never requests. The log holds these and nothing else.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::record::{Malformed, Record};
use super::{LeaseId, Revision};

const KIND_GRANT: u8 = 16;
const KIND_REVOKE: u8 = 17;
const KIND_COMPACT: u8 = 18;
const KIND_ALARM: u8 = 19;

/// Why a member is in alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// The quota is used up.
    NoSpace,
    /// The store is damaged.
    Corrupt,
}

impl AlarmKind {
    /// The byte that stands for it on disk.
    #[must_use]
    pub fn tag(self) -> u8 {
        match self {
            AlarmKind::NoSpace => 1,
            AlarmKind::Corrupt => 2,
        }
    }

    /// The kind that a byte on disk stands for.
    #[must_use]
    pub fn of_tag(tag: u8) -> Option<AlarmKind> {
        [AlarmKind::NoSpace, AlarmKind::Corrupt].into_iter().find(|kind| kind.tag() == tag)
    }
}

/// One change to the replicated state. Redoing it needs nothing but the shard's own state.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A version of a key; concerns the shard that owns the key.
    Record(Arc<Record>),
    /// A lease exists from here on; concerns every shard.
    Grant {
        /// Its name.
        id: LeaseId,
        /// Its time to live in seconds, as granted.
        ttl_s: i64,
    },
    /// A lease is gone from here on; concerns every shard. Its keys' tombstones stand before it.
    Revoke {
        /// Its name.
        id: LeaseId,
    },
    /// History before this revision may be forgotten; concerns every shard.
    Compact {
        /// The oldest revision that stays readable.
        at: Revision,
    },
    /// An alarm goes on or off; concerns every shard.
    Alarm {
        /// The member in alarm.
        member: u64,
        /// Which alarm.
        kind: AlarmKind,
        /// Raised, or cleared.
        raised: bool,
    },
}

impl Effect {
    /// The log form and its CRC-32C. A record's was made when the record was.
    #[must_use]
    pub fn log(&self) -> (Bytes, u32) {
        let mut out = BytesMut::with_capacity(32);
        match self {
            Effect::Record(record) => return (record.log().clone(), record.crc()),
            Effect::Grant { id, ttl_s } => {
                out.put_u8(KIND_GRANT);
                out.put_i64_le(id.0);
                out.put_i64_le(*ttl_s);
            }
            Effect::Revoke { id } => {
                out.put_u8(KIND_REVOKE);
                out.put_i64_le(id.0);
            }
            Effect::Compact { at } => {
                out.put_u8(KIND_COMPACT);
                out.put_i64_le(at.0);
            }
            Effect::Alarm { member, kind, raised } => {
                out.put_u8(KIND_ALARM);
                out.put_u64_le(*member);
                out.put_u8(kind.tag());
                out.put_u8(u8::from(*raised));
            }
        }
        let crc = crc32c::crc32c(&out);
        (out.freeze(), crc)
    }

    /// Bytes of the log form.
    #[must_use]
    pub fn log_len(&self) -> usize {
        match self {
            Effect::Record(record) => record.log().len(),
            Effect::Grant { .. } => 17,
            Effect::Revoke { .. } | Effect::Compact { .. } => 9,
            Effect::Alarm { .. } => 11,
        }
    }

    /// Reads the log form back.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are no effect of this format.
    pub fn decode(log: Bytes) -> Result<Effect, Malformed> {
        if Record::is_record(&log) {
            return Ok(Effect::Record(Arc::new(Record::decode(log)?)));
        }
        let mut rest = &log[..];
        let kind = rest.try_get_u8().map_err(|_| Malformed("an empty effect"))?;
        let effect = match (kind, rest.len()) {
            (KIND_GRANT, 16) => {
                Effect::Grant { id: LeaseId(rest.get_i64_le()), ttl_s: rest.get_i64_le() }
            }
            (KIND_REVOKE, 8) => Effect::Revoke { id: LeaseId(rest.get_i64_le()) },
            (KIND_COMPACT, 8) => Effect::Compact { at: Revision(rest.get_i64_le()) },
            (KIND_ALARM, 10) => {
                let member = rest.get_u64_le();
                let kind = AlarmKind::of_tag(rest.get_u8());
                let kind = kind.ok_or(Malformed("an alarm of unknown kind"))?;
                Effect::Alarm { member, kind, raised: rest.get_u8() != 0 }
            }
            _ => return Err(Malformed("an effect of unknown kind or length")),
        };
        Ok(effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Sub;

    #[test]
    fn every_effect_reads_back_and_states_its_length() {
        let effects = [
            Effect::Record(Arc::new(Record::tombstone(b"k", Revision(3), Sub(0)))),
            Effect::Grant { id: LeaseId(-7), ttl_s: 60 },
            Effect::Revoke { id: LeaseId(9) },
            Effect::Compact { at: Revision(44) },
            Effect::Alarm { member: 5, kind: AlarmKind::NoSpace, raised: true },
            Effect::Alarm { member: 5, kind: AlarmKind::Corrupt, raised: false },
        ];
        for effect in effects {
            let (log, crc) = effect.log();
            assert_eq!(log.len(), effect.log_len());
            assert_eq!(crc, crc32c::crc32c(&log));
            let back = Effect::decode(log.clone()).expect("own encoding");
            assert_eq!(format!("{back:?}"), format!("{effect:?}"));
            assert!(Effect::decode(log.slice(..log.len() - 1)).is_err());
        }
        assert!(Effect::decode(Bytes::new()).is_err());
        assert!(Effect::decode(Bytes::from_static(&[99, 0, 0])).is_err());
    }
}
