//! Mail between cores: it takes its time, but between two cores it never overtakes itself.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{CoreId, Tick};
use crate::node::Mail;

#[derive(Debug, Default)]
struct Path {
    letters: VecDeque<Mail>,
    /// When the last of them arrives.
    last: Tick,
}

/// Everything that is on its way.
#[derive(Debug, Default)]
pub struct Post {
    paths: BTreeMap<(CoreId, CoreId), Path>,
}

impl Post {
    /// Sends mail that takes `delay_ns`, or longer if what was sent before it does. When it
    /// arrives comes back.
    pub fn send(
        &mut self,
        now: Tick,
        (from, to): (CoreId, CoreId),
        mail: Mail,
        delay_ns: u64,
    ) -> Tick {
        let path = self.paths.entry((from, to)).or_default();
        path.letters.push_back(mail);
        path.last = path.last.max(Tick(now.0 + delay_ns));
        path.last
    }

    /// Takes the oldest mail of a path.
    pub fn take(&mut self, from: CoreId, to: CoreId) -> Option<Mail> {
        self.paths.get_mut(&(from, to))?.letters.pop_front()
    }

    /// Paths that have mail, in order.
    #[must_use]
    pub fn waiting(&self) -> Vec<(CoreId, CoreId)> {
        let filled = self.paths.iter().filter(|(_, path)| !path.letters.is_empty());
        filled.map(|(path, _)| *path).collect()
    }

    /// The mail of a path, oldest first.
    pub fn on(&self, from: CoreId, to: CoreId) -> impl Iterator<Item = &Mail> {
        self.paths.get(&(from, to)).into_iter().flat_map(|path| path.letters.iter())
    }
}
