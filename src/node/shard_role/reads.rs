//! Reads of one shard: at once where they are short, else in slices, between which they may wait
//! for pages.

use super::{ShardRole, Waiting};
use crate::base::limits::READ_SLICE_BYTES;
use crate::base::{CoreId, Revision};
use crate::node::mail::{CatchUp, Mail, ReadAsk, ReadId, ReadShare, ReadWhat};
use crate::node::view::Memo;
use crate::node::{Here, Outbox};
use crate::shard::eval::{Ask, Given, Page};
use crate::shard::mvcc::cursor::Budget;
use crate::shard::mvcc::range::{Progress, ShardRange};
use crate::shard::mvcc::source::Stop;
use crate::shard::store::{HashList, Store, StretchCursor};

/// A read under way.
#[derive(Debug)]
pub(super) enum Job {
    Asks(ReadId, Box<Asks>),
    Range(ReadId, Box<ShardRange>),
    Hash(ReadId, Box<HashList>),
    Stretch(CoreId, u64, Box<StretchCursor>),
}

/// Asks that are answered one behind the other.
#[derive(Debug)]
pub(super) struct Asks {
    at: Revision,
    /// The next one last.
    left: Vec<Ask>,
    given: Vec<(Ask, Given)>,
    memo: Memo,
}

impl Asks {
    fn step(&mut self, store: &Store) -> Result<(), Stop> {
        while let Some(ask) = self.left.last() {
            let given = match ask {
                Ask::Key(key) => Given::Key(store.at(key, self.at)?),
                Ask::Range(range, limit) => {
                    Given::Page(self.memo.page_at(store, range, self.at, *limit)?)
                }
                Ask::RangeAt(range, older, limit) => {
                    Given::Page(self.memo.page_at(store, range, *older, *limit)?)
                }
                Ask::LeaseKeys(id) => Given::Keys(store.keys_of_at(*id, self.at)?),
                Ask::LeaseRecords(id) => {
                    let keys = store.keys_of_at(*id, self.at)?;
                    let found = keys.iter().map(|key| store.at(key, self.at));
                    let found = found.collect::<Result<Vec<_>, Stop>>()?;
                    let records: Vec<_> = found.into_iter().flatten().collect();
                    Given::Page(Page { count: records.len() as u64, records })
                }
            };
            self.given.extend(self.left.pop().map(|ask| (ask, given)));
        }
        Ok(())
    }
}

impl ShardRole {
    /// Reads at a committed revision: applies up to it first, which never waits, since what is
    /// committed is in the ring.
    pub(in crate::node) fn read(&mut self, here: &mut Here, ask: ReadAsk, out: &mut Outbox) {
        if self.position < ask.position {
            self.follow_ring(here, out);
            here.advance_visible(out);
        }
        let job = match ask.what {
            ReadWhat::Asks(mut left) => {
                left.reverse();
                let (given, memo) = (Vec::with_capacity(left.len()), Memo::default());
                Job::Asks(ask.id, Box::new(Asks { at: ask.at, left, given, memo }))
            }
            ReadWhat::Range(range) => {
                Job::Range(ask.id, Box::new(ShardRange::new(range, &self.store)))
            }
            ReadWhat::Hash(of) => Job::Hash(ask.id, Box::new(HashList::new(of))),
        };
        self.slice(here, job, out);
    }

    /// A watcher that is behind asks for a stretch of history.
    pub(in crate::node) fn catch_up(&mut self, here: &mut Here, ask: CatchUp, out: &mut Outbox) {
        let CatchUp { core, number, range, after, upto, bytes_max, .. } = ask;
        let cursor = StretchCursor::new(range, after, upto, bytes_max);
        self.slice(here, Job::Stretch(core, number, Box::new(cursor)), out);
    }

    /// One slice of a read; what is left goes behind the others, or waits for its page.
    pub(super) fn slice(&mut self, here: &mut Here, mut job: Job, out: &mut Outbox) {
        match self.step(here, &mut job) {
            Ok(Some((core, mail))) => here.send(core, mail, out),
            Ok(None) => self.jobs.push_back(job),
            Err(stop) => {
                let awaited = self.wish(stop, out);
                self.waiting.push((awaited, Waiting::Read(job)));
            }
        }
    }

    /// What the read comes to, if it does in this slice.
    fn step(&self, here: &Here, job: &mut Job) -> Result<Option<(CoreId, Mail)>, Stop> {
        let keys = here.config.read_slice_records;
        let share = |id: ReadId, share| Some((id.core, Mail::Share(id, self.id, share)));
        Ok(match job {
            Job::Asks(id, asks) => {
                asks.step(&self.store)?;
                share(*id, ReadShare::Given(std::mem::take(&mut asks.given)))
            }
            Job::Range(id, range) => {
                let budget = Budget { keys, bytes: READ_SLICE_BYTES };
                match range.step(&self.store, budget)? {
                    Progress::Done(run) => share(*id, ReadShare::Run(run)),
                    Progress::Paused => None,
                }
            }
            Job::Hash(id, list) => match list.step(&self.store, keys)? {
                true => {
                    let list = std::mem::replace(list, Box::new(HashList::new(list.of())));
                    share(*id, ReadShare::Hash(list.finish()))
                }
                false => None,
            },
            Job::Stretch(core, number, cursor) => {
                let compact = self.store.compact_revision();
                let stretch = if cursor.after().next() < compact {
                    Err(compact)
                } else {
                    let Some(stretch) = cursor.step(&self.store)? else { return Ok(None) };
                    Ok(stretch)
                };
                Some((*core, Mail::Stretch(*number, self.id, stretch)))
            }
        })
    }
}
