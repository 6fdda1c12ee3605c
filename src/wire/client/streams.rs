//! The streams of one connection that are open, found by their number.

use hashbrown::HashTable;
use slab::Slab;

use super::gather::Gather;

/// One call under way.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// The caller's name for it.
    pub(super) tag: u64,
    /// What the server lets us send.
    pub(super) send_window: i64,
    /// Taken from our window and not given back.
    pub(super) received: u32,
    pub(super) gather: Gather,
    /// Framed messages that wait for the server's window.
    pub(super) unsent: Vec<u8>,
    pub(super) unsent_at: usize,
    /// Nothing follows what is unsent.
    pub(super) is_last_queued: bool,
    /// Our direction is closed on the wire.
    pub(super) is_sent: bool,
    /// `:status` of the answer, once its head is there.
    pub(super) http_status: Option<u16>,
    /// Set while the stream waits in the list of blocked ones.
    pub(super) is_blocked: bool,
}

impl Stream {
    pub(super) fn unsent_len(&self) -> usize {
        self.unsent.len() - self.unsent_at
    }
}

/// Open streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: Slab<Stream>,
    by_id: HashTable<(u32, u32)>,
}

fn hash(id: u32) -> u64 {
    // Our own numbers, odd and consecutive: a multiplication spreads them.
    u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn insert(&mut self, id: u32, tag: u64, send_window: i64) {
        let place = self.open.insert(Stream {
            id,
            tag,
            send_window,
            received: 0,
            gather: Gather::default(),
            unsent: Vec::new(),
            unsent_at: 0,
            is_last_queued: false,
            is_sent: false,
            http_status: None,
            is_blocked: false,
        });
        let place = u32::try_from(place).expect("fewer streams than stream numbers");
        self.by_id.insert_unique(hash(id), (id, place), |(id, _)| hash(*id));
    }

    pub(super) fn find(&mut self, id: u32) -> Option<&mut Stream> {
        let (_, place) = self.by_id.find(hash(id), |(there, _)| *there == id)?;
        self.open.get_mut(*place as usize)
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Stream> {
        let entry = self.by_id.find_entry(hash(id), |(there, _)| *there == id).ok()?;
        let ((_, place), _) = entry.remove();
        Some(self.open.remove(place as usize))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.open.iter_mut().map(|(_, stream)| stream)
    }

    /// The numbers of open streams above `last`.
    pub(super) fn above(&self, last: u32) -> Vec<u32> {
        self.open.iter().map(|(_, stream)| stream.id).filter(|id| *id > last).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_found_and_forgotten() {
        let mut streams = Streams::default();
        for id in (1..2_000).step_by(2) {
            streams.insert(id, u64::from(id) * 10, 1);
        }
        assert_eq!(streams.len(), 1_000);
        for id in (1..2_000).step_by(4) {
            assert_eq!(streams.remove(id).map(|stream| stream.tag), Some(u64::from(id) * 10));
            assert!(streams.remove(id).is_none() && streams.find(id).is_none());
        }
        assert_eq!(streams.find(1_999).map(|stream| stream.tag), Some(19_990));
        assert_eq!(streams.above(1_997), [1_999]);
        assert!(streams.above(1_999).is_empty());
    }
}
