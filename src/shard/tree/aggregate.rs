//! What a branch says of each subtree, and a root of the whole tree.

use xxhash_rust::xxh3::xxh3_64;

use super::Kind;
use super::entries;
use crate::base::Revision;
use crate::base::limits::TREE_HEIGHT_MAX;
use crate::base::record::{Malformed, Record};
use crate::shard::pages::{self, AGGREGATE_BYTES, PageRef};

/// The sum over the entries of a subtree or of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// Live keys of `current`; entries of the other trees.
    pub live: u64,
    /// Encoded `KeyValue` bytes of the live keys; bytes of values of the other trees.
    pub bytes: u64,
    /// Highest revision, tombstones included; 0 where there is none.
    pub newest: Revision,
    /// Lowest revision of what a compaction above it drops: tombstones of `current`, entries of
    /// `undo`. `NEVER` where there is none.
    pub oldest: Revision,
    /// Wrapping sum of the entries' hashes. Tombstones add nothing, since members drop them at
    /// times of their own.
    pub hash: u64,
}

/// No compaction comes to this.
const NEVER: Revision = Revision(i64::MAX);

impl Aggregate {
    /// Bytes of the encoded form.
    pub const ENCODED_BYTES: usize = 40;

    /// That of no entries.
    pub const EMPTY: Aggregate =
        Aggregate { live: 0, bytes: 0, newest: Revision(0), oldest: NEVER, hash: 0 };

    /// Takes in what stands beside it. Sums saturate: a page may say what it likes.
    pub fn add(&mut self, other: &Aggregate) {
        self.live = self.live.saturating_add(other.live);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.newest = self.newest.max(other.newest);
        self.oldest = self.oldest.min(other.oldest);
        self.hash = self.hash.wrapping_add(other.hash);
    }

    fn encode(&self) -> [u8; Self::ENCODED_BYTES] {
        let revisions = [self.newest, self.oldest].map(|revision| revision.0.cast_unsigned());
        let words = [self.live, self.bytes, revisions[0], revisions[1], self.hash];
        let mut out = [0; Self::ENCODED_BYTES];
        for (place, word) in out.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    fn decode(bytes: &[u8; Self::ENCODED_BYTES]) -> Aggregate {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[8 * at..8 * at + 8]);
            u64::from_le_bytes(word)
        };
        Aggregate {
            live: word(0),
            bytes: word(1),
            newest: Revision(word(2).cast_signed()),
            oldest: Revision(word(3).cast_signed()),
            hash: word(4),
        }
    }
}

/// A child as its branch holds it: the value beside the separator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) at: PageRef,
    pub(super) total: Aggregate,
}

impl Child {
    pub(super) const ENCODED_BYTES: usize = PageRef::ENCODED_BYTES + Aggregate::ENCODED_BYTES;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::ENCODED_BYTES);
        out.extend_from_slice(&self.at.encode());
        out.extend_from_slice(&self.total.encode());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Child, Malformed> {
        let parts = bytes.split_first_chunk::<{ PageRef::ENCODED_BYTES }>();
        let parts = parts.and_then(|(at, total)| Some((at, total.try_into().ok()?)));
        let (at, total) = parts.ok_or(Malformed("a child of another length"))?;
        let at = PageRef::decode(at).map_err(|bad| Malformed(bad.why))?;
        Ok(Child { at, total: Aggregate::decode(total) })
    }
}

/// A tree: its topmost page and what is in it. An empty tree has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The topmost page.
    pub page: PageRef,
    /// Its level: 0 if it is a leaf.
    pub height: u8,
    /// What the tree holds.
    pub total: Aggregate,
}

impl Root {
    /// The form in which a superblock holds it: behind the sums, zeros.
    #[must_use]
    pub fn stored(&self) -> pages::Root {
        let mut aggregate = self.total.encode().to_vec();
        aggregate.resize(AGGREGATE_BYTES, 0);
        let aggregate = aggregate.try_into().expect("just so long");
        pages::Root { page: self.page, height: self.height, aggregate }
    }

    /// Reads that form back.
    ///
    /// # Errors
    /// [`Malformed`] for a tree that is higher than any, or sums of a later format.
    pub fn from_stored(stored: &pages::Root) -> Result<Root, Malformed> {
        let pages::Root { page, height, aggregate } = *stored;
        if height > TREE_HEIGHT_MAX {
            return Err(Malformed("a root above the height of any tree"));
        }
        let (total, rest) = aggregate.split_first_chunk().expect("sums are shorter than that");
        if rest.iter().any(|byte| *byte != 0) {
            return Err(Malformed("a root with sums of a later format"));
        }
        Ok(Root { page, height, total: Aggregate::decode(total) })
    }
}

const _: () = assert!(Aggregate::ENCODED_BYTES <= AGGREGATE_BYTES);

/// What an entry counts as, but for its hash. `entry` is the key, `key_len` long, and the value.
pub(super) fn measure(
    kind: Kind,
    level: u8,
    entry: &[u8],
    key_len: usize,
) -> Result<Aggregate, Malformed> {
    let (key, value) = entry.split_at(key_len);
    if level > 0 {
        return Ok(Child::decode(value)?.total);
    }
    let one = Aggregate { live: 1, bytes: value.len() as u64, ..Aggregate::EMPTY };
    match kind {
        Kind::Current => {
            let head = Record::head(value)?;
            let newest = Aggregate { newest: head.revision, ..Aggregate::EMPTY };
            Ok(match head.is_tombstone {
                true => Aggregate { oldest: head.revision, ..newest },
                false => Aggregate { live: 1, bytes: head.kv_len as u64, ..newest },
            })
        }
        Kind::Undo => {
            let (revision, _) = entries::undo_place(key)?;
            Ok(Aggregate { newest: revision, oldest: revision, ..one })
        }
        Kind::Leased | Kind::Meta => Ok(one),
    }
}

/// What an entry counts as, its hash included: of key and value as they stand in the leaf, but for
/// what stands behind a version.
pub(super) fn measure_and_hash(
    kind: Kind,
    level: u8,
    entry: &[u8],
    key_len: usize,
) -> Result<Aggregate, Malformed> {
    let mut found = measure(kind, level, entry, key_len)?;
    if level == 0 && found.live > 0 {
        // The chain behind a version is how this member found it, not what it is.
        let hashed = match kind {
            Kind::Current => key_len + Record::head(&entry[key_len..])?.log_len,
            _ => entry.len(),
        };
        found.hash = xxh3_64(&entry[..hashed]);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_reads_back() {
        let page = PageRef { unit: 9, units: 1, stored: 100, logical: 300, checksum: 7 };
        let total = Aggregate {
            live: 3,
            bytes: 200,
            newest: Revision(17),
            oldest: Revision(5),
            hash: u64::MAX,
        };
        let root = Root { page, height: 2, total };
        let stored = root.stored();
        assert_eq!(Root::from_stored(&stored), Ok(root));
        assert_eq!((stored.page, stored.height), (page, 2));
        let high = pages::Root { height: TREE_HEIGHT_MAX + 1, ..stored };
        assert!(Root::from_stored(&high).is_err());
        let mut later = stored;
        later.aggregate[Aggregate::ENCODED_BYTES] = 1;
        assert!(Root::from_stored(&later).is_err());
    }

    #[test]
    fn a_child_that_lies_nowhere_is_refused() {
        let page = PageRef { unit: 3, units: 1, stored: 100, logical: 300, checksum: 7 };
        let child = Child { at: page, total: Aggregate::EMPTY };
        assert!(Child::decode(&child.encode()).is_err(), "unit 3 is a superblock's");
        let child = Child { at: PageRef { unit: 4, ..page }, ..child };
        assert_eq!(Child::decode(&child.encode()), Ok(child));
        assert!(Child::decode(&child.encode()[1..]).is_err());
    }
}
