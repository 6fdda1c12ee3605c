//! What a member starts from: its page files' superblocks and the log behind them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::effect::{AlarmKind, Effect};
use crate::base::record::Malformed;
use crate::base::{LeaseId, RaftIndex, ShardId};
use crate::orderer::RecoveredEntry;
use crate::shard::disk::{DiskFault, NO_START, REMEDY};
use crate::shard::pages::{
    self, Codec, Extent, FileId, HEAD_BYTES, Identity, PageMedium, PageRef, Pages, Place, Refusal,
    Roots, SUPERBLOCK_UNITS, Superblock,
};
use crate::shard::store::meta::{self, Entry};
use crate::shard::tree::{self, Kind, Reader, Root, Stop};
use crate::shard::wal::{self, Corrupt, Known, Layout, Medium, Recovered};

/// Whose files they have to be.
#[derive(Clone, Copy, Debug)]
pub struct Whose {
    /// The data directory's id.
    pub data_dir: u128,
    /// The cluster.
    pub cluster: u64,
    /// The member.
    pub member: u64,
    /// Shards of the member.
    pub shards: u16,
    /// Seed of the hash that places keys on shards.
    pub hash_seed: u64,
    /// Whether the log was ever written to: an empty one is then a loss, not a beginning.
    pub is_used: bool,
}

/// What a shard starts from.
#[derive(Clone, Debug)]
pub struct ShardStart {
    /// Its newest checkpoint.
    pub superblock: Superblock,
    /// Bytes of its page file.
    pub file_bytes: u64,
    /// Leases and alarms as of the first shard's checkpoint.
    pub meta: Arc<[Entry]>,
    /// The last entry that these cover.
    pub meta_index: RaftIndex,
}

/// The last entries that a shard's state covers when a life begins.
#[derive(Clone, Copy, Debug)]
pub struct Covered {
    /// Its own checkpoint's.
    pub own: RaftIndex,
    /// The first shard's, in which the member's own matters stand.
    pub meta: RaftIndex,
}

impl Covered {
    /// Whether an effect of this entry was applied in an earlier life.
    #[must_use]
    pub fn has(self, index: RaftIndex, effect: &Effect) -> bool {
        let known_to = match effect {
            Effect::Record(_) | Effect::Compact { .. } => self.own,
            Effect::Grant { .. } | Effect::Revoke { .. } | Effect::Alarm { .. } => self.meta,
        };
        index <= known_to
    }
}

impl ShardStart {
    /// What it holds of the log.
    #[must_use]
    pub fn covered(&self) -> Covered {
        Covered { own: self.superblock.state.applied.index, meta: self.meta_index }
    }

    /// Leases that exist.
    pub fn leases(&self) -> impl Iterator<Item = LeaseId> {
        self.meta.iter().filter_map(|entry| match entry {
            Entry::Lease { id, .. } => Some(*id),
            Entry::Alarm { .. } => None,
        })
    }

    /// Alarms in force.
    pub fn alarms(&self) -> impl Iterator<Item = (u64, AlarmKind)> {
        self.meta.iter().filter_map(|entry| match entry {
            Entry::Alarm { member, kind } => Some((*member, *kind)),
            Entry::Lease { .. } => None,
        })
    }
}

/// What a member starts from.
#[derive(Debug)]
pub struct Boot {
    /// What recovery found of the log.
    pub recovered: Recovered,
    /// Its entries behind the oldest checkpoint of any shard.
    pub entries: Vec<RecoveredEntry>,
    /// How the log is laid out from now on.
    pub layout: Layout,
    /// The shards, by number.
    pub starts: Vec<ShardStart>,
}

/// Why a member must not start from what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The log is not what this member left.
    Log(Corrupt),
    /// A page file has no superblock to start from.
    Pages(Refusal),
    /// A page file cannot be read.
    Unreadable {
        /// The file.
        file: FileId,
        /// Why.
        cause: DiskFault,
    },
    /// A page that the start needs is damaged.
    Damaged {
        /// The file.
        file: FileId,
        /// What is wrong with it.
        what: String,
    },
    /// The log ends before a checkpoint does.
    Short {
        /// The checkpoint's file.
        file: FileId,
        /// What it covers.
        applied: RaftIndex,
        /// Where the log ends.
        last: RaftIndex,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Log(corrupt) => corrupt.fmt(f),
            Refused::Pages(refusal) => refusal.fmt(f),
            Refused::Unreadable { file, cause } => {
                write!(f, "{file} cannot be read: {cause}; see to the disk; {NO_START}; {REMEDY}")
            }
            Refused::Damaged { file, what } => {
                write!(f, "{file} is damaged: {what}; see to the disk; {NO_START}; {REMEDY}")
            }
            Refused::Short { file, applied, last } => write!(
                f,
                "the log ends at entry {last}, though {file} holds the store as of entry \
                 {applied}; put the log's files back if they were moved; else {NO_START}; {REMEDY}"
            ),
        }
    }
}

impl std::error::Error for Refused {}

impl Boot {
    /// Reads the superblocks, what the first shard keeps for the member, and the log.
    ///
    /// # Errors
    /// [`Refused`]: the member must not start.
    pub fn recover(
        log: &dyn Medium,
        files: &dyn PageMedium,
        whose: &Whose,
        layout: Layout,
    ) -> Result<Boot, Refused> {
        let starts = (0..whose.shards).map(|shard| start_of(files, whose, ShardId(shard)));
        let mut starts: Vec<ShardStart> = starts.collect::<Result<_, _>>()?;
        let first = starts.first().expect("a member has a shard").superblock;
        let meta: Arc<[Entry]> = read_meta(files, &first)?.into();
        for start in &mut starts {
            start.meta = Arc::clone(&meta);
            start.meta_index = first.state.applied.index;
        }
        let points = starts.iter().map(|start| start.superblock.state.applied);
        let base = points.min_by_key(|point| point.index).expect("a member has a shard");
        let known = Known { data_dir: whose.data_dir, base, is_used: whose.is_used };
        let recovered = wal::recover(log, &known).map_err(Refused::Log)?;
        let last = recovered.last().index;
        for (shard, start) in starts.iter().enumerate() {
            let applied = start.superblock.state.applied.index;
            if applied > last {
                let shard = u16::try_from(shard).expect("shards are few");
                return Err(Refused::Short { file: FileId(ShardId(shard)), applied, last });
            }
        }
        let mut entries = Vec::new();
        for entry in recovered.entries(log) {
            let wal::Entry { index, term, chunks } = entry.map_err(Refused::Log)?;
            let chunks = chunks.into_iter().map(|(bytes, _)| bytes).collect();
            entries.push(RecoveredEntry { index, term, chunks });
        }
        Ok(Boot { recovered, entries, layout, starts })
    }

    /// The oldest checkpoint of any shard: the log is applied from there on.
    #[must_use]
    pub fn oldest(&self) -> &Superblock {
        let all = self.starts.iter().map(|start| &start.superblock);
        let oldest = all.min_by_key(|superblock| superblock.state.applied.index);
        oldest.expect("a member has a shard")
    }

    /// Leases and their TTLs in seconds.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, i64)> {
        self.starts[0].meta.iter().filter_map(|entry| match entry {
            Entry::Lease { id, ttl_s } => Some((*id, *ttl_s)),
            Entry::Alarm { .. } => None,
        })
    }
}

fn start_of(files: &dyn PageMedium, whose: &Whose, shard: ShardId) -> Result<ShardStart, Refused> {
    let file = FileId(shard);
    let unreadable = |cause| Refused::Unreadable { file, cause };
    let file_bytes = files.settle(file).map_err(unreadable)?;
    let front = Extent { unit: 0, units: SUPERBLOCK_UNITS };
    let mut head = files.read(file, front).map_err(unreadable)?;
    head.truncate(HEAD_BYTES);
    let Whose { data_dir, cluster, member, shards, hash_seed, .. } = *whose;
    let identity = Identity { data_dir, cluster, member, shard, shards, hash_seed };
    let opened = pages::open(&head, file_bytes, &identity).map_err(Refused::Pages)?;
    check_roots(file, &opened.superblock)?;
    let (meta, meta_index) = (Arc::default(), RaftIndex(0));
    Ok(ShardStart { superblock: opened.superblock, file_bytes, meta, meta_index })
}

/// Whether all roots are such.
fn check_roots(file: FileId, superblock: &Superblock) -> Result<(), Refused> {
    let Roots { current, undo, leased, meta } = superblock.state.roots;
    for root in [current, undo, leased, meta].iter().flatten() {
        let damaged = |what: Malformed| Refused::Damaged { file, what: what.0.to_owned() };
        Root::from_stored(root).map_err(damaged)?;
    }
    Ok(())
}

/// Pages that are read when they are asked for.
struct ReadPages<'a> {
    files: &'a dyn PageMedium,
    file: FileId,
    codec: RefCell<Codec>,
    read: RefCell<BTreeMap<PageRef, Bytes>>,
    refused: RefCell<Option<Refused>>,
}

impl ReadPages<'_> {
    fn load(&self, at: PageRef) -> Result<Bytes, Refused> {
        let file = self.file;
        let stored = self.files.read(file, at.extent());
        let stored = stored.map_err(|cause| Refused::Unreadable { file, cause })?;
        let damaged = |what: String| Refused::Damaged { file, what };
        let page = self.codec.borrow_mut().open(at, &stored);
        let page = page.map_err(|damage| damaged(damage.to_string()))?;
        Ok(page)
    }
}

impl Pages for ReadPages<'_> {
    fn page(&self, at: PageRef) -> Option<Bytes> {
        if let Some(page) = self.read.borrow().get(&at) {
            return Some(page.clone());
        }
        match self.load(at) {
            Ok(page) => {
                self.read.borrow_mut().insert(at, page.clone());
                Some(page)
            }
            Err(refused) => {
                self.refused.borrow_mut().get_or_insert(refused);
                None
            }
        }
    }

    fn holds(&self, at: PageRef) -> bool {
        self.read.borrow().contains_key(&at)
    }
}

/// What the first shard keeps for the member: few pages, read before anything runs.
fn read_meta(files: &dyn PageMedium, superblock: &Superblock) -> Result<Vec<Entry>, Refused> {
    let file = FileId(superblock.identity.shard);
    let Some(stored) = superblock.state.roots.meta else { return Ok(Vec::new()) };
    let damaged = |what: &str| Refused::Damaged { file, what: what.to_owned() };
    let root = Root::from_stored(&stored).map_err(|what| damaged(what.0))?;
    let place = Place { data_dir: superblock.identity.data_dir, shard: superblock.identity.shard };
    let pages = ReadPages {
        files,
        file,
        codec: RefCell::new(Codec::new(place, tree::FORM)),
        read: RefCell::default(),
        refused: RefCell::default(),
    };
    let mut entries = Vec::new();
    let mut wrong = None;
    let walked = Reader::new(Kind::Meta, Some(root), &pages).walk(
        &crate::base::range::KeyRange::all(),
        None,
        &mut |entry| {
            match meta::decode(entry.key(), entry.value()) {
                Ok(entry) => entries.push(entry),
                Err(what) => wrong = Some(what.0),
            }
            std::ops::ControlFlow::Continue(())
        },
    );
    match (walked, wrong) {
        (Ok(_), None) => Ok(entries),
        (Ok(_), Some(what)) => Err(damaged(what)),
        (Err(Stop::Damaged(what)), _) => Err(damaged(&what.to_string())),
        (Err(Stop::Wanted(_)), _) => {
            Err(pages.refused.into_inner().expect("a page is missing for a reason"))
        }
    }
}
