//! Values of `current` and `undo`: a key's newest version, and what undoes each change of it.
//!
//! ```text
//! current   log form of the newest version; behind it, if more than its creation is known, its
//!           chain: byte steps, plus 128 if a place follows: varint newest revision less that of
//!           the place, varint sub of the place
//! undo      turn u8, form u8, flag u8, zero u8, key_len u32, key, and by form:
//!   none    nothing
//!   whole   if flagged a place: revision i64, sub u32; log form of the version replaced
//!   delta   revision i64, sub u32, kv_len u32, CRC-32C of kv u32 of the version replaced; its
//!           lease i64 if flagged; zstd frame of its value, with the value that replaced it as the
//!           dictionary
//! ```
//!
//! Turn: 1 created, 2 updated, 3 deleted. Form: 0 none, 1 whole, 2 delta. All numbers are
//! little-endian.
//!
//! A read of an old version goes from `current` back, change by change. So that it is not long, at
//! least every [`CHAIN_STEPS_MAX`]th entry of a key is whole and names the one before it of that
//! kind, and `current` names the last: a read hops from one to the next and goes back by steps only
//! from the last one that it needs.

use bytes::{Buf, Bytes, BytesMut};

use crate::base::limits::CHAIN_STEPS_MAX;
use crate::base::record::{Malformed, Record, Turn, put_varint};
use crate::base::{LeaseId, Revision, Sub};

const UNDO_HEADER_BYTES: usize = 8;
const PLACE_BYTES: usize = 12;
const FORM_NONE: u8 = 0;
const FORM_WHOLE: u8 = 1;
const FORM_DELTA: u8 = 2;
const CHAIN_HAS_PLACE: u8 = 128;

/// A change's place in history.
type Place = (Revision, Sub);

/// How far back a key's entries lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Entries behind the last one that is named, or behind the first one.
    pub steps: u8,
    /// The last entry that is named. It is whole.
    pub whole: Option<Place>,
}

impl Chain {
    /// Another change of the key, at `place`, that replaced a version. True if its entry is to be
    /// whole, and then it is the one that is named from now on.
    pub fn push(&mut self, place: Place) -> bool {
        let is_named = self.steps >= CHAIN_STEPS_MAX;
        match is_named {
            true => *self = Chain { steps: 0, whole: Some(place) },
            false => self.steps += 1,
        }
        is_named
    }

    /// The value of `current`: a version, and the chain behind it.
    #[must_use]
    pub fn behind(self, newest: &Record) -> Bytes {
        if self == Chain::default() {
            return newest.log().clone();
        }
        let mut out = BytesMut::with_capacity(newest.log().len() + 1 + 2 * 10);
        out.extend_from_slice(newest.log());
        match self.whole {
            None => out.extend_from_slice(&[self.steps]),
            Some((revision, sub)) => {
                out.extend_from_slice(&[self.steps | CHAIN_HAS_PLACE]);
                put_varint(&mut out, newest.revision.0.abs_diff(revision.0));
                put_varint(&mut out, sub.0.into());
            }
        }
        out.freeze()
    }

    /// Takes a value of `current` apart: the log form of the version, and its chain.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong with it.
    pub fn split(value: &Bytes) -> Result<(Bytes, Chain), Malformed> {
        let head = Record::head(value)?;
        let mut rest = &value[head.log_len..];
        let log = value.slice(..head.log_len);
        if rest.is_empty() {
            return Ok((log, Chain::default()));
        }
        let flags = rest.get_u8();
        let steps = flags & !CHAIN_HAS_PLACE;
        if steps > CHAIN_STEPS_MAX {
            return Err(Malformed("a chain of too many steps"));
        }
        let mut whole = None;
        if flags & CHAIN_HAS_PLACE != 0 {
            let mut number = || {
                let number = prost::encoding::decode_varint(&mut rest);
                number.map_err(|_| Malformed("a chain that leads nowhere"))
            };
            let (back, sub) = (number()?, number()?);
            let revision =
                i64::try_from(back).ok().and_then(|back| head.revision.0.checked_sub(back));
            let revision = revision.filter(|revision| *revision >= 0);
            let (Some(revision), Ok(sub)) = (revision, u32::try_from(sub)) else {
                return Err(Malformed("a chain that leads nowhere"));
            };
            whole = Some((Revision(revision), Sub(sub)));
        }
        if !rest.is_empty() {
            return Err(Malformed("a version with more behind it than a chain"));
        }
        Ok((log, Chain { steps, whole }))
    }
}

/// What undoes a change.
#[derive(Clone, Debug)]
pub struct Undone {
    /// What the change did.
    pub turn: Turn,
    /// The key that changed.
    pub key: Bytes,
    /// The change of the key before this one, a tombstone included. Its own place says where the
    /// one before that is.
    pub replaced: Replaced,
}

/// What a change replaced.
#[derive(Clone, Debug)]
pub enum Replaced {
    /// Nothing that is known.
    Nothing,
    /// This.
    Whole {
        /// The version, or tombstone.
        record: Record,
        /// The entry before this one that is named.
        before: Option<Place>,
    },
    /// What the change made leads to it.
    Delta(Delta),
}

/// A live version as it differs from the live one that replaced it: of the same creation, with the
/// next higher version number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Revision that made the version.
    pub revision: Revision,
    /// Order within that revision.
    pub sub: Sub,
    /// Its lease.
    pub lease: LeaseId,
    /// Whether that is another one than that of the version that replaced it.
    pub is_lease_other: bool,
    /// Bytes of its encoded `KeyValue`.
    pub kv_len: u32,
    /// CRC-32C of these bytes.
    pub kv_crc: u32,
    /// The zstd frame of its value.
    pub frame: Bytes,
}

/// The parts of an entry's form.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// Nothing was replaced.
    Nothing,
    /// A version in its log form.
    Whole {
        /// The log form.
        log: &'a [u8],
        /// The entry before this one that is named, if this one is.
        before: Option<Place>,
    },
    /// A delta.
    Delta(&'a Delta),
}

impl Form<'_> {
    /// The value that `undo` holds.
    #[must_use]
    pub fn encode(&self, turn: Turn, key: &[u8]) -> Bytes {
        let turn = match turn {
            Turn::Created => 1,
            Turn::Updated => 2,
            Turn::Deleted => 3,
        };
        let (form, flag, bytes) = match self {
            Form::Nothing => (FORM_NONE, false, 0),
            Form::Whole { log, before } => (FORM_WHOLE, before.is_some(), log.len()),
            Form::Delta(delta) => (FORM_DELTA, delta.is_lease_other, 20 + delta.frame.len()),
        };
        let key_len = u32::try_from(key.len()).expect("a key is far below 4 GiB");
        let mut out = BytesMut::with_capacity(UNDO_HEADER_BYTES + key.len() + PLACE_BYTES + bytes);
        out.extend_from_slice(&[turn, form, u8::from(flag), 0]);
        out.extend_from_slice(&key_len.to_le_bytes());
        out.extend_from_slice(key);
        match self {
            Form::Nothing => {}
            Form::Whole { log, before } => {
                if let Some((revision, sub)) = before {
                    out.extend_from_slice(&revision.0.to_le_bytes());
                    out.extend_from_slice(&sub.0.to_le_bytes());
                }
                out.extend_from_slice(log);
            }
            Form::Delta(delta) => {
                out.extend_from_slice(&delta.revision.0.to_le_bytes());
                out.extend_from_slice(&delta.sub.0.to_le_bytes());
                out.extend_from_slice(&delta.kv_len.to_le_bytes());
                out.extend_from_slice(&delta.kv_crc.to_le_bytes());
                if delta.is_lease_other {
                    out.extend_from_slice(&delta.lease.0.to_le_bytes());
                }
                out.extend_from_slice(&delta.frame);
            }
        }
        out.freeze()
    }
}

impl Undone {
    /// Bytes of the version replaced, about.
    #[must_use]
    pub fn replaced_bytes(&self) -> usize {
        match &self.replaced {
            Replaced::Nothing => 0,
            Replaced::Whole { record, .. } => record.log().len(),
            Replaced::Delta(delta) => delta.kv_len as usize,
        }
    }

    /// A copy that does not share the memory of a page.
    #[must_use]
    pub fn copied(&self) -> Undone {
        let replaced = match &self.replaced {
            Replaced::Nothing => Replaced::Nothing,
            Replaced::Whole { record, before } => {
                Replaced::Whole { record: record.copied(), before: *before }
            }
            Replaced::Delta(delta) => Replaced::Delta(Delta {
                frame: Bytes::copy_from_slice(&delta.frame),
                ..delta.clone()
            }),
        };
        Undone { turn: self.turn, key: Bytes::copy_from_slice(&self.key), replaced }
    }

    /// Reads a value of `undo` back, sharing its memory.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong with it.
    pub fn decode(value: &Bytes) -> Result<Undone, Malformed> {
        let head = value.first_chunk::<UNDO_HEADER_BYTES>();
        let &[turn, form, flag, zero, a, b, c, d] =
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
        if flag > 1 || zero != 0 {
            return Err(Malformed("an undo entry of a later format"));
        }
        let key = value.slice(UNDO_HEADER_BYTES..UNDO_HEADER_BYTES + key_len);
        let rest = value.slice(UNDO_HEADER_BYTES + key_len..);
        let replaced = match form {
            FORM_NONE if rest.is_empty() && flag == 0 => Replaced::Nothing,
            FORM_NONE => return Err(Malformed("an undo entry longer than it says")),
            FORM_WHOLE => decode_whole(rest, flag == 1)?,
            FORM_DELTA => Replaced::Delta(Delta::decode(rest, flag == 1)?),
            _ => return Err(Malformed("an undo entry of unknown form")),
        };
        let fits = match (&replaced, turn) {
            (Replaced::Nothing, turn) => turn == Turn::Created,
            (Replaced::Whole { record, .. }, turn) => {
                record.is_tombstone() == (turn == Turn::Created)
            }
            (Replaced::Delta(_), turn) => turn == Turn::Updated,
        };
        if !fits {
            return Err(Malformed("an undo entry whose change and version do not fit"));
        }
        Ok(Undone { turn, key, replaced })
    }
}

/// The key that a value of `undo` is about, in whatever form it keeps what was replaced.
///
/// # Errors
/// [`Malformed`] for a value that is too short.
pub fn undone_key(value: &[u8]) -> Result<&[u8], Malformed> {
    let head = value.split_first_chunk::<UNDO_HEADER_BYTES>();
    let (&[_, _, _, _, a, b, c, d], rest) =
        head.ok_or(Malformed("an undo entry shorter than its header"))?;
    let key_len = u32::from_le_bytes([a, b, c, d]) as usize;
    rest.get(..key_len).ok_or(Malformed("an undo entry shorter than its key"))
}

fn decode_whole(mut rest: Bytes, is_named: bool) -> Result<Replaced, Malformed> {
    let mut before = None;
    if is_named {
        if rest.len() < PLACE_BYTES {
            return Err(Malformed("an undo entry shorter than its place"));
        }
        before = Some((Revision(rest.get_i64_le()), Sub(rest.get_u32_le())));
        if before.is_some_and(|(revision, _)| revision.0 < 0) {
            return Err(Malformed("an undo entry that names none before it"));
        }
    }
    Ok(Replaced::Whole { record: Record::decode(rest)?, before })
}

impl Delta {
    /// The place of the version.
    #[must_use]
    pub fn at(&self) -> Place {
        (self.revision, self.sub)
    }

    fn decode(mut rest: Bytes, is_lease_other: bool) -> Result<Delta, Malformed> {
        let head_bytes = if is_lease_other { 28 } else { 20 };
        if rest.len() < head_bytes {
            return Err(Malformed("a delta shorter than its header"));
        }
        let (revision, sub) = (Revision(rest.get_i64_le()), Sub(rest.get_u32_le()));
        let (kv_len, kv_crc) = (rest.get_u32_le(), rest.get_u32_le());
        let lease = if is_lease_other { LeaseId(rest.get_i64_le()) } else { LeaseId::NONE };
        if revision.0 < 0 {
            return Err(Malformed("a delta to a version below every revision"));
        }
        Ok(Delta { revision, sub, lease, is_lease_other, kv_len, kv_crc, frame: rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::record::PutFields;

    fn version(revision: i64) -> Record {
        Record::put(PutFields {
            key: b"key",
            value: b"old",
            revision: Revision(revision),
            sub: Sub(3),
            create: Revision(4),
            version: 2,
            lease: LeaseId(5),
        })
    }

    #[test]
    fn what_undoes_a_change_reads_back() {
        let tombstone = Record::tombstone(b"key", Revision(8), Sub(1));
        let old = version(9);
        let delta = Delta {
            revision: Revision(9),
            sub: Sub(3),
            lease: LeaseId(-7),
            is_lease_other: true,
            kv_len: 100,
            kv_crc: 77,
            frame: Bytes::from_static(b"frame"),
        };
        let plain = Delta { lease: LeaseId::NONE, is_lease_other: false, ..delta.clone() };
        let before = Some((Revision(6), Sub(2)));
        for (turn, form) in [
            (Turn::Created, Form::Nothing),
            (Turn::Created, Form::Whole { log: tombstone.log(), before: None }),
            (Turn::Updated, Form::Whole { log: old.log(), before }),
            (Turn::Deleted, Form::Whole { log: old.log(), before: None }),
            (Turn::Updated, Form::Delta(&delta)),
            (Turn::Updated, Form::Delta(&plain)),
        ] {
            let value = form.encode(turn, b"key");
            let back = Undone::decode(&value).expect("own encoding").copied();
            assert_eq!((back.turn, &back.key[..]), (turn, &b"key"[..]));
            assert_eq!(undone_key(&value), Ok(&b"key"[..]));
            assert!(undone_key(&value[..10]).is_err() && undone_key(&value[..7]).is_err());
            match (&back.replaced, form) {
                (Replaced::Nothing, Form::Nothing) => {}
                (Replaced::Whole { record, before }, Form::Whole { log, before: put }) => {
                    assert_eq!((&record.log()[..], *before), (log, put));
                }
                (Replaced::Delta(found), Form::Delta(put)) => assert_eq!(found, put),
                other => panic!("{other:?}"),
            }
            for other in [Turn::Created, Turn::Updated, Turn::Deleted] {
                let is_whole = matches!(form, Form::Whole { .. });
                let fits = other == turn || is_whole && turn != Turn::Created;
                let fits = fits && (other == Turn::Created) == (turn == Turn::Created);
                assert_eq!(Undone::decode(&form.encode(other, b"key")).is_ok(), fits, "{form:?}");
            }
            for (at, wrong) in [(0, 0), (1, 3), (2, 2), (3, 1), (7, 1)] {
                let mut bytes = value.to_vec();
                bytes[at] = wrong;
                assert!(Undone::decode(&bytes.into()).is_err(), "byte {at}");
            }
            // A frame's length is not known before it is expanded.
            let head = value.len() - if matches!(form, Form::Delta(_)) { 5 } else { 0 };
            for len in 0..head {
                assert!(Undone::decode(&value.slice(..len)).is_err(), "{len}");
            }
        }
    }

    #[test]
    fn a_chain_is_short_and_names_whole_entries() {
        let (mut chain, mut named) = (Chain::default(), Vec::new());
        for revision in 2..1_000 {
            let place = (Revision(revision), Sub(7));
            if chain.push(place) {
                named.push(place);
            }
            assert_eq!(chain.whole, named.last().copied());
            assert!(chain.steps <= CHAIN_STEPS_MAX);
            let newest = version(revision);
            let value = chain.behind(&newest);
            assert_eq!(Chain::split(&value), Ok((newest.log().clone(), chain)));
            for len in newest.log().len() + 1..value.len() {
                assert!(Chain::split(&value.slice(..len)).is_err());
            }
            let longer = [&value[..], &[0]].concat();
            assert!(Chain::split(&longer.into()).is_err());
        }
        assert_eq!(named.len(), 998 / (usize::from(CHAIN_STEPS_MAX) + 1));
        let newest = version(9);
        assert_eq!(Chain::default().behind(&newest), newest.log());
        let far = [&newest.log()[..], &[128, 10, 0]].concat();
        assert!(Chain::split(&far.into()).is_err(), "below every revision");
        let long = [&newest.log()[..], &[CHAIN_STEPS_MAX + 1]].concat();
        assert!(Chain::split(&long.into()).is_err());
    }
}
