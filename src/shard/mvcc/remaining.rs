//! What is left of lists that are read page by page.
//!
//! Kubernetes reads a long list at one revision and takes from each page how much is left. To count
//! that anew for every page costs what changed since the list began, page for page. It is known: a
//! page has the count of its range, so that of the range behind it follows. What was counted at a
//! revision stays true.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::range::wanted;
use crate::base::Revision;
use crate::base::limits::{REMAINING_KEY_BYTES_MAX, REMAINING_MAX};
use crate::wire::call::RangeAnswer;
use crate::wire::etcdserverpb::RangeRequest;
use crate::wire::etcdserverpb::range_request::SortTarget;

/// Revision, end of the range, and where it goes on.
type Place = (Revision, Bytes, Bytes);

/// Counts of ranges that may be asked for next.
#[derive(Debug, Default)]
pub struct Remaining {
    counts: BTreeMap<Place, u64>,
    /// The oldest first.
    order: VecDeque<Place>,
}

impl Remaining {
    /// Live keys of the range that is asked for at a revision, if a page before it told.
    #[must_use]
    pub fn of(&self, at: Revision, request: &RangeRequest) -> Option<u64> {
        if self.counts.is_empty() || request.range_end.is_empty() {
            return None;
        }
        self.counts.get(&(at, request.range_end.clone(), request.key.clone())).copied()
    }

    /// Notes what is left behind a page.
    pub fn note(&mut self, at: Revision, request: &RangeRequest, answer: &RangeAnswer) {
        let is_in_order = wanted(request).is_some() && request.sort_target() == SortTarget::Key;
        let last = answer.records.last().filter(|_| answer.more && is_in_order);
        let Some(last) = last else { return };
        let left = answer.count.checked_sub(answer.records.len() as u64);
        let key_bytes = last.key().len() + request.range_end.len();
        let Some(left) = left.filter(|_| key_bytes < REMAINING_KEY_BYTES_MAX) else { return };
        let next = [last.key(), &[0]].concat();
        // Copies: what is kept must not keep a message or a page.
        let place = (at, Bytes::copy_from_slice(&request.range_end), Bytes::from(next));
        if self.counts.insert(place.clone(), left).is_some() {
            return;
        }
        self.order.push_back(place);
        if self.order.len() > REMAINING_MAX {
            let oldest = self.order.pop_front().expect("more than none");
            self.counts.remove(&oldest);
        }
    }
}
