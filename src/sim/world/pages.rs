//! The disk of the page files: how long it takes, how it fails, and that it rots.

use super::{Event, MS, World};
use crate::base::{CoreId, Revision, ShardId};
use crate::shard::disk::{DiskFault, Token};
use crate::sim::workload::everything;
use crate::wire::call::Request;

impl World {
    pub(super) fn begin_pages(&mut self) {
        for (shard, op) in std::mem::take(&mut self.machine.pages) {
            let delay = self.disk_delay_ns();
            self.clock.after_ns(delay, Event::Page(shard, op.token));
            self.pages.begin(shard, op);
        }
    }

    pub(super) fn page_done(&mut self, shard: ShardId, token: Token) {
        let is_page_write = self.pages.is_page_write(shard, token);
        let is_read = self.pages.is_read(shard, token);
        self.report.page_reads += usize::from(is_read);
        let mut fault = self.disk_fault();
        let percent = self.plan.page_no_space_percent;
        if is_page_write && percent > 0 && self.prng.percent(percent) {
            fault = fault.or(Some(DiskFault::NoSpace));
        }
        let answer = match fault {
            None => self.pages.finish(shard, token),
            Some(fault) => {
                // Where a page finds no space the member raises its alarm.
                self.judge.may_fill |= fault == DiskFault::NoSpace;
                self.report.full += usize::from(is_page_write && fault == DiskFault::NoSpace);
                self.note(|_| format!("{token:?} of the pages of {shard} fails: {fault:?}"));
                self.pages.fail(shard, token, fault, &mut self.prng)
            }
        };
        let home = self.machine.topology.home(shard);
        self.machine.give(home, answer);
        // Nobody may wait for what a read brings any more, and a checkpoint may be given up.
        let is_forgiven = is_read || is_page_write && fault == Some(DiskFault::NoSpace);
        if fault.is_none() {
            return self.wake_soon(home);
        }
        self.step(home);
        let halted = self.machine.halted.is_some();
        assert!(halted || is_forgiven, "a member lives on without its page file");
    }

    /// Spoils a page file of a member that has stopped, now and then. It does not start, or stops
    /// where it finds the damage, or needs nothing of what was spoiled; its answers are right.
    pub(super) fn rot_pages(&mut self) -> bool {
        if !self.pages.is_written() || self.prng.percent(50) {
            return false;
        }
        assert!(self.pages.rot(&mut self.prng), "there was something to spoil");
        if !self.starts() {
            return true;
        }
        self.boot();
        let cores: Vec<CoreId> = self.machine.topology.all_cores().collect();
        cores.iter().for_each(|core| self.wake(*core, 0));
        self.turn_until(|world| world.machine.is_open());
        if self.machine.halted.is_none() {
            self.judge.opened(self.clock.now());
            for core in cores {
                self.ask(core, Request::HashKv(Revision(0)));
                self.ask(core, Request::Range(everything()));
            }
            self.turn_until(|world| world.judge.waiting() == 0);
        }
        self.note(|world| format!("rot ends with {:?}", world.machine.halted));
        true
    }

    /// Lets time pass until something is so, or the member has halted.
    fn turn_until(&mut self, is_so: impl Fn(&World) -> bool) {
        let deadline = self.clock.now().0 + 120_000 * MS;
        while !is_so(self) && self.machine.halted.is_none() {
            self.turn();
            assert!(self.clock.now().0 < deadline, "a spoiled member does not get on");
        }
    }
}
