//! The seam between connections and the node of their core: requests out, answers in.
//!
//! A [`Port`] is what the runtime implements over the node. Answers come back through the
//! [`FrontendContext`]: the node's step delivers as many as it has and then rings once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use super::http_call::HttpHandler;
use super::meters::Meters;
use super::wakes::Wakes;
use crate::base::Tick;
use crate::base::limits::{self, CONNECTIONS_MAX};
use crate::base::shared::Shared;
use crate::wire::call::{CallId, Reply, Request, WatchMessage};

/// A timer of the executor.
pub type Sleep = Pin<Box<dyn Future<Output = ()>>>;

/// The node of this core, as connections see it. Single-threaded.
pub trait Port {
    /// Takes a request. Messages of one watch stream come under one call.
    fn submit(&self, call: CallId, request: Request);

    /// Nobody waits for the call's answer any more: cancelled, timed out or closed. A write may
    /// happen all the same. A watch stream ends with this.
    fn gone(&self, call: CallId);

    /// So many bytes of events left for the client: the sum of the lengths of
    /// [`WatchBody::Events`](crate::wire::call::WatchBody::Events), message by message.
    fn drained(&self, call: CallId, bytes: usize);

    /// Now.
    fn now(&self) -> Tick;

    /// Ends at `at`.
    fn sleep_until(&self, at: Tick) -> Sleep;

    /// What all cores share.
    fn shared(&self) -> &Shared;
}

/// One thing that the node says to a connection.
#[derive(Debug)]
pub enum Delivery {
    /// The answer to a call.
    Reply(CallId, Reply),
    /// A message to a watch stream.
    Watch(CallId, WatchMessage),
}

impl Delivery {
    /// The call it belongs to.
    #[must_use]
    pub fn call(&self) -> CallId {
        match self {
            Delivery::Reply(call, _) | Delivery::Watch(call, _) => *call,
        }
    }
}

/// What the node has said to one connection.
#[derive(Debug)]
pub struct Inbox {
    deliveries: RefCell<VecDeque<Delivery>>,
    wakes: Arc<Wakes>,
    rung: Cell<bool>,
}

impl Inbox {
    /// An inbox whose owner is woken through `wakes`.
    #[must_use]
    pub fn new(wakes: Arc<Wakes>) -> Inbox {
        Inbox { deliveries: RefCell::default(), wakes, rung: Cell::new(false) }
    }

    /// The oldest delivery.
    #[must_use]
    pub fn pop(&self) -> Option<Delivery> {
        self.deliveries.borrow_mut().pop_front()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deliveries.borrow().is_empty()
    }
}

/// What the member is and allows, frozen at start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For headers.
    pub cluster_id: u64,
    /// For headers.
    pub member_id: u64,
    /// --max-request-bytes.
    pub request_bytes_max: usize,
    /// --max-txn-ops.
    pub txn_ops_max: usize,
    /// --max-concurrent-streams; ours applies if it is lower.
    pub streams_max: u32,
    /// Time for an answer.
    pub request_timeout_ms: u64,
    /// Time for preface and settings.
    pub preface_timeout_ms: u64,
    /// Interval below which a client's ping is a strike.
    pub ping_interval_min_ms: u64,
    /// A connection that is silent for this long is pinged.
    pub keepalive_interval_ms: u64,
    /// A pinged connection that stays silent for this long is closed.
    pub keepalive_timeout_ms: u64,
    /// A call with `hasleader` fails after three of these without a leader.
    pub election_timeout_ms: u64,
    /// A Range that takes longer is counted as slow.
    pub warn_apply_ms: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            cluster_id: 0,
            member_id: 0,
            request_bytes_max: limits::REQUEST_BYTES_MAX,
            txn_ops_max: limits::TXN_OPS_MAX,
            streams_max: limits::STREAMS_PER_CONNECTION,
            request_timeout_ms: limits::REQUEST_TIMEOUT_MS,
            preface_timeout_ms: limits::PREFACE_TIMEOUT_MS,
            ping_interval_min_ms: limits::PING_INTERVAL_MIN_MS,
            keepalive_interval_ms: limits::KEEPALIVE_INTERVAL_MS,
            keepalive_timeout_ms: limits::KEEPALIVE_TIMEOUT_MS,
            election_timeout_ms: 1_000,
            warn_apply_ms: 100,
        }
    }
}

impl Settings {
    /// The largest gRPC message that is taken in.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        self.request_bytes_max + limits::REQUEST_OVERHEAD_BYTES
    }
}

/// A connection's slot: who is there, and the calls named so far. Numbers go on over the slot's
/// connections, so that a late answer never finds a later connection's call.
#[derive(Debug, Default)]
struct Slot {
    inbox: Option<Rc<Inbox>>,
    next_call: u32,
}

/// What the connections of one core have in common.
pub struct FrontendContext {
    /// The node.
    pub port: Rc<dyn Port>,
    /// What the member is and allows.
    pub settings: Settings,
    /// This core's counters.
    pub meters: Arc<Meters>,
    /// Who answers what is not gRPC; nobody: 404.
    pub http: Option<Rc<dyn HttpHandler>>,
    slots: RefCell<Vec<Slot>>,
    rings: RefCell<Vec<Rc<Inbox>>>,
    stopping: Cell<bool>,
    unsent_bytes: Cell<usize>,
    request_bytes: Cell<usize>,
}

impl std::fmt::Debug for FrontendContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontendContext").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl FrontendContext {
    /// A context without connections.
    #[must_use]
    pub fn new(port: Rc<dyn Port>, settings: Settings, meters: Arc<Meters>) -> FrontendContext {
        FrontendContext {
            port,
            settings,
            meters,
            http: None,
            slots: RefCell::default(),
            rings: RefCell::default(),
            stopping: Cell::new(false),
            unsent_bytes: Cell::new(0),
            request_bytes: Cell::new(0),
        }
    }

    /// Puts a delivery into its connection's inbox, or drops it if that is gone. Takes effect
    /// with the next [`FrontendContext::ring`].
    pub fn deliver(&self, delivery: Delivery) {
        let slots = self.slots.borrow();
        let slot = slots.get(delivery.call().connection as usize);
        let Some(inbox) = slot.and_then(|slot| slot.inbox.as_ref()) else {
            return;
        };
        inbox.deliveries.borrow_mut().push_back(delivery);
        if !inbox.rung.replace(true) {
            self.rings.borrow_mut().push(Rc::clone(inbox));
        }
    }

    /// Wakes every connection that has got something since the last ring, once.
    pub fn ring(&self) {
        let rung = std::mem::take(&mut *self.rings.borrow_mut());
        for inbox in &rung {
            inbox.rung.set(false);
            inbox.wakes.signal();
        }
    }

    /// Ends all connections: no new calls, running ones finish, watches end.
    pub fn stop(&self) {
        self.stopping.set(true);
        for slot in self.slots.borrow().iter() {
            if let Some(inbox) = &slot.inbox {
                inbox.wakes.signal();
            }
        }
    }

    /// Whether the member is stopping.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Connections open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.slots.borrow().iter().filter(|slot| slot.inbox.is_some()).count()
    }

    /// Opens a connection's slot; the number of its first call.
    pub(super) fn open(&self, connection: u32, inbox: Rc<Inbox>) -> u32 {
        let index = connection as usize;
        assert!(index < CONNECTIONS_MAX, "connection slots are numbered below CONNECTIONS_MAX");
        let mut slots = self.slots.borrow_mut();
        if slots.len() <= index {
            slots.resize_with(index + 1, Slot::default);
        }
        let slot = &mut slots[index];
        assert!(slot.inbox.is_none(), "connection slot {connection} is taken");
        slot.inbox = Some(inbox);
        slot.next_call
    }

    /// Closes a connection's slot.
    pub(super) fn close(&self, connection: u32, next_call: u32) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(connection as usize) {
            slot.inbox = None;
            slot.next_call = next_call;
        }
    }

    /// Bytes of answers under way on this core.
    pub(super) fn unsent_bytes(&self) -> &Cell<usize> {
        &self.unsent_bytes
    }

    /// Changes what one stream holds of unfinished requests; false if that is too much for
    /// the core.
    pub(super) fn hold_request_bytes(&self, by_stream: &mut usize, held: usize) -> bool {
        let total = self.request_bytes.get() + held;
        assert!(total >= *by_stream, "a stream gives back what it was given");
        self.request_bytes.set(total - *by_stream);
        *by_stream = held;
        held == 0 || self.request_bytes.get() <= limits::CORE_REQUEST_BYTES_MAX
    }
}
