//! Mail between cores: one bounded queue per core, and a way to wake it that costs nothing while
//! it is awake.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use crossbeam::queue::ArrayQueue;
use futures_util::task::AtomicWaker;
use glommio::net::AcceptedTcpStream;

use crate::base::CoreId;
use crate::base::limits::{ARRIVALS_MAX, MAIL_MAX};
use crate::node::Mail;

/// A connection on its way to the core that will serve it.
pub(super) struct Arrival {
    pub(super) stream: AcceptedTcpStream,
    /// What may be asked on it.
    pub(super) serves: Serves,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    /// The whole client API.
    Clients,
    /// Probes and metrics only.
    Metrics,
}

/// One core's box.
struct Mailbox {
    mail: ArrayQueue<(CoreId, Mail)>,
    arrivals: ArrayQueue<Arrival>,
    parked: AtomicBool,
    waker: AtomicWaker,
}

/// All cores' boxes.
pub(super) struct Mailboxes {
    boxes: Vec<Mailbox>,
    /// The process stops: no new calls, those under way are answered.
    stopping: AtomicBool,
    /// The orderer's core is done: so is everyone.
    ended: AtomicBool,
}

impl Mailboxes {
    pub(super) fn new(cores: u16) -> Mailboxes {
        let boxes = (0..cores).map(|_| Mailbox {
            mail: ArrayQueue::new(MAIL_MAX),
            arrivals: ArrayQueue::new(ARRIVALS_MAX),
            parked: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        Mailboxes {
            boxes: boxes.collect(),
            stopping: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// Posts mail without waking its reader; gives it back if the box is full.
    #[expect(clippy::result_large_err, reason = "a full box gives the mail back, as it was")]
    pub(super) fn post(&self, from: CoreId, to: CoreId, mail: Mail) -> Result<(), Mail> {
        self.at(to).mail.push((from, mail)).map_err(|(_, mail)| mail)
    }

    /// Hands a connection over; false if the core has too many to look at.
    pub(super) fn arrive(&self, to: CoreId, arrival: Arrival) -> bool {
        let fits = self.at(to).arrivals.push(arrival).is_ok();
        self.wake(to);
        fits
    }

    /// Wakes a core if it sleeps.
    pub(super) fn wake(&self, core: CoreId) {
        let mailbox = self.at(core);
        if mailbox.parked.swap(false, Ordering::SeqCst) {
            mailbox.waker.wake();
        }
    }

    /// The next mail of a core, oldest first.
    pub(super) fn take(&self, core: CoreId) -> Option<(CoreId, Mail)> {
        self.at(core).mail.pop()
    }

    /// The next connection for a core.
    pub(super) fn take_arrival(&self, core: CoreId) -> Option<Arrival> {
        self.at(core).arrivals.pop()
    }

    /// The core's own task goes to sleep unless something has come meanwhile; true if it may.
    pub(super) fn park(&self, core: CoreId, waker: &Waker) -> bool {
        let mailbox = self.at(core);
        mailbox.waker.register(waker);
        mailbox.parked.store(true, Ordering::SeqCst);
        // Whoever posts after this look sees `parked`; whoever posted before is seen here.
        if mailbox.mail.is_empty() && mailbox.arrivals.is_empty() {
            return true;
        }
        mailbox.parked.store(false, Ordering::SeqCst);
        false
    }

    /// The core's own task runs: nobody has to wake it.
    pub(super) fn unpark(&self, core: CoreId) {
        self.at(core).parked.store(false, Ordering::SeqCst);
    }

    /// Tells all cores that the process stops.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    /// Tells all cores to end.
    pub(super) fn end(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.ended.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    fn wake_all(&self) {
        for core in 0..self.boxes.len() as u16 {
            self.wake(CoreId(core));
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn at(&self, core: CoreId) -> &Mailbox {
        &self.boxes[core.0 as usize]
    }
}
