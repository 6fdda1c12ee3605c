//! Reads that this core has taken on: each at one committed revision, assembled from the shards'
//! shares, and held against compaction until it ends.

use std::collections::BTreeMap;

use super::coordinator::shards_of_ask;
use super::mail::{LeaseLeft, Mail, Origin, ReadAsk, ReadId, ReadShare, ReadWhat};
use super::{Here, Outbox, Topology};
use crate::base::limits::HASH_SLICE_RECORDS;
use crate::base::shared::Position;
use crate::base::{Revision, ShardId, Tick};
use crate::shard::eval::{self, Ask, Conditions, Gathered, Stop, Write};
use crate::shard::mvcc::hash::{HashOf, HashSum, Hashed};
use crate::shard::mvcc::range::{self, Gather, Run};
use crate::shard::mvcc::remaining::Remaining;
use crate::shard::mvcc::source::AsOf;
use crate::wire::call::{Answer, Reply, Request};
use crate::wire::etcdserverpb::request_op::Request as Op;
use crate::wire::etcdserverpb::{RangeRequest, TxnRequest};

/// What is read and what has come of it so far.
#[derive(Debug)]
enum Kind {
    Range(Option<Box<Gather>>),
    Txn(TxnRequest, Gathered),
    LeaseKeys(LeaseLeft, Gathered),
    /// Counts first: whether anything is live decides what counts.
    HashKv(HashOf, u64),
    HashList(HashOf, WhichHash, Vec<Vec<Hashed>>),
    HashSum(HashOf, WhichHash, Box<HashSum>),
}

/// Which hash is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhichHash {
    /// What etcd's HashKV sums up.
    Kv,
    /// Every version held.
    Everything,
}

#[derive(Debug)]
struct Reading {
    origin: Origin,
    kind: Kind,
    /// K when it began: the header, and what `newest` means for it.
    at: Revision,
    position: Position,
    /// The compact revision when it began: compared with once, and good until the end.
    compact: Revision,
    /// Oldest revision that it reads.
    held: Revision,
    awaited: usize,
    begun: Tick,
}

/// This core's reads.
#[derive(Debug, Default)]
pub(super) struct Reader {
    readings: BTreeMap<u64, Reading>,
    next: u64,
    /// How many reads hold each revision.
    holds: BTreeMap<Revision, usize>,
    /// Compact revisions that wait until nothing below them is held.
    unholds: Vec<Revision>,
    /// Hashes whose lists are complete and are summed up in slices.
    summing: Vec<u64>,
    /// What is left of lists that are read page by page.
    remaining: Remaining,
}

/// Whether a request is a Txn of ranges only: a read as of one revision.
pub(super) fn is_read_only(request: &Request) -> bool {
    let Request::Txn(txn) = request else { return false };
    txn.success.iter().chain(&txn.failure).all(|op| matches!(op.request, Some(Op::RequestRange(_))))
}

impl Reader {
    /// Reads a range.
    pub(super) fn range(
        &mut self,
        here: &mut Here,
        origin: Origin,
        request: RangeRequest,
        out: &mut Outbox,
    ) {
        let (newest, position) = here.shared.committed();
        let compact = here.shared.compact_revision();
        let at = match range::revision_of(request.revision, newest, compact) {
            Ok(at) => at,
            Err(reject) => return here.answer(origin, Err(reject), out),
        };
        let router = here.topology.router();
        let shards = router.shards_of(&eval::request_range(&request));
        let known = self.remaining.of(at, &request);
        let gather = Gather::new(request, AsOf::At(at), usize::from(router.shards()));
        let gather = gather.knowing(known);
        let ask = gather.first_ask();
        let asks = shards.iter().map(|shard| (shard, ReadWhat::Range(ask.clone()))).collect();
        let kind = Kind::Range(Some(Box::new(gather)));
        let begun = here.now;
        let reading =
            Reading { origin, kind, at: newest, position, compact, held: at, awaited: 0, begun };
        self.begin(here, reading, asks, out);
    }

    /// Reads by a Txn that cannot write: compares and ranges as of one revision.
    pub(super) fn txn(
        &mut self,
        here: &mut Here,
        origin: Origin,
        txn: TxnRequest,
        out: &mut Outbox,
    ) {
        let (at, position) = here.shared.committed();
        let compact = here.shared.compact_revision();
        let held = oldest_read(&txn, compact).unwrap_or(at).min(at);
        let kind = Kind::Txn(txn, Gathered::new());
        let begun = here.now;
        let reading = Reading { origin, kind, at, position, compact, held, awaited: 0, begun };
        self.begin(here, reading, Vec::new(), out);
    }

    /// Reads the keys of a lease.
    pub(super) fn lease_keys(
        &mut self,
        here: &mut Here,
        origin: Origin,
        lease: LeaseLeft,
        out: &mut Outbox,
    ) {
        let (at, position) = here.shared.committed();
        let compact = here.shared.compact_revision();
        let asks = here.topology.router().all().iter();
        let asks =
            asks.map(|shard| (shard, ReadWhat::Asks(vec![Ask::LeaseKeys(lease.id)]))).collect();
        let kind = Kind::LeaseKeys(lease, Gathered::new());
        let begun = here.now;
        let reading = Reading { origin, kind, at, position, compact, held: at, awaited: 0, begun };
        self.begin(here, reading, asks, out);
    }

    /// Hashes all records up to a revision, 0 for the newest, as etcd does.
    pub(super) fn hash_kv(
        &mut self,
        here: &mut Here,
        origin: Origin,
        asked: Revision,
        out: &mut Outbox,
    ) {
        let (newest, position) = here.shared.committed();
        let compact = here.shared.compact_revision();
        let revision = match range::revision_of(asked.0, newest, compact) {
            Ok(revision) => revision,
            Err(reject) => return here.answer(origin, Err(reject), out),
        };
        if asked.0 < 0 {
            // Nothing stands at or below a negative revision: the sum of an empty list.
            let hash = HashSum::new(Vec::new()).step(1).expect("an empty list is summed at once");
            let answer = Answer::HashKv { revision: newest, hash, compact, hashed: asked };
            return here.answer(origin, Ok(answer), out);
        }
        let of = HashOf { revision, compact, any_live: false };
        // What a later compaction forgets counts, so all of it is held.
        let held = compact.max(Revision(0));
        let all = RangeRequest {
            key: bytes::Bytes::from_static(&[0]),
            range_end: bytes::Bytes::from_static(&[0]),
            count_only: true,
            ..RangeRequest::default()
        };
        let ask = Gather::new(all, AsOf::At(revision), 1).first_ask();
        let shards = here.topology.router().all().iter();
        let asks = shards.map(|shard| (shard, ReadWhat::Range(ask.clone()))).collect();
        let kind = Kind::HashKv(of, 0);
        let begun = here.now;
        let reading =
            Reading { origin, kind, at: newest, position, compact, held, awaited: 0, begun };
        self.begin(here, reading, asks, out);
    }

    /// Hashes every version held, in etcd's record form, up to the newest revision.
    pub(super) fn hash(&mut self, here: &mut Here, origin: Origin, out: &mut Outbox) {
        let (at, position) = here.shared.committed();
        let of = HashOf { revision: at, compact: Revision(-1), any_live: true };
        let shards = here.topology.router().all().iter();
        let asks = shards.map(|shard| (shard, ReadWhat::Hash(of))).collect();
        let kind = Kind::HashList(of, WhichHash::Everything, Vec::new());
        let (compact, held) = (of.compact, Revision(0));
        let begun = here.now;
        let reading = Reading { origin, kind, at, position, compact, held, awaited: 0, begun };
        self.begin(here, reading, asks, out);
    }

    /// A shard has answered.
    pub(super) fn share(
        &mut self,
        here: &mut Here,
        id: ReadId,
        shard: ShardId,
        share: ReadShare,
        out: &mut Outbox,
    ) {
        let mut reading = self.readings.remove(&id.number).expect("a share of a read under way");
        match (&mut reading.kind, share) {
            (Kind::Range(Some(gather)), ReadShare::Run(run)) => {
                gather.add(usize::from(shard.0), run)
            }
            (Kind::HashKv(_, count), ReadShare::Run(Run { count: more, .. })) => *count += more,
            (Kind::HashList(_, _, lists), ReadShare::Hash(list)) => lists.push(list),
            (Kind::Txn(_, gathered) | Kind::LeaseKeys(_, gathered), ReadShare::Given(given)) => {
                given.into_iter().for_each(|(ask, given)| gathered.give(ask, given))
            }
            (kind, share) => unreachable!("{kind:?} was answered with {share:?}"),
        }
        reading.awaited -= 1;
        self.go_on(here, id.number, reading, out);
    }

    /// Says when nothing below `below` is held on this core any more: at once, or later.
    pub(super) fn unhold(&mut self, here: &mut Here, below: Revision, out: &mut Outbox) {
        self.unholds.push(below);
        self.answer_unholds(here, out);
    }

    /// Whether there is something to sum up.
    pub(super) fn has_work(&self) -> bool {
        !self.summing.is_empty()
    }

    /// Sums up hashes. True if there is more of it.
    pub(super) fn background(&mut self, here: &mut Here, out: &mut Outbox) -> bool {
        let Some(number) = self.summing.pop() else { return false };
        let mut reading = self.readings.remove(&number).expect("a sum belongs to a read");
        let Kind::HashSum(of, hashed, sum) = &mut reading.kind else {
            unreachable!("a sum belongs to a hash")
        };
        match sum.step(HASH_SLICE_RECORDS) {
            None => {
                self.readings.insert(number, reading);
                self.summing.insert(0, number);
            }
            Some(hash) => {
                let revision = reading.at;
                let took_ns = here.now.since(reading.begun);
                let answer = match hashed {
                    WhichHash::Everything => {
                        here.metrics.hashes.observe_ns(took_ns);
                        Answer::Hash { revision, hash }
                    }
                    WhichHash::Kv => {
                        here.metrics.kv_hashes.observe_ns(took_ns);
                        let HashOf { revision: hashed, compact, .. } = *of;
                        Answer::HashKv { revision, hash, compact, hashed }
                    }
                };
                self.end(here, reading, Ok(answer), out);
            }
        }
        !self.summing.is_empty()
    }

    fn begin(
        &mut self,
        here: &mut Here,
        mut reading: Reading,
        asks: Vec<(ShardId, ReadWhat)>,
        out: &mut Outbox,
    ) {
        *self.holds.entry(reading.held).or_default() += 1;
        here.metrics.reads.add(1);
        self.next += 1;
        let number = self.next;
        self.ask(here, number, &mut reading, asks, out);
        self.go_on(here, number, reading, out);
    }

    fn ask(
        &self,
        here: &mut Here,
        number: u64,
        reading: &mut Reading,
        asks: Vec<(ShardId, ReadWhat)>,
        out: &mut Outbox,
    ) {
        let id = ReadId { core: here.core, number };
        for (shard, what) in asks {
            reading.awaited += 1;
            let ask = ReadAsk { id, shard, position: reading.position, at: reading.at, what };
            here.send(here.topology.home(shard), Mail::Read(ask), out);
        }
    }

    /// Everything asked for is there, or the reading waits on.
    fn go_on(&mut self, here: &mut Here, number: u64, mut reading: Reading, out: &mut Outbox) {
        while reading.awaited == 0 {
            let asks = match self.next_asks(here, number, &mut reading) {
                Next::Ask(asks) => asks,
                Next::Sum => break,
                Next::End(reply) => return self.end(here, reading, reply, out),
            };
            self.ask(here, number, &mut reading, asks, out);
        }
        self.readings.insert(number, reading);
    }

    fn next_asks(&mut self, here: &Here, number: u64, reading: &mut Reading) -> Next {
        let router = here.topology.router();
        let (at, compact) = (reading.at, reading.compact);
        match &mut reading.kind {
            Kind::Range(held) => {
                let gather = held.take().expect("a range is finished once");
                let further = gather.further_asks();
                if further.is_empty() {
                    return Next::End(Ok(Answer::Range(gather.finish(at, &mut self.remaining))));
                }
                *held = Some(gather);
                let shard = |shard: usize| ShardId(u16::try_from(shard).expect("few shards"));
                let further = further.into_iter();
                Next::Ask(further.map(|(s, ask)| (shard(s), ReadWhat::Range(ask))).collect())
            }
            Kind::Txn(txn, gathered) => match read_txn(txn, gathered, at, compact) {
                Err(Stop::Refused(reject)) => Next::End(Err(reject)),
                Ok(answer) => Next::End(Ok(answer)),
                Err(Stop::Missing) => {
                    let mut by_shard: BTreeMap<ShardId, Vec<Ask>> = BTreeMap::new();
                    for ask in gathered.take_missing() {
                        for shard in shards_of_ask(&ask, router).iter() {
                            by_shard.entry(shard).or_default().push(ask.clone());
                        }
                    }
                    let asks = by_shard.into_iter();
                    Next::Ask(asks.map(|(shard, asks)| (shard, ReadWhat::Asks(asks))).collect())
                }
            },
            Kind::LeaseKeys(lease, gathered) => {
                let keys = gathered.lease_keys(lease.id).expect("every shard was asked").to_vec();
                let LeaseLeft { id, ttl_s, granted_s } = *lease;
                Next::End(Ok(Answer::LeaseTimeToLive { revision: at, id, ttl_s, granted_s, keys }))
            }
            Kind::HashKv(of, count) => {
                let of = HashOf { any_live: *count > 0, ..*of };
                reading.kind = Kind::HashList(of, WhichHash::Kv, Vec::new());
                let shards = router.all().iter();
                Next::Ask(shards.map(|shard| (shard, ReadWhat::Hash(of))).collect())
            }
            Kind::HashList(of, hashed, lists) => {
                let sum = HashSum::new(std::mem::take(lists));
                reading.kind = Kind::HashSum(*of, *hashed, Box::new(sum));
                self.summing.push(number);
                Next::Sum
            }
            Kind::HashSum(..) => Next::Sum,
        }
    }

    fn end(&mut self, here: &mut Here, reading: Reading, reply: Reply, out: &mut Outbox) {
        here.answer(reading.origin, reply, out);
        here.metrics.reads.add(-1);
        let count = self.holds.get_mut(&reading.held).expect("a read holds its revision");
        *count -= 1;
        if *count == 0 {
            self.holds.remove(&reading.held);
            self.answer_unholds(here, out);
        }
    }

    fn answer_unholds(&mut self, here: &mut Here, out: &mut Outbox) {
        let oldest = self.holds.keys().next().copied();
        let core = here.core;
        self.unholds.retain(|below| {
            let held = oldest.is_some_and(|oldest| oldest < *below);
            if !held {
                here.send(Topology::ORDERER, Mail::Unheld(core, *below), out);
            }
            held
        });
    }
}

enum Next {
    Ask(Vec<(ShardId, ReadWhat)>),
    Sum,
    End(Reply),
}

fn read_txn(
    txn: &TxnRequest,
    gathered: &Gathered,
    at: Revision,
    compact: Revision,
) -> Result<Answer, Stop> {
    let conditions =
        Conditions { current: at, compact, no_space: false, corrupt: false, quota_left: None };
    let view = gathered.with_leases(|id| unreachable!("a range names lease {id}"));
    let plan = eval::plan(&view, &conditions, Write::Txn(txn))?;
    assert!(!plan.writes, "a transaction of ranges was planned to write");
    Ok(eval::materialise(&view, &plan, at).answer)
}

/// The oldest revision that a transaction's ranges name and may read; one below the compact
/// revision may stand in the branch that is not taken.
fn oldest_read(txn: &TxnRequest, compact: Revision) -> Option<Revision> {
    let ops = txn.success.iter().chain(&txn.failure);
    let named = ops.filter_map(|op| match &op.request {
        Some(Op::RequestRange(range)) if range.revision > 0 => Some(Revision(range.revision)),
        _ => None,
    });
    named.filter(|named| *named >= compact).min()
}
