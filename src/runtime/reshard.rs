//! Writes a stopped member's store for another number of shards: finds it, drives the work over
//! page files old and new, and puts the new ones in their place.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use glommio::timer::sleep;
use glommio::{LocalExecutorBuilder, Placement};

use super::clock::Clock;
use super::datadir::{DataDir, Staged};
use super::page_disk::{PageDisk, PageMetrics};
use super::probe::{self, Grant};
use super::{memory, recovery};
use crate::base::limits::{HEARTBEAT_MS, RESHARD_CACHE_BYTES, RING_DEPTH_EXECUTOR};
use crate::base::{ShardId, Tick};
use crate::config::memtable_by_rule;
use crate::node::Whose;
use crate::node::reshard::{Memory, Op, Progress, Reshard, Side, Written};
use crate::shard::wal::Layout;

/// What is told on the way.
#[derive(Debug)]
pub enum Told<'a> {
    /// What a person should know, in a sentence.
    Note(&'a str),
    /// How far it is, and how long it took so far, in nanoseconds.
    Progress(Progress, u64),
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Shards before.
    pub before: u16,
    /// Keys, changes and their bytes.
    pub written: Written,
    /// Bytes of the page files before and now.
    pub file_bytes: (u64, u64),
    /// Time that it took, in nanoseconds.
    pub ns: u64,
}

/// Writes the store at `root` for `shards` shards. Progress is told about every `interval_ms`.
/// `None`: it has so many.
///
/// # Errors
/// A sentence. The store is then what it was, or what it is to be.
pub fn reshard(
    root: &Path,
    shards: u16,
    interval_ms: u64,
    told: &mut dyn FnMut(Told<'_>),
) -> Result<Option<Report>, String> {
    let clock = Clock::new();
    let start = clock.now();
    let mut data_dir = DataDir::open(root, || {
        Err(format!("{} holds no store: --data-dir names the server's", root.display()))
    })?;
    data_dir.warnings.iter().for_each(|note| told(Told::Note(note)));
    let whose = recovery::whose(&data_dir);
    if whose.shards == shards {
        return Ok(None);
    }
    let grant = probe::probe(1)?;
    let staged = data_dir.stage(shards)?;
    let mut pace = Pace { clock, start, interval_ms, due: start, told };
    let written = match write(&data_dir, &whose, &staged, grant, &mut pace) {
        Ok(written) => written,
        Err(why) => return Err(data_dir.unstage(staged, why)),
    };
    let bytes = |folder: &Path| bytes_in(folder).map_err(|why| unread(folder, &why));
    let file_bytes = (bytes(&data_dir.shards())?, bytes(&staged.path)?);
    let adopted = data_dir.adopt(staged);
    adopted.map_err(|why| format!("{why}; the next run or start finishes this or undoes it"))?;
    let ns = clock.now().since(start);
    Ok(Some(Report { before: whose.shards, written, file_bytes, ns }))
}

/// Writes the new page files, durably, and looks at them as a start will.
fn write(
    data_dir: &DataDir,
    whose: &Whose,
    staged: &Staged,
    grant: Grant,
    pace: &mut Pace<'_>,
) -> Result<Written, String> {
    let boot = recovery::recover(data_dir, data_dir.shards(), whose, layout(whose.shards))?;
    let memtable_bytes = memtable_by_rule(memory::allowed_bytes()) / u64::from(whose.shards);
    let memory = Memory { cache_bytes: RESHARD_CACHE_BYTES, memtable_bytes };
    let work = Reshard::new(boot, *whose, staged.shards, memory);
    let work = work.map_err(|failed| failed.to_string())?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name("ringbolt-reshard")
        .io_memory(grant.io_memory)
        .ring_depth(RING_DEPTH_EXECUTOR)
        .make()
        .map_err(|error| format!("cannot start an executor: {error}"))?;
    let shards = (whose.shards, staged.shards);
    let work = executor.run(drive(work, (&data_dir.shards(), &staged.path), shards, pace))?;
    let new = Whose { shards: staged.shards, ..*whose };
    let boot = recovery::recover(data_dir, staged.path.clone(), &new, layout(new.shards))?;
    let applied = boot.oldest().state.applied.index;
    if applied != work.applied() {
        return Err(format!(
            "the new page files were read back as of entry {applied} of the log and not of entry \
             {}: see to the disk, then run this again",
            work.applied()
        ));
    }
    Ok(work.written())
}

fn layout(shards: u16) -> Layout {
    Layout::new(shards, 1)
}

/// Does the work to its end.
async fn drive(
    mut work: Reshard,
    (old, new): (&Path, &Path),
    shards: (u16, u16),
    pace: &mut Pace<'_>,
) -> Result<Reshard, String> {
    let ring = |error: io::Error| format!("cannot set up a disk's ring: {error}");
    let bell = Rc::new(Bell::default());
    glommio::spawn_local(beat(Rc::clone(&bell))).detach();
    let mut old = disk(old, shards.0, pace.clock, &bell).map_err(ring)?;
    let mut new = disk(new, shards.1, pace.clock, &bell).map_err(ring)?;
    let (mut inputs, mut out) = (VecDeque::new(), Vec::new());
    loop {
        let more = work.step(&mut inputs, &mut out).map_err(|failed| failed.to_string())?;
        for Op { side, shard, op } in out.drain(..) {
            match side {
                Side::Old => old.begin(shard, op),
                Side::New => new.begin(shard, op),
            }
        }
        for disk in [&mut old, &mut new] {
            disk.submit().map_err(|error| format!("a disk's ring takes no more: {error}"))?;
        }
        if work.is_done() {
            return Ok(work);
        }
        pace.tell(work.progress());
        if !more {
            bell.rung().await;
        }
        old.take_done(|input| inputs.push_back((Side::Old, input)));
        new.take_done(|input| inputs.push_back((Side::New, input)));
    }
}

fn disk(dir: &Path, shards: u16, clock: Clock, bell: &Rc<Bell>) -> io::Result<PageDisk> {
    let bell = Rc::clone(bell);
    let wake: Rc<dyn Fn()> = Rc::new(move || bell.ring());
    let shards = (0..shards).map(ShardId);
    PageDisk::new(dir, shards, clock, Arc::<PageMetrics>::default(), &wake)
}

/// Rings when an operation has ended.
#[derive(Default)]
struct Bell {
    is_rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    fn ring(&self) {
        self.is_rung.set(true);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    async fn rung(&self) {
        let listen = poll_fn(|cx| {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            if self.is_rung.replace(false) { Poll::Ready(()) } else { Poll::Pending }
        });
        listen.await;
    }
}

/// Rings now and then: an executor that is preempted early may park with work to do.
async fn beat(bell: Rc<Bell>) {
    loop {
        sleep(Duration::from_millis(HEARTBEAT_MS)).await;
        bell.ring();
    }
}

/// When progress is told, and to whom.
struct Pace<'p> {
    clock: Clock,
    start: Tick,
    interval_ms: u64,
    due: Tick,
    told: &'p mut dyn FnMut(Told<'_>),
}

impl Pace<'_> {
    fn tell(&mut self, progress: Progress) {
        let now = self.clock.now();
        if now >= self.due {
            self.due = now.plus_ms(self.interval_ms);
            (self.told)(Told::Progress(progress, now.since(self.start)));
        }
    }
}

fn bytes_in(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

fn unread(folder: &Path, why: &io::Error) -> String {
    format!("cannot list {}: {why}", folder.display())
}
