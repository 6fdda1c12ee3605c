//! A new connection on the core that serves it: which protocol it speaks, and who goes on.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::io::AsyncReadExt;
use glommio::net::TcpStream;

use super::mailbox::{Arrival, Serves};
use super::pipe::TcpPipe;
use crate::base::CoreId;
use crate::base::limits::PREFACE_TIMEOUT_MS;
use crate::frontend::conn;
use crate::frontend::http;
use crate::frontend::http_call::HttpHandler;
use crate::frontend::port::FrontendContext;
use crate::frontend::sniff::{PREFACE, Protocol, sniff};
use crate::log;

/// Bounds of a connection's first moments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Time until the protocol is known.
    pub(super) first_bytes_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { first_bytes_ms: PREFACE_TIMEOUT_MS }
    }
}

/// Who answers plain HTTP, by listener.
#[derive(Clone)]
pub(super) struct Sites {
    pub(super) clients: Rc<dyn HttpHandler>,
    pub(super) metrics: Rc<dyn HttpHandler>,
}

/// Takes this core's connections in.
pub(super) struct Acceptor {
    core: CoreId,
    frontend: Rc<FrontendContext>,
    loads: Arc<Vec<AtomicU32>>,
    limits: Limits,
    sites: Sites,
    /// Slots that are free below the highest ever used.
    free: Rc<RefCell<Vec<u32>>>,
    used: RefCell<u32>,
}

impl Acceptor {
    pub(super) fn new(
        core: CoreId,
        frontend: &Rc<FrontendContext>,
        loads: &Arc<Vec<AtomicU32>>,
        limits: Limits,
        sites: Sites,
    ) -> Acceptor {
        Acceptor {
            core,
            frontend: Rc::clone(frontend),
            loads: Arc::clone(loads),
            limits,
            sites,
            free: Rc::default(),
            used: RefCell::new(0),
        }
    }

    /// Serves a connection until it ends.
    pub(super) fn take(&self, arrival: Arrival) {
        let Arrival { stream, serves } = arrival;
        let stream = stream.bind_to_executor();
        // Without it, a small answer waits for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            log!(Debug, "a connection was gone at once", "error" => error.to_string());
        }
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut used = self.used.borrow_mut();
            *used += 1;
            *used - 1
        });
        let frontend = Rc::clone(&self.frontend);
        let (free, loads) = (Rc::clone(&self.free), Arc::clone(&self.loads));
        let (core, limits) = (usize::from(self.core.0), self.limits);
        let sites = self.sites.clone();
        glommio::spawn_local(async move {
            serve(stream, frontend, slot, serves, limits, sites).await;
            free.borrow_mut().push(slot);
            loads[core].fetch_sub(1, Ordering::Relaxed);
        })
        .detach();
    }
}

async fn serve(
    mut stream: TcpStream,
    frontend: Rc<FrontendContext>,
    slot: u32,
    serves: Serves,
    limits: Limits,
    sites: Sites,
) {
    let wait = Duration::from_millis(limits.first_bytes_ms);
    let told = glommio::timer::try_timeout(wait, async { Ok(tell(&mut stream).await) }).await;
    let Ok(Some((protocol, first))) = told else { return };
    let pipe = TcpPipe::new(first, stream);
    match (protocol, serves) {
        (Protocol::Http2, Serves::Clients) => conn::serve(pipe, frontend, slot).await,
        // A port for probes and metrics speaks HTTP/1 only.
        (Protocol::Http2, Serves::Metrics) => {}
        (Protocol::Http1, Serves::Clients) => {
            http::conn::serve(pipe, frontend, slot, sites.clients).await;
        }
        (Protocol::Http1, Serves::Metrics) => {
            http::conn::serve(pipe, frontend, slot, sites.metrics).await;
        }
    }
}

/// Reads until the protocol is known. `None`: the client is gone.
async fn tell(stream: &mut TcpStream) -> Option<(Protocol, Bytes)> {
    let mut first = BytesMut::new();
    loop {
        if let Some(protocol) = sniff(&first) {
            return Some((protocol, first.freeze()));
        }
        let mut more = [0; PREFACE.len()];
        let free = PREFACE.len() - first.len();
        let read = stream.read(&mut more[..free]).await.ok().filter(|read| *read > 0)?;
        first.extend_from_slice(&more[..read]);
    }
}
