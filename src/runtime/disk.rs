//! Carries out the log's disk operations: writes on a ring of its own; everything that is rare on
//! the executor's blocking threads.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::{Fd, FsyncFlags};

use super::clock::Clock;
use super::direct::Aligned;
use super::ring::{Ended, Ring};
use super::segments::{errno_fault, fault, sync_dir};
use crate::base::Tick;
use crate::base::block::Blocks;
use crate::base::limits::RING_DEPTH;
use crate::base::metrics::{Counter, Histogram};
use crate::config::WalSync;
use crate::shard::disk::{DiskFault, Token};
use crate::shard::wal::{Action, DiskOp, SegmentId};

/// The sync behind a write has the write's token with this bit.
const SYNC_BIT: u64 = 1 << 63;
/// Zeros of one write, so that a log write never waits behind much.
const ZERO_BYTES: usize = 256 << 10;

/// What the log's disk cost.
#[derive(Debug)]
pub struct DiskMetrics {
    /// Time from submission to durable.
    pub sync: Histogram<14>,
    /// Time from submission to written; with O_DSYNC that is durable too.
    pub write: Histogram<14>,
    /// Bytes written to segments, padding included.
    pub bytes: Counter,
}

impl Default for DiskMetrics {
    fn default() -> DiskMetrics {
        let (sync, write) = (Histogram::new(1_000_000), Histogram::new(1_000_000));
        DiskMetrics { sync, write, bytes: Counter::default() }
    }
}

/// A write that the kernel has.
struct InFlight {
    /// The kernel reads these until the completion.
    blocks: Blocks,
    result: Option<Result<(), DiskFault>>,
    awaits_sync: bool,
    begun: Tick,
}

/// The log's disk.
pub(super) struct Disk {
    dir: PathBuf,
    sync: WalSync,
    ring: Ring,
    /// Segments open for durable writes.
    open: HashMap<SegmentId, File>,
    in_flight: HashMap<u64, InFlight>,
    ended: Ended<u64>,
    clock: Clock,
    metrics: Arc<DiskMetrics>,
}

impl Disk {
    /// A disk over the `wal` folder. `wake` is called when something has ended.
    pub(super) fn new(
        dir: PathBuf,
        sync: WalSync,
        clock: Clock,
        metrics: Arc<DiskMetrics>,
        wake: &Rc<dyn Fn()>,
    ) -> io::Result<Disk> {
        let ring = Ring::new(RING_DEPTH, wake)?;
        let (open, in_flight) = (HashMap::new(), HashMap::new());
        let ended = Ended::new(Rc::clone(wake));
        Ok(Disk { dir, sync, ring, open, in_flight, ended, clock, metrics })
    }

    /// Begins an operation.
    pub(super) fn begin(&mut self, op: DiskOp) {
        let DiskOp { token: Token(token), segment, action } = op;
        match action {
            Action::Write { offset, blocks } => self.write(token, segment, offset, blocks),
            Action::Create => self.slowly(token, segment, move |path| create(&path)),
            Action::Zero { offset, len } => {
                self.slowly(token, segment, move |path| zero(&path, offset, len));
            }
            Action::Sync => {
                let dir = self.dir.clone();
                self.slowly(token, segment, move |path| {
                    File::open(path)?.sync_all()?;
                    sync_dir(&dir)
                });
            }
            Action::Rename { to } => {
                let dir = self.dir.clone();
                self.open.remove(&segment);
                self.slowly(token, segment, move |path| {
                    std::fs::rename(path, dir.join(to.file_name()))?;
                    sync_dir(&dir)
                });
            }
            Action::Delete => {
                let dir = self.dir.clone();
                self.open.remove(&segment);
                self.slowly(token, segment, move |path| {
                    // A file that was never made is gone as well.
                    match std::fs::remove_file(path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => {}
                    }
                    sync_dir(&dir)
                });
            }
        }
    }

    /// Hands what was begun to the kernel.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.ring.submit()
    }

    /// Takes what has ended.
    pub(super) fn take_done(&mut self, mut each: impl FnMut(u64, Result<(), DiskFault>)) {
        for (user_data, result) in self.ring.take_ended() {
            self.completed(user_data, result);
        }
        for (token, result) in self.ended.take() {
            each(token, result);
        }
    }

    fn completed(&mut self, user_data: u64, result: i32) {
        let token = user_data & !SYNC_BIT;
        let is_sync = user_data & SYNC_BIT != 0;
        let write = self.in_flight.get_mut(&token).expect("the kernel ended what was begun");
        let took_ns = self.clock.now().since(write.begun);
        if !is_sync {
            self.metrics.write.observe_ns(took_ns);
        }
        let outcome = if result < 0 {
            Err(errno_fault(-result))
        } else if !is_sync && result as usize != write.blocks.padded_len() {
            Err(DiskFault::Short)
        } else {
            Ok(())
        };
        // A sync that was canceled says nothing: its write has failed and has said why.
        let outcome = write.result.take().map_or(outcome, |first| first.and(outcome));
        if write.awaits_sync && !is_sync {
            write.result = Some(outcome);
            return;
        }
        let write = self.in_flight.remove(&token).expect("looked up above");
        self.metrics.sync.observe_ns(took_ns);
        self.metrics.bytes.add(write.blocks.padded_len() as u64);
        self.ended.put(token, outcome);
    }

    fn write(&mut self, token: u64, segment: SegmentId, offset: u64, blocks: Blocks) {
        let fd = match self.file(segment) {
            Ok(fd) => fd,
            Err(error) => return self.ended.put(token, Err(fault(error))),
        };
        let len = u32::try_from(blocks.padded_len()).expect("a write is bounded by a segment");
        let awaits_sync = self.sync == WalSync::Fdatasync;
        let mut entry =
            opcode::Write::new(fd, blocks.as_ptr(), len).offset(offset).build().user_data(token);
        let mut entries = Vec::with_capacity(2);
        if awaits_sync {
            entry = entry.flags(Flags::IO_LINK);
            let flags = FsyncFlags::DATASYNC;
            let sync = opcode::Fsync::new(fd).flags(flags).build().user_data(token | SYNC_BIT);
            entries.extend([entry, sync]);
        } else {
            entries.push(entry);
        }
        let write = InFlight { blocks, result: None, awaits_sync, begun: self.clock.now() };
        self.in_flight.insert(token, write);
        // SAFETY: the blocks' memory is on the heap and stays where it is while `in_flight`
        // holds it, which is until the completion; the file stays in `open` as long as the
        // log writes to the segment, and the kernel holds a reference of its own.
        #[expect(unsafe_code, reason = "the kernel reads the blocks until the completion")]
        let pushed = unsafe { self.ring.submission().push_multiple(&entries) };
        assert!(pushed.is_ok(), "more writes in flight than RING_DEPTH");
    }

    fn file(&mut self, segment: SegmentId) -> io::Result<Fd> {
        if let Some(file) = self.open.get(&segment) {
            return Ok(Fd(file.as_raw_fd()));
        }
        let sync = match self.sync {
            WalSync::Dsync => libc::O_DSYNC,
            WalSync::Fdatasync => 0,
        };
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_DIRECT | sync);
        let file = options.open(self.dir.join(segment.file_name()))?;
        let fd = Fd(file.as_raw_fd());
        self.open.insert(segment, file);
        Ok(fd)
    }

    /// Runs a rare operation on a blocking thread.
    fn slowly(
        &self,
        token: u64,
        segment: SegmentId,
        work: impl FnOnce(PathBuf) -> io::Result<()> + Send + 'static,
    ) {
        let path = self.dir.join(segment.file_name());
        self.ended.slowly(token, move || work(path));
    }
}

fn create(path: &std::path::Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).map(|_| ())
}

/// Writes zeros past the page cache: the sync of a whole segment of dirty pages would hold up the
/// log's own writes on the same disk.
fn zero(path: &std::path::Path, offset: u64, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)?;
    let zeros = Aligned::new(ZERO_BYTES);
    let mut at = offset;
    while at < offset + len {
        let take = usize::try_from(offset + len - at).unwrap_or(ZERO_BYTES).min(ZERO_BYTES);
        file.write_all_at(&zeros.as_ref()[..take], at)?;
        at += take as u64;
        // Filling ahead must not take the disk from writes that somebody waits for.
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}
