//! A member whose every step, letter and disk operation is moved by hand: for interleavings that
//! a test chooses.

use super::disk::Disk;
use super::machine::{Machine, Plan};
use super::mail::Post;
use super::page_disk::PageDisk;
use crate::base::{CoreId, Tick};
use crate::node::{Input, Mail};
use crate::wire::call::{CallId, Reply, Request, WatchMessage};

/// A machine with its mail and its disks.
#[derive(Debug)]
pub struct Rig {
    /// The cores.
    pub machine: Machine,
    /// Letters on their way.
    pub post: Post,
    /// The log's disk.
    pub disk: Disk,
    /// The disk of the page files.
    pub pages: PageDisk,
    /// The time.
    pub now: Tick,
    plan: Plan,
    calls: u32,
    replies: Vec<(CallId, Reply)>,
    /// Messages of watch streams, in order.
    pub told: Vec<(CallId, WatchMessage)>,
}

impl Rig {
    /// A member that serves an empty store.
    ///
    /// # Panics
    /// If it does not open.
    #[must_use]
    pub fn new(plan: Plan) -> Rig {
        let pages = PageDisk::new(plan.shards);
        Rig::open(plan, Disk::default(), pages, false)
    }

    /// A member that serves what its disks hold.
    ///
    /// # Panics
    /// If it does not open.
    #[must_use]
    pub fn open(plan: Plan, disk: Disk, pages: PageDisk, is_used: bool) -> Rig {
        let now = Tick(1);
        let machine = Machine::boot(&plan, &disk, &pages, is_used, now);
        let machine = machine.unwrap_or_else(|refused| panic!("a start was refused: {refused}"));
        let (post, told, replies) = (Post::default(), Vec::new(), Vec::new());
        let mut rig = Rig { machine, post, disk, pages, now, plan, calls: 0, replies, told };
        rig.run();
        assert!(rig.machine.is_open(), "a member opens once its own entry is on disk");
        rig
    }

    /// Lays a call before a core.
    pub fn call(&mut self, core: u16, request: Request) -> CallId {
        self.calls += 1;
        let call = CallId { connection: 0, call: self.calls };
        self.machine.give(CoreId(core), Input::Call(call, request));
        call
    }

    /// Lays another message of a watch stream before a core.
    pub fn watch(&mut self, core: u16, call: CallId, request: Request) {
        self.machine.give(CoreId(core), Input::Call(call, request));
    }

    /// Steps a core until it rests; its mail and its disk operations stay on their way.
    pub fn step(&mut self, core: u16) {
        loop {
            let again = self.machine.step(CoreId(core), self.now);
            for (from, to, mail) in std::mem::take(&mut self.machine.sent) {
                let _ = self.post.send(self.now, (from, to), mail, 0);
            }
            for op in std::mem::take(&mut self.machine.disk) {
                self.disk.begin(op);
            }
            for (shard, op) in std::mem::take(&mut self.machine.pages) {
                self.pages.begin(shard, op);
            }
            let replies = std::mem::take(&mut self.machine.replies);
            self.replies.extend(replies.into_iter().map(|(_, call, reply)| (call, reply)));
            let told = std::mem::take(&mut self.machine.told);
            self.told.extend(told.into_iter().map(|(_, call, message)| (call, message)));
            if !again.more {
                return;
            }
        }
    }

    /// Lays a path's letters before their core, up to and with the first that `last` names.
    pub fn deliver(&mut self, from: u16, to: u16, last: impl Fn(&Mail) -> bool) {
        while let Some(mail) = self.post.take(CoreId(from), CoreId(to)) {
            let is_last = last(&mail);
            self.machine.give(CoreId(to), Input::Mail(CoreId(from), mail));
            if is_last {
                return;
            }
        }
    }

    /// Ends every disk operation under way; cores hear of it with their next step.
    pub fn sync(&mut self) {
        for token in self.disk.pending() {
            self.disk.finish(token);
            self.machine.give(CoreId(0), Input::Disk(token.0, Ok(())));
        }
        for (shard, token) in self.pages.pending() {
            let answer = self.pages.finish(shard, token);
            self.machine.give(self.machine.topology.home(shard), answer);
        }
    }

    /// Moves everything until nothing is on its way.
    pub fn run(&mut self) {
        self.run_but(&[]);
    }

    /// As `run`, but for letters of these paths, which wait.
    pub fn run_but(&mut self, held: &[(u16, u16)]) {
        loop {
            self.sync();
            for (from, to) in self.post.waiting() {
                if !held.contains(&(from.0, to.0)) {
                    self.deliver(from.0, to.0, |_| false);
                }
            }
            for core in 0..self.plan.cores {
                self.step(core);
            }
            let mut waiting = self.post.waiting();
            waiting.retain(|(from, to)| !held.contains(&(from.0, to.0)));
            let is_idle = self.disk.pending().is_empty() && self.pages.pending().is_empty();
            if waiting.is_empty() && is_idle {
                return;
            }
        }
    }

    /// Takes the answer to a call, if it has come.
    pub fn reply(&mut self, call: CallId) -> Option<Reply> {
        let at = self.replies.iter().position(|(answered, _)| *answered == call)?;
        Some(self.replies.swap_remove(at).1)
    }

    /// Calls, lets everything run, and takes the answer.
    ///
    /// # Panics
    /// If none comes.
    pub fn ask(&mut self, core: u16, request: Request) -> Reply {
        let call = self.call(core, request);
        self.run();
        self.reply(call).expect("an answer once everything has run")
    }

    /// A key that the shard `shard` owns, the `nth` of them.
    ///
    /// # Panics
    /// If there is no such shard.
    #[must_use]
    pub fn key(&self, shard: u16, nth: usize) -> bytes::Bytes {
        let router = self.machine.topology.router();
        assert!(shard < router.shards(), "a shard of this member");
        let keys = (0u32..).map(|n| bytes::Bytes::from(format!("key/{n}")));
        let mut keys = keys.filter(|key| router.shard_of(key).0 == shard);
        keys.nth(nth).expect("keys without end")
    }
}
