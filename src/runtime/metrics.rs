//! The counters of all cores, for whoever scrapes.

use std::sync::{Arc, OnceLock};

use crate::frontend::meters::Meters;
use crate::watch::WatchMetrics;

/// One core's counters.
#[derive(Debug, Default)]
pub(super) struct CoreMetrics {
    /// What its connections count.
    pub(super) frontend: Arc<Meters>,
    watch: OnceLock<Arc<WatchMetrics>>,
}

impl CoreMetrics {
    /// The hub's counters, once it is there.
    pub(super) fn set_watch(&self, metrics: Arc<WatchMetrics>) {
        self.watch.set(metrics).expect("a core has one hub");
    }
}
