//! Carries out the page files' operations for the shards of one core: on a ring of its own, past
//! the page cache; cuts, which no ring of every kernel does, on the executor's blocking threads.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};

use super::clock::Clock;
use super::direct::{Aligned, may_go_on};
use super::page_files::PageDir;
use super::ring::{Ended, Ring};
use super::segments::errno_fault;
use crate::base::block::Blocks;
use crate::base::limits::{
    PAGE_READS_IN_FLIGHT_MAX, PAGE_TRIMS_IN_FLIGHT_MAX, PAGE_WRITES_IN_FLIGHT_MAX,
};
use crate::base::metrics::{Counter, Histogram};
use crate::base::{ShardId, Tick};
use crate::node::Input;
use crate::shard::disk::{DiskFault, Token};
use crate::shard::pages::{Action, DiskOp, FileId, UNIT_BYTES};

/// Operations of one page file that are in flight at most.
const OPS_PER_FILE: usize =
    PAGE_READS_IN_FLIGHT_MAX + PAGE_WRITES_IN_FLIGHT_MAX + PAGE_TRIMS_IN_FLIGHT_MAX + 1;

/// What the page files of one core cost.
#[derive(Debug)]
pub(super) struct PageMetrics {
    /// Time of a sync.
    pub(super) sync: Histogram<14>,
    /// Bytes read.
    pub(super) read_bytes: Counter,
    /// Bytes written, padding included.
    pub(super) written_bytes: Counter,
}

impl Default for PageMetrics {
    fn default() -> PageMetrics {
        let (read_bytes, written_bytes) = Default::default();
        PageMetrics { sync: Histogram::new(1_000_000), read_bytes, written_bytes }
    }
}

/// An operation on the ring, or on its way there.
struct Op {
    shard: ShardId,
    token: Token,
    offset: u64,
    work: Work,
    begun: Tick,
}

/// What it does; of a transfer also how many bytes are through.
enum Work {
    /// The kernel writes to this memory until the completion.
    Read(Aligned, usize),
    /// The kernel reads these until the completion.
    Write(Blocks, usize),
    Sync,
    /// So many bytes.
    Punch(u64),
}

/// The disk of the page files of one core.
pub(super) struct PageDisk {
    files: BTreeMap<ShardId, Arc<File>>,
    ring: Ring,
    /// Operations that the ring has at most.
    depth: usize,
    /// By their number on the ring: tokens are a page file's own.
    in_flight: HashMap<u64, Op>,
    begun: u64,
    waiting: VecDeque<Op>,
    ended: Ended<(ShardId, Token)>,
    clock: Clock,
    metrics: Arc<PageMetrics>,
}

impl PageDisk {
    /// A disk over the files of `shards` in the `shards` folder. `wake` is called when something
    /// has ended.
    pub(super) fn new(
        dir: &Path,
        shards: impl Iterator<Item = ShardId>,
        clock: Clock,
        metrics: Arc<PageMetrics>,
        wake: &Rc<dyn Fn()>,
    ) -> io::Result<PageDisk> {
        let page_dir = PageDir::new(dir.to_owned());
        let mut files = BTreeMap::new();
        for shard in shards {
            let file = page_dir.open(FileId(shard), true).map_err(|error| {
                let path = dir.join(FileId(shard).file_name());
                io::Error::other(format!("cannot open {}: {error}", path.display()))
            })?;
            files.insert(shard, Arc::new(file));
        }
        let depth = OPS_PER_FILE * files.len().max(1);
        let ring = Ring::new(u32::try_from(depth).expect("shards are few"), wake)?;
        Ok(PageDisk {
            files,
            ring,
            depth,
            in_flight: HashMap::new(),
            begun: 0,
            waiting: VecDeque::new(),
            ended: Ended::new(Rc::clone(wake)),
            clock,
            metrics,
        })
    }

    /// Begins an operation.
    pub(super) fn begin(&mut self, shard: ShardId, op: DiskOp) {
        let DiskOp { token, action } = op;
        let (offset, work) = match action {
            Action::Read { extent } => {
                let len = usize::try_from(extent.bytes()).expect("a page fits memory");
                (extent.offset(), Work::Read(Aligned::new(len), 0))
            }
            Action::Write { unit, blocks } => {
                (u64::from(unit) * UNIT_BYTES, Work::Write(blocks, 0))
            }
            Action::Sync => (0, Work::Sync),
            Action::Punch { extent } => (extent.offset(), Work::Punch(extent.bytes())),
            Action::Cut { units } => {
                let file = Arc::clone(self.file(shard));
                let len = u64::from(units) * UNIT_BYTES;
                return self.ended.slowly((shard, token), move || file.set_len(len));
            }
        };
        self.waiting.push_back(Op { shard, token, offset, work, begun: self.clock.now() });
        self.start_waiting();
    }

    /// Hands what was begun to the kernel.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.ring.submit()
    }

    /// Takes what has ended. What goes on is begun, and to be submitted.
    pub(super) fn take_done(&mut self, mut each: impl FnMut(Input)) {
        for (number, result) in self.ring.take_ended() {
            if let Some(answer) = self.completed(number, result) {
                each(answer);
            }
        }
        for ((shard, token), result) in self.ended.take() {
            each(Input::PageDone(shard, token, result));
        }
        self.start_waiting();
    }

    fn file(&self, shard: ShardId) -> &Arc<File> {
        self.files.get(&shard).expect("operations come from shards of this core")
    }

    fn start_waiting(&mut self) {
        while self.in_flight.len() < self.depth {
            let Some(op) = self.waiting.pop_front() else { return };
            self.start(op);
        }
    }

    fn start(&mut self, mut op: Op) {
        self.begun += 1;
        let fd = Fd(self.file(op.shard).as_raw_fd());
        let entry = entry(fd, &mut op).user_data(self.begun);
        self.in_flight.insert(self.begun, op);
        // SAFETY: the memory that the entry points to is on the heap and stays where it is while
        // `in_flight` holds it, which is until the completion, or for ever if none is taken; the
        // file stays in `files`, and the kernel holds a reference of its own.
        #[expect(unsafe_code, reason = "the kernel has the memory until the completion")]
        let pushed = unsafe { self.ring.submission().push(&entry) };
        assert!(pushed.is_ok(), "the ring has fewer entries than operations may be in flight");
    }

    /// The answer, unless there is more of the operation to do.
    fn completed(&mut self, number: u64, result: i32) -> Option<Input> {
        let mut op = self.in_flight.remove(&number).expect("the kernel ended what was begun");
        let outcome = match op.advance(result) {
            Some(outcome) => outcome,
            None => {
                self.start(op);
                return None;
            }
        };
        let Op { shard, token, work, begun, .. } = op;
        match work {
            Work::Read(mut memory, through) => {
                self.metrics.read_bytes.add(through as u64);
                memory.truncate(through);
                let bytes = outcome.map(|()| Bytes::from_owner(memory));
                return Some(Input::PageRead(shard, token, bytes));
            }
            Work::Write(_, through) => self.metrics.written_bytes.add(through as u64),
            Work::Sync => self.metrics.sync.observe_ns(self.clock.now().since(begun)),
            Work::Punch(_) => {}
        }
        Some(Input::PageDone(shard, token, outcome))
    }
}

impl Drop for PageDisk {
    fn drop(&mut self) {
        // The kernel may still write to what reads brought: that memory is nobody's any more.
        std::mem::forget(std::mem::take(&mut self.in_flight));
    }
}

/// What the kernel is to do next of an operation.
fn entry(fd: Fd, op: &mut Op) -> squeue::Entry {
    let length = |bytes: usize| u32::try_from(bytes).expect("a page is bounded");
    match &mut op.work {
        Work::Read(memory, through) => {
            let offset = op.offset + *through as u64;
            let rest = memory.rest(*through);
            opcode::Read::new(fd, rest.as_mut_ptr(), length(rest.len())).offset(offset).build()
        }
        Work::Write(blocks, through) => {
            let offset = op.offset + *through as u64;
            let rest = blocks.as_ptr().wrapping_add(*through);
            let len = length(blocks.padded_len() - *through);
            opcode::Write::new(fd, rest, len).offset(offset).build()
        }
        Work::Sync => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
        Work::Punch(bytes) => {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            opcode::Fallocate::new(fd, *bytes).offset(op.offset).mode(mode).build()
        }
    }
}

impl Op {
    /// Takes the kernel's result. `None`: there is more to do.
    fn advance(&mut self, result: i32) -> Option<Result<(), DiskFault>> {
        let Ok(bytes) = usize::try_from(result) else {
            // A filesystem that gives nothing back may keep it.
            let is_kept = matches!(self.work, Work::Punch(_)) && result == -libc::EOPNOTSUPP;
            return Some(if is_kept { Ok(()) } else { Err(errno_fault(-result)) });
        };
        let (through, len, at_the_end) = match &mut self.work {
            Work::Sync | Work::Punch(_) => return Some(Ok(())),
            Work::Read(memory, through) => (through, memory.len(), Ok(())),
            Work::Write(blocks, through) => (through, blocks.padded_len(), Err(DiskFault::Short)),
        };
        *through += bytes;
        // What cut a transfer short, such as a full disk, is told when the rest is asked for.
        match *through {
            all if all == len => Some(Ok(())),
            _ if may_go_on(bytes) => None,
            _ => Some(at_the_end),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use glommio::{LocalExecutorBuilder, Placement};

    use super::*;
    use crate::shard::pages::Extent;

    const UNIT: usize = UNIT_BYTES as usize;

    fn blocks(bytes: &[u8]) -> Blocks {
        let mut blocks = Blocks::new();
        blocks.extend(bytes);
        blocks
    }

    fn read(unit: u32, units: u32) -> Action {
        Action::Read { extent: Extent { unit, units } }
    }

    /// Carries the actions out side by side; what reads brought, by action.
    async fn carry_out(
        disk: &mut PageDisk,
        woken: &Cell<bool>,
        shard: ShardId,
        actions: Vec<Action>,
    ) -> Vec<Option<Bytes>> {
        let mut answers: Vec<Option<Option<Bytes>>> = actions.iter().map(|_| None).collect();
        for (at, action) in (0..).zip(actions) {
            disk.begin(shard, DiskOp { token: Token(at), action });
        }
        while answers.iter().any(Option::is_none) {
            disk.submit().expect("a ring");
            while !woken.replace(false) {
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
            disk.take_done(|answer| {
                let (Token(at), bytes) = match answer {
                    Input::PageRead(on, token, bytes) if on == shard => (token, Some(bytes)),
                    Input::PageDone(on, token, Ok(())) if on == shard => (token, None),
                    other => panic!("not asked for: {other:?}"),
                };
                let bytes = bytes.map(|bytes| bytes.expect("a read"));
                let before = answers[at as usize].replace(bytes);
                assert!(before.is_none(), "{at} was answered twice");
            });
        }
        answers.into_iter().flatten().collect()
    }

    async fn live(dir: &Path) {
        let woken = Rc::new(Cell::new(false));
        let wakes = Rc::clone(&woken);
        let wake: Rc<dyn Fn()> = Rc::new(move || wakes.set(true));
        let (shards, metrics) = ([ShardId(0), ShardId(3)], Arc::<PageMetrics>::default());
        let counted = Arc::clone(&metrics);
        let mut disk = PageDisk::new(dir, shards.into_iter(), Clock::new(), counted, &wake)
            .expect("a disk over two files");
        let length = |shard: u16| {
            std::fs::metadata(dir.join(FileId(ShardId(shard)).file_name())).expect("a file").len()
        };
        for shard in shards {
            // More at once than the ring takes.
            let unit = |at: u32| vec![at as u8 ^ shard.0 as u8; UNIT];
            let writes = (0..300).map(|at| Action::Write { unit: at, blocks: blocks(&unit(at)) });
            carry_out(&mut disk, &woken, shard, writes.collect()).await;
            carry_out(&mut disk, &woken, shard, vec![Action::Sync]).await;
            let reads = (0..300).map(|at| read(at, 1)).collect();
            for (at, bytes) in (0..).zip(carry_out(&mut disk, &woken, shard, reads).await) {
                assert_eq!(bytes.expect("bytes"), unit(at));
            }
        }
        assert!(disk.waiting.is_empty() && disk.in_flight.is_empty());
        let through = (metrics.written_bytes.value(), metrics.read_bytes.value());
        assert_eq!(through, (600 * UNIT_BYTES, 600 * UNIT_BYTES));
        let shard = ShardId(3);
        let ends = vec![read(298, 8), read(300, 1), read(400, 2)];
        let ends = carry_out(&mut disk, &woken, shard, ends).await;
        let lengths: Vec<usize> = ends.iter().flatten().map(Bytes::len).collect();
        assert_eq!(lengths, [2 * UNIT, 0, 0], "reads end with the file");
        let punch = Action::Punch { extent: Extent { unit: 20, units: 10 } };
        carry_out(&mut disk, &woken, shard, vec![punch]).await;
        assert_eq!(length(3), 300 * UNIT_BYTES);
        let hole = carry_out(&mut disk, &woken, shard, vec![read(19, 12)]).await.remove(0);
        let hole = hole.expect("bytes");
        let (before, after) = (hole[0], hole[11 * UNIT]);
        assert_eq!((before, after), (19 ^ 3, 30 ^ 3));
        assert!(hole[UNIT..11 * UNIT].iter().all(|byte| *byte == 0));
        carry_out(&mut disk, &woken, shard, vec![Action::Cut { units: 4 }]).await;
        assert_eq!((length(0), length(3)), (300 * UNIT_BYTES, 4 * UNIT_BYTES));
    }

    #[test]
    fn what_is_written_is_read_and_space_is_given_back() {
        let dir = std::env::temp_dir().join(format!("ringbolt-pages-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a folder");
        for shard in [0, 3] {
            std::fs::write(dir.join(FileId(ShardId(shard)).file_name()), b"").expect("a file");
        }
        let folder = dir.clone();
        let executor = LocalExecutorBuilder::new(Placement::Unbound);
        let thread = executor.spawn(move || async move { live(&folder).await });
        thread.expect("an executor").join().expect("all of it");
        std::fs::remove_dir_all(dir).expect("the folder");
    }

    #[test]
    fn a_short_transfer_goes_on_until_it_is_told_why_it_was() {
        let op = |work| {
            let (shard, token, offset, begun) = (ShardId(0), Token(1), 0, Tick(1));
            Op { shard, token, offset, work, begun }
        };
        let unit = i32::try_from(UNIT).expect("small");
        let write = || op(Work::Write(blocks(&[1; 3 * UNIT]), 0));
        let read = || op(Work::Read(Aligned::new(3 * UNIT), 0));
        let cases: [(Op, &[i32], Result<(), DiskFault>); 8] = [
            (write(), &[3 * unit], Ok(())),
            (write(), &[unit, 2 * unit], Ok(())),
            (write(), &[2 * unit, -libc::ENOSPC], Err(DiskFault::NoSpace)),
            (write(), &[unit, 0], Err(DiskFault::Short)),
            (read(), &[unit, unit, 0], Ok(())),
            (read(), &[unit, -libc::EIO], Err(DiskFault::Os(libc::EIO))),
            (op(Work::Punch(1)), &[-libc::EOPNOTSUPP], Ok(())),
            (op(Work::Sync), &[-libc::EDQUOT], Err(DiskFault::NoSpace)),
        ];
        for (mut op, results, expect) in cases {
            let (last, before) = results.split_last().expect("a result");
            assert!(before.iter().all(|result| op.advance(*result).is_none()), "{results:?}");
            assert_eq!(op.advance(*last), Some(expect), "{results:?}");
        }
    }
}
