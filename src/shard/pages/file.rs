//! The page file of a shard: reads, checkpoints, and the space between them.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::base::limits::{PAGE_CLEAR_SLICE, PAGE_PUNCH_UNITS_MIN, PAGES_AHEAD};
use crate::shard::disk::{DiskFault, Token, Tokens};

use super::allocator::Allocator;
use super::cache::Cache;
use super::checkpoint::{Checkpoint, Ended, Failed, Stage};
use super::disk::{Action, DiskOp, Fault, FileId};
use super::extent::{Extent, PageRef, UNIT_BYTES};
use super::holes::Holes;
use super::image::{Codec, Place};
use super::reader::{Purpose, Reader};
use super::superblock::{State, Superblock};
use super::{PageForm, PageSink, Pages};

/// What became of an operation that is no read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A step was made.
    Worked,
    /// The checkpoint is durable: its roots are the newest. The log may be released up to it,
    /// and who waits for a page looks for it again from the newest root.
    Durable,
    /// There was no space for a page. The checkpoint was given up: its references are void, the
    /// roots before it stand. Another one may begin when the file is idle.
    NoSpace,
}

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// The page is in the cache.
    Page(PageRef),
    /// The page that was to be checked is intact.
    Checked(PageRef),
    /// The page's place was freed meanwhile: nobody may wait for it any more.
    Void(PageRef),
}

/// One page file. After any call `tend` starts what can be started.
#[derive(Debug)]
pub struct PageFile {
    file: FileId,
    codec: Codec,
    tokens: Tokens,
    /// `None`: the references were not walked yet. Reads need none.
    allocator: Option<Allocator>,
    /// What was given back of what is free, in this life.
    holes: Holes,
    cache: Cache,
    reader: Reader,
    checkpoint: Checkpoint,
    newest: Superblock,
    /// Units of the file on disk, at least.
    disk_units: u32,
    fault: Option<Fault>,
}

impl Pages for PageFile {
    fn page(&self, at: PageRef) -> Option<Bytes> {
        self.checkpoint.unwritten(at).or_else(|| self.cache.get(at))
    }

    fn holds(&self, at: PageRef) -> bool {
        self.cache.holds(at) || self.checkpoint.unwritten(at).is_some()
    }
}

impl PageSink for PageFile {
    fn write(&mut self, logical: Bytes) -> PageRef {
        let packed = self.codec.pack(&logical);
        let allocator = self.allocator.as_mut().expect("a checkpoint has its allocator");
        let extent = allocator.take(packed.units()).expect("a page file stays below 16 TiB");
        self.holes.fill(extent);
        let (at, blocks) = packed.seal(extent, self.newest.sequence + 1);
        self.checkpoint.put(at, logical, blocks);
        self.disk_units = self.disk_units.max(extent.end());
        at
    }

    fn free(&mut self, at: PageRef) {
        let allocator = self.allocator.as_mut().expect("a checkpoint has its allocator");
        allocator.give_up(at.extent());
    }
}

impl PageFile {
    /// The file whose newest superblock was found, and its length. One without a checkpoint can
    /// be written at once; any other when `adopt` was called. Every page that is read passes
    /// the check of `form` before it is served.
    #[must_use]
    pub fn open(
        newest: Superblock,
        file_bytes: u64,
        cache_bytes_max: usize,
        form: PageForm,
    ) -> PageFile {
        let identity = newest.identity;
        let place = Place { data_dir: identity.data_dir, shard: identity.shard };
        let disk_units = u32::try_from(file_bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        PageFile {
            file: FileId(identity.shard),
            codec: Codec::new(place, form),
            tokens: Tokens::default(),
            allocator: (newest.sequence == 0).then(Allocator::new),
            holes: Holes::default(),
            cache: Cache::new(cache_bytes_max),
            reader: Reader::default(),
            checkpoint: Checkpoint::new(),
            newest,
            disk_units,
            fault: None,
        }
    }

    /// Takes the extents of all pages that the newest roots reach.
    ///
    /// # Errors
    /// They overlap: the file cannot be written without destroying a page.
    pub fn adopt(&mut self, extents: impl IntoIterator<Item = Extent>) -> Result<(), Fault> {
        assert_eq!(self.checkpoint.stage(), Stage::Idle, "extents came within a checkpoint");
        let file = self.file;
        let rebuilt = Allocator::rebuild(extents, self.newest.file_units);
        let rebuilt = rebuilt.map_err(|overlap| Fault::Overlap { file, overlap });
        self.allocator = Some(rebuilt.map_err(|fault| self.fail(fault))?);
        Ok(())
    }

    // --- reading ----------------------------------------------------------------------------

    /// Asks for a page that the newest roots reach, or one of the checkpoint under way. False:
    /// too many are asked for; again when a read has ended.
    pub fn wish(&mut self, at: PageRef) -> bool {
        self.holds(at) || self.reader.wish(at)
    }

    /// Asks for pages, the first of them above all, and says whether that was taken on: else it is
    /// to be asked for again when any read has ended.
    pub fn wish_ahead(&mut self, wanted: &[PageRef]) -> bool {
        // What is read ahead must not drive out what comes before it: new pages have a tenth of the
        // cache until they are asked for twice.
        let mut left = self.cache.bytes_max() / 10;
        let mut is_taken = false;
        for (place, at) in wanted.iter().take(PAGES_AHEAD).enumerate() {
            let bytes = at.logical as usize;
            if place > 0 && bytes > left {
                break;
            }
            left = left.saturating_sub(bytes);
            is_taken |= self.wish(*at) && place == 0;
        }
        is_taken
    }

    /// Reads a page of the newest roots past the cache, to see whether it is intact.
    pub fn check(&mut self, at: PageRef) {
        self.reader.check(at);
    }

    /// Whether a page is being checked.
    #[must_use]
    pub fn is_checking(&self) -> bool {
        self.reader.is_checking()
    }

    /// Takes what a read brought.
    ///
    /// # Errors
    /// The read failed or the page is damaged, now or before: the member has to stop.
    pub fn on_read(
        &mut self,
        token: Token,
        result: Result<&[u8], DiskFault>,
    ) -> Result<Read, Fault> {
        self.check_fault()?;
        let Some(reading) = self.reader.take(token) else {
            panic!("a read was answered with {token:?}, which is not under way");
        };
        let (file, at) = (self.file, reading.at);
        if reading.is_void {
            return Ok(Read::Void(at));
        }
        let bytes = result.map_err(|cause| {
            let fault =
                Fault::Failed { file, what: "read of a page", at: Some(at.extent()), cause };
            self.fail(fault)
        })?;
        let page = self.codec.open(at, bytes);
        let page = page.map_err(|damage| self.fail(Fault::Damaged { file, at, damage }))?;
        Ok(match reading.purpose {
            Purpose::Check => Read::Checked(at),
            Purpose::Wish => {
                self.cache.put(at, page);
                Read::Page(at)
            }
        })
    }

    // --- writing ----------------------------------------------------------------------------

    /// Whether a checkpoint may begin.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.checkpoint.stage() == Stage::Idle && self.allocator.is_some() && self.fault.is_none()
    }

    /// Begins a checkpoint: pages may be written and freed from now on.
    pub fn begin(&mut self) {
        assert!(self.is_idle(), "a checkpoint began on a file that is not idle");
        self.checkpoint.begin();
    }

    /// Whether the checkpoint may write more pages now. Asked before every slice of its work;
    /// a slice may write some pages beyond.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.checkpoint.has_room()
    }

    /// Ends the writing of pages. When all are durable the superblock with this state follows.
    pub fn seal(&mut self, state: State) {
        let allocator = self.allocator.as_ref().expect("a checkpoint has its allocator");
        self.checkpoint.seal(Superblock {
            identity: self.newest.identity,
            sequence: self.newest.sequence + 1,
            file_units: allocator.file_units_committed(),
            state,
        });
    }

    /// Gives the space of long free runs back to the filesystem, unless it was. Between checkpoints
    /// only: space that the next one takes has to be found anew.
    pub fn punch(&mut self) {
        assert!(self.is_idle(), "free runs were punched in a file that is not idle");
        let allocator = self.allocator.as_ref().expect("an idle file has its allocator");
        let runs = allocator.free_runs(PAGE_PUNCH_UNITS_MIN);
        let pieces = runs.flat_map(|run| self.holes.missing_from(run));
        let pieces: Vec<Extent> =
            pieces.filter(|piece| piece.units >= PAGE_PUNCH_UNITS_MIN).collect();
        pieces.iter().for_each(|piece| self.holes.dig(*piece));
        self.checkpoint.trim(pieces.into_iter().map(|extent| Action::Punch { extent }));
    }

    /// Starts what can be started, and clears one slice of what was freed. Called after every
    /// other call, and again while `is_clearing`.
    pub fn tend(&mut self, out: &mut Vec<DiskOp>) {
        if self.fault.is_some() {
            return;
        }
        if self.is_clearing() {
            self.clear();
        }
        self.reader.tend(&mut self.tokens, out);
        self.checkpoint.tend(&mut self.tokens, out);
    }

    /// Whether `tend` has more to do without an operation ending.
    #[must_use]
    pub fn is_clearing(&self) -> bool {
        self.checkpoint.stage() == Stage::Clearing
    }

    /// Takes the answer to an operation that is no read.
    ///
    /// # Errors
    /// It failed, or one before it: nothing becomes durable any more, the member has to stop.
    pub fn on_done(
        &mut self,
        token: Token,
        result: Result<(), DiskFault>,
        out: &mut Vec<DiskOp>,
    ) -> Result<Done, Fault> {
        self.check_fault()?;
        let Some(ended) = self.checkpoint.on_done(token, result, &mut self.tokens, out) else {
            panic!("{token:?} was answered, which is not under way");
        };
        let file = self.file;
        let failed = |Failed { what, at, cause }| Fault::Failed { file, what, at, cause };
        let ended = ended.map_err(failed).map_err(|fault| self.fail(fault))?;
        let allocator = self.allocator.as_mut().expect("a checkpoint has its allocator");
        Ok(match ended {
            Ended::Worked => Done::Worked,
            Ended::Written(at, bytes) => {
                self.cache.put(at, bytes);
                Done::Worked
            }
            Ended::Durable(superblock) => {
                self.newest = *superblock;
                allocator.commit();
                Done::Durable
            }
            Ended::Abandoned => {
                allocator.roll_back();
                Done::NoSpace
            }
        })
    }

    fn clear(&mut self) {
        let allocator = self.allocator.as_mut().expect("a checkpoint has its allocator");
        let cleared = allocator.clear(PAGE_CLEAR_SLICE);
        if cleared.is_empty() {
            let units = allocator.file_units();
            let is_longer = units < std::mem::replace(&mut self.disk_units, units);
            self.holes.cut(units);
            self.checkpoint.trim(is_longer.then_some(Action::Cut { units }));
            return;
        }
        let units: BTreeSet<u32> = cleared.iter().map(|extent| extent.unit).collect();
        units.iter().for_each(|unit| self.cache.remove(*unit));
        self.reader.forget(&units);
    }

    // --- what stands ------------------------------------------------------------------------

    /// The newest superblock that is durable.
    #[must_use]
    pub fn newest(&self) -> &Superblock {
        &self.newest
    }

    /// Units in use; `None` while the references are not walked.
    #[must_use]
    pub fn used_units(&self) -> Option<u64> {
        self.allocator.as_ref().map(Allocator::used_units)
    }

    /// Units of the file on disk.
    #[must_use]
    pub fn file_units(&self) -> u32 {
        self.disk_units
    }

    /// Bytes of pages in the cache, expanded.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// What made the file unusable, if anything did.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    fn check_fault(&self) -> Result<(), Fault> {
        self.fault.map_or(Ok(()), Err)
    }

    fn fail(&mut self, fault: Fault) -> Fault {
        self.fault = Some(fault);
        fault
    }
}
