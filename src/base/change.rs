//! What a watcher that catches up asks a shard for.

use std::sync::Arc;

use super::Revision;
use super::record::Record;

/// One change of a key and what it replaced.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version that the change made.
    pub record: Arc<Record>,
    /// The key's version below the change's revision; none if it did not exist then or was
    /// compacted away.
    pub previous: Option<Arc<Record>>,
}

/// A shard's changes in a stretch of history, by revision and sub.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    /// All changes up to and including this revision are here.
    pub reached: Revision,
    /// The changes.
    pub changes: Vec<Change>,
}
