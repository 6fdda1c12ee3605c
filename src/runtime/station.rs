//! One executor's node and what drives it: input is collected from mail, disk and connections,
//! one step is taken, and what it leaves to do is handed out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::clock::Clock;
use super::disk::Disk;
use super::mailbox::{Arrival, Mailboxes};
use super::metrics::ApplyMetrics;
use super::nap::Naps;
use super::page_disk::PageDisk;
use crate::base::limits::{HEARTBEAT_FIRST_MS, HEARTBEAT_MS, SLICE_PAUSE_NS, STEPS_PER_TURN};
use crate::base::shared::Shared;
use crate::base::{CoreId, Tick};
use crate::frontend::port::{Delivery, FrontendContext, Port, Sleep};
use crate::node::{Core, Input, Mail, Outbox};
use crate::wire::call::{CallId, Request};

/// The node of one core, its clock and its disks.
pub(super) struct Station {
    id: CoreId,
    core: RefCell<Core>,
    inputs: RefCell<VecDeque<Input>>,
    out: RefCell<Outbox>,
    /// Mail for boxes that were full.
    unsent: RefCell<VecDeque<(CoreId, Mail)>>,
    mailboxes: Arc<Mailboxes>,
    shared: Arc<Shared>,
    clock: Clock,
    applies: Arc<ApplyMetrics>,
    disk: RefCell<Option<Disk>>,
    pages: RefCell<Option<PageDisk>>,
    frontend: RefCell<Weak<FrontendContext>>,
    waker: RefCell<Option<Waker>>,
    woken: Cell<bool>,
    naps: Rc<Naps>,
    wake_at: Cell<Option<Tick>>,
    halted: RefCell<Option<String>>,
    /// There may be something for the core's keeper to look at.
    noticed: Cell<bool>,
    keeper: RefCell<Option<Waker>>,
}

impl Station {
    pub(super) fn new(
        id: CoreId,
        core: Core,
        out: Outbox,
        mailboxes: Arc<Mailboxes>,
        shared: Arc<Shared>,
        clock: Clock,
        applies: Arc<ApplyMetrics>,
    ) -> Rc<Station> {
        Rc::new(Station {
            id,
            core: RefCell::new(core),
            inputs: RefCell::default(),
            out: RefCell::new(out),
            unsent: RefCell::default(),
            mailboxes,
            shared,
            clock,
            applies,
            disk: RefCell::new(None),
            pages: RefCell::new(None),
            frontend: RefCell::new(Weak::new()),
            waker: RefCell::new(None),
            woken: Cell::new(true),
            naps: Naps::new(clock),
            wake_at: Cell::new(Some(Tick(0))),
            halted: RefCell::new(None),
            noticed: Cell::new(false),
            keeper: RefCell::new(None),
        })
    }

    /// The log's disk, on the orderer's core.
    pub(super) fn set_disk(&self, disk: Disk) {
        *self.disk.borrow_mut() = Some(disk);
    }

    /// The disk of its page files, on a core that has shards.
    pub(super) fn set_pages(&self, pages: PageDisk) {
        *self.pages.borrow_mut() = Some(pages);
    }

    /// The connections that this core's answers go to.
    pub(super) fn set_frontend(&self, frontend: &Rc<FrontendContext>) {
        *self.frontend.borrow_mut() = Rc::downgrade(frontend);
    }

    /// The node, for those who only look.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Core) -> T) -> T {
        look(&self.core.borrow())
    }

    /// The node, between two steps.
    pub(super) fn with_core(&self, change: impl FnOnce(&mut Core)) {
        change(&mut self.core.borrow_mut());
        self.wake();
    }

    /// Ends this core's connections.
    pub(super) fn stop_frontend(&self) {
        if let Some(frontend) = self.frontend.borrow().upgrade() {
            frontend.stop();
        }
    }

    /// Why the member cannot go on, once it cannot.
    pub(super) fn halted(&self) -> Option<String> {
        self.halted.borrow().clone()
    }

    /// Makes the core's keeper look: the member halts, stops, or was signaled.
    pub(super) fn notice(&self) {
        if !self.noticed.replace(true)
            && let Some(waker) = self.keeper.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// Until there may be something to look at. For one keeper.
    pub(super) async fn noticed(&self) {
        let look = |cx: &mut Context<'_>| {
            *self.keeper.borrow_mut() = Some(cx.waker().clone());
            if self.noticed.replace(false) { Poll::Ready(()) } else { Poll::Pending }
        };
        poll_fn(look).await;
    }

    /// Makes the drive take another turn.
    pub(super) fn wake(&self) {
        if !self.woken.replace(true)
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// Steps the node until the member halts. `arrived` takes connections for this core.
    pub(super) async fn drive(self: Rc<Station>, mut arrived: impl FnMut(Arrival)) {
        poll_fn(|cx| self.turn(cx, &mut arrived)).await;
    }

    fn turn(&self, cx: &mut Context<'_>, arrived: &mut impl FnMut(Arrival)) -> Poll<()> {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        self.mailboxes.unpark(self.id);
        self.woken.set(false);
        self.naps.fire();
        while let Some(arrival) = self.mailboxes.take_arrival(self.id) {
            arrived(arrival);
        }
        for step in 0..STEPS_PER_TURN {
            self.collect();
            let due = self.wake_at.get().is_some_and(|at| at <= self.clock.now());
            // One slice of long work a turn.
            let goes_on = step == 0 && self.out.borrow().more;
            if self.inputs.borrow().is_empty() && !due && !goes_on && !self.has_output() {
                break;
            }
            self.step();
            if self.halted.borrow().is_some() {
                self.notice();
                return Poll::Ready(());
            }
        }
        self.retry_unsent();
        self.sleep(cx);
        Poll::Pending
    }

    /// Whether the last step left something to do, or what came since calls for a halt.
    fn has_output(&self) -> bool {
        let out = self.out.borrow();
        !out.disk.is_empty() || !out.pages.is_empty() || out.halt.is_some()
    }

    /// Gathers mail and what the disks have done.
    fn collect(&self) {
        let mut inputs = self.inputs.borrow_mut();
        while let Some((from, mail)) = self.mailboxes.take(self.id) {
            inputs.push_back(Input::Mail(from, mail));
        }
        if let Some(disk) = self.disk.borrow_mut().as_mut() {
            disk.take_done(|token, result| inputs.push_back(Input::Disk(token, result)));
        }
        if let Some(pages) = self.pages.borrow_mut().as_mut() {
            pages.take_done(|answer| inputs.push_back(answer));
            submit_pages(pages, &mut self.out.borrow_mut());
        }
    }

    fn step(&self) {
        let mut out = self.out.borrow_mut();
        let mut inputs = std::mem::take(&mut *self.inputs.borrow_mut());
        self.core.borrow_mut().step(self.clock.now(), &mut inputs, &mut out);
        // The node takes all input; the queue's memory is used again.
        let mut own = self.inputs.borrow_mut();
        inputs.append(&mut own);
        *own = inputs;
        drop(own);
        self.wake_at.set(out.wake_at);
        if !out.applied.is_empty() {
            self.applies.count(self.clock.now(), &mut out.applied);
        }
        self.hand_out(&mut out);
    }

    fn hand_out(&self, out: &mut Outbox) {
        if let Some(disk) = self.disk.borrow_mut().as_mut() {
            for op in out.disk.drain(..) {
                disk.begin(op);
            }
            if let Err(error) = disk.submit() {
                let why = format!("the log's ring takes no more writes: {error}");
                out.halt.get_or_insert(why);
            }
        }
        if let Some(pages) = self.pages.borrow_mut().as_mut() {
            for (shard, op) in out.pages.drain(..) {
                pages.begin(shard, op);
            }
            submit_pages(pages, out);
        }
        // A member that cannot write its log answers nobody any more.
        if let Some(why) = out.halt.take() {
            *self.halted.borrow_mut() = Some(why);
            return;
        }
        let frontend = self.frontend.borrow().upgrade();
        if let Some(frontend) = frontend.filter(|_| out.replies.len() + out.watch.len() > 0) {
            for (call, reply) in out.replies.drain(..) {
                frontend.deliver(Delivery::Reply(call, reply));
            }
            for (call, message) in out.watch.drain(..) {
                frontend.deliver(Delivery::Watch(call, message));
            }
            frontend.ring();
        }
        self.post(&mut out.mail);
    }

    fn post(&self, mail: &mut Vec<(CoreId, Mail)>) {
        let mut unsent = self.unsent.borrow_mut();
        let mut posted: u64 = 0;
        for (to, mail) in mail.drain(..) {
            // Behind what waits already: mail between two cores keeps its order.
            if unsent.iter().any(|(waiting, _)| *waiting == to) {
                unsent.push_back((to, mail));
                continue;
            }
            match self.mailboxes.post(self.id, to, mail) {
                Ok(()) if to.0 < 64 => posted |= 1 << to.0,
                Ok(()) => self.mailboxes.wake(to),
                Err(mail) => unsent.push_back((to, mail)),
            }
        }
        for core in (0..64).filter(|core| posted & (1 << core) != 0) {
            self.mailboxes.wake(CoreId(core));
        }
    }

    fn retry_unsent(&self) {
        if self.unsent.borrow().is_empty() {
            return;
        }
        let mut mail: Vec<(CoreId, Mail)> = self.unsent.borrow_mut().drain(..).collect();
        self.post(&mut mail);
    }

    /// Goes to sleep until input comes or time is due, unless there is more to do.
    fn sleep(&self, cx: &mut Context<'_>) {
        let busy = self.woken.get()
            || !self.inputs.borrow().is_empty()
            || !self.unsent.borrow().is_empty();
        let is_parked = !busy && self.mailboxes.park(self.id, cx.waker());
        // Behind the park: who says it from here on wakes this core.
        if self.mailboxes.is_stopping() {
            self.notice();
        }
        if !is_parked {
            // Connections have their turn first.
            cx.waker().wake_by_ref();
            return;
        }
        // A core wakes at least this often: an executor that was preempted before its first
        // task ran may park with work to do, and a heartbeat bounds that.
        let now = self.clock.now();
        let beat_ms = if now.0 < 1_000_000_000 { HEARTBEAT_FIRST_MS } else { HEARTBEAT_MS };
        let beat = now.plus_ms(beat_ms);
        let at = self.wake_at.get().map_or(beat, |at| at.min(beat));
        // An executor that always has a task to run looks at its sockets and disks every 100 ms
        // alone: between slices of long work it has to come to rest.
        let slice = now.plus_ns(SLICE_PAUSE_NS);
        self.naps.arm(cx, if self.out.borrow().more { slice } else { at });
    }
}

fn submit_pages(pages: &mut PageDisk, out: &mut Outbox) {
    if let Err(error) = pages.submit() {
        let why = format!("the page files' ring takes no more operations: {error}");
        out.halt.get_or_insert(why);
    }
}

impl Port for Station {
    fn submit(&self, call: CallId, request: Request) {
        self.inputs.borrow_mut().push_back(Input::Call(call, request));
        self.wake();
    }

    fn gone(&self, call: CallId) {
        self.inputs.borrow_mut().push_back(Input::Gone(call));
        self.wake();
    }

    fn drained(&self, call: CallId, bytes: usize) {
        self.inputs.borrow_mut().push_back(Input::Drained(call, bytes));
        self.wake();
    }

    fn now(&self) -> Tick {
        self.clock.now()
    }

    fn sleep_until(&self, at: Tick) -> Sleep {
        Box::pin(self.naps.until(at))
    }

    fn shared(&self) -> &Shared {
        &self.shared
    }
}
