//! frontend::http — plain HTTP on the client port: probes, metrics, versions.
//! On no step of a write. In: HTTP requests of either version. Out: responses, and requests to
//! the node where a probe needs its answer.
//! Owns: HTTP/1 connections; what the probes have found so far.
//! Invariants: (1) a probe answers from the node's answer, never from a guess; (2) a metric that
//!             nobody counts is not shown; (3) a request is read within bounds of bytes and time.
//! Limits: HTTP1_HEAD_BYTES_MAX, HTTP1_BODY_BYTES_MAX, HTTP1_HEADERS_MAX.
//! Must not: read a clock or a file; be async outside `conn`.
//! Tests: http/tests.rs (routes, probes, connections over an in-memory pipe), metrics/tests.rs.

pub mod conn;
mod head;
pub mod metrics;
mod probe;
mod query;
mod reply;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::{Method, Request};

use super::ETCD_VERSION;
use super::http_call::{HttpHandler, HttpStep};
use metrics::MetricsSource;
pub use probe::HealthMeters;
use probe::Probe;
use query::Query;
use reply::{Origin, Reply};

/// What the requests of a listener may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything, to whom the two lists let in.
    Client {
        /// Origins whose pages may read the answers; `None`: all.
        cors: Option<Vec<String>>,
        /// Host names that a request in the clear may be for; `None`: all.
        host_whitelist: Option<Vec<String>>,
        /// Whether the listener speaks TLS, which needs no list of hosts.
        is_secure: bool,
    },
    /// Metrics and probes.
    Metrics,
}

/// Answers plain HTTP requests of one kind of listener.
pub struct Site {
    scope: Scope,
    source: Rc<dyn MetricsSource>,
    health: Arc<HealthMeters>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Site {
    /// A site over what `source` knows. `health` is one for all cores and listeners.
    #[must_use]
    pub fn new(scope: Scope, source: Rc<dyn MetricsSource>, health: Arc<HealthMeters>) -> Site {
        Site { scope, source, health }
    }

    /// What the lists say to a request: the origin to allow, or the host that nobody knows.
    fn admit(&self, request: &Request<Bytes>) -> Result<Origin, String> {
        let Scope::Client { cors, host_whitelist, is_secure } = &self.scope else {
            return Ok(Origin::Unsaid);
        };
        if let Some(hosts) = host_whitelist
            && !is_secure
        {
            let host = query::host_of(request);
            if !hosts.contains(&host) {
                return Err(host);
            }
        }
        let Some(origins) = cors else { return Ok(Origin::Any) };
        let origin = request.headers().get(header::ORIGIN);
        let allowed = origin
            .filter(|origin| origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()));
        Ok(allowed.map_or(Origin::Unsaid, |origin| Origin::One(origin.clone())))
    }

    fn route(&self, request: &Request<Bytes>, origin: &Origin) -> HttpStep {
        let path = request.uri().path();
        let done = |reply: Reply| HttpStep::Done(reply.with_origin(origin));
        if path == "/metrics" {
            let make = || metrics::exposition(&self.source.sample(), &self.health);
            let text = self.health.scrape(make);
            return done(Reply::metrics(text));
        }
        if let Some(probe) = self.probe(request, origin) {
            if request.method() != Method::GET {
                return done(Reply::method_not_allowed());
            }
            return Box::new(probe).begin();
        }
        if self.scope == Scope::Metrics {
            return done(Reply::not_found());
        }
        match path {
            "/version" | "/debug/vars" if request.method() != Method::GET => {
                done(Reply::method_not_allowed())
            }
            "/version" => done(Reply::json("application/json", version())),
            "/debug/vars" => {
                let text = metrics::debug_vars(&self.source.sample());
                done(Reply::json("application/json; charset=utf-8", text))
            }
            _ => done(Reply::not_found()),
        }
    }

    fn probe(&self, request: &Request<Bytes>, origin: &Origin) -> Option<Probe> {
        let query = Query::of(request.uri());
        let probe = Probe::find(request.uri().path(), &query)?;
        Some(probe.for_whom(origin.clone(), Arc::clone(&self.health)))
    }
}

impl HttpHandler for Site {
    fn begin(&self, request: Request<Bytes>) -> HttpStep {
        let origin = match self.admit(&request) {
            Ok(origin) => origin,
            Err(host) => {
                return HttpStep::Done(reply::misdirected(&host).with_origin(&Origin::Unsaid));
            }
        };
        let is_client = self.scope != Scope::Metrics;
        if is_client && request.method() == Method::OPTIONS {
            return HttpStep::Done(Reply::empty().with_origin(&origin));
        }
        let step = self.route(&request, &origin);
        match step {
            HttpStep::Done(mut response) if request.method() == Method::HEAD => {
                // The length stays in the headers: it is that of the answer to a GET.
                response.body_mut().clear();
                HttpStep::Done(response)
            }
            step => step,
        }
    }
}

fn version() -> String {
    let cluster = super::ETCD_STORAGE_VERSION;
    format!(
        "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{cluster}\",\
         \"storage\":\"{cluster}\"}}"
    )
}
