//! Random lives: entries, leaders, votes, releases, writes that end in any order, and crashes
//! that tear what is in flight. After each restart the log must hold what was acknowledged and
//! must never hold again what an earlier restart had discarded.

use std::collections::{BTreeSet, HashMap};

use super::*;

/// The checksum of each frame tells it apart; its predecessor's stands beside it.
struct Life {
    rig: Rig,
    prng: Prng,
    hard_state: HardState,
    commit: u64,
    salt: u64,
    sealed: HashMap<u32, (Entry, u32)>,
    /// Frames that a restart did not bring back.
    dead: BTreeSet<u32>,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut prng = Prng::new(seed);
        let lanes = 1 + prng.below(3) as u16;
        let depth = 1 + prng.below(3) as usize;
        Life {
            rig: Rig::new(layout(lanes, depth)),
            prng,
            hard_state: hard_state(1, 0, 0),
            commit: 0,
            salt: 0,
            sealed: HashMap::new(),
            dead: BTreeSet::new(),
        }
    }

    fn step(&mut self) {
        match self.prng.below(100) {
            0..=44 if self.rig.wal.has_free_lane() => self.append(),
            45..=49 if self.rig.wal.has_free_lane() => {
                if self.prng.percent(50) {
                    self.hard_state.term.0 += 1;
                    self.hard_state.vote = self.prng.below(4);
                }
                self.rig.stamp(Some(self.hard_state));
            }
            50..=89 if !self.rig.pending.is_empty() => {
                let at = self.prng.below(self.rig.pending.len() as u64);
                self.rig.finish(at as usize);
                self.commit = self.commit.max(self.rig.wal.durable().0.saturating_sub(3));
            }
            90..=92 if self.rig.base.index.0 < self.commit => {
                let upto = RaftIndex(self.commit);
                self.rig.base = self.rig.wal.point(upto).expect("what is committed is there");
                self.rig.wal.release(upto, &mut self.rig.pending);
            }
            _ => {}
        }
    }

    fn append(&mut self) {
        let last = self.rig.wal.last();
        let mut next = last.index.0 + 1;
        let mut term = last.term.0.max(1);
        if self.prng.percent(10) {
            self.hard_state.term.0 += 1;
            self.hard_state.vote = 0;
            let floor = self.commit + 1;
            next = floor + self.prng.below(next - floor + 1);
            term = self.hard_state.term.0;
        }
        let mut waiting: VecDeque<Entry> = (0..1 + self.prng.below(3))
            .map(|ahead| {
                self.salt += 1;
                entry(next + ahead, term, self.salt, self.prng.below(9000) as usize)
            })
            .collect();
        self.hard_state.commit = RaftIndex(self.commit);
        let before = self.rig.notes.len();
        let entries = waiting.clone();
        let out = &mut self.rig.pending;
        self.rig.wal.append(Tick(0), &mut waiting, Some(self.hard_state), out);
        self.rig.note();
        for (note, entry) in self.rig.notes[before..].iter().zip(entries) {
            let previous = note.preamble.head.previous_checksum;
            self.sealed.insert(note.preamble.checksum, (entry, previous));
        }
    }

    fn crash(&mut self) {
        let durable = self.rig.wal.durable();
        let (base, vote) = (self.rig.base.index.0, self.rig.wal.durable_hard_state());
        let point = |index| self.rig.wal.point(RaftIndex(index)).expect("a durable entry");
        let kept: Vec<ChainPoint> = (base + 1..=durable.0).map(point).collect();
        let mut prng = Prng::new(self.prng.next_u64());
        let percent = [0, 50, 90, 100][prng.below(4) as usize];
        self.rig.crash(|_, _| prng.percent(percent));
        let recovered = self.rig.recover().unwrap_or_else(|damage| panic!("{damage}"));
        let points: Vec<ChainPoint> = recovered.points().collect();
        assert!(points.starts_with(&kept), "an acknowledged entry is gone");
        let found = recovered.hard_state;
        assert!(found.term >= vote.term, "a term was forgotten");
        assert!(found.term > vote.term || vote.vote == 0 || found.vote == vote.vote, "a vote");
        let mut previous = self.rig.base.checksum;
        for (point, read) in points.iter().zip(recovered.entries(&self.rig.disk)) {
            let (written, before) = &self.sealed[&point.checksum];
            assert_eq!((&read.expect("just verified"), before), (written, &previous));
            assert!(!self.dead.contains(&point.checksum), "a dead frame came back to life");
            previous = point.checksum;
        }
        let alive: BTreeSet<u32> = points.iter().map(|point| point.checksum).collect();
        self.dead.extend(self.sealed.keys().filter(|checksum| !alive.contains(checksum)));
        self.hard_state = found;
        self.rig.layout = layout(1 + prng.below(3) as u16, 1 + prng.below(3) as usize);
        self.rig.restart().expect("it was read a moment ago");
    }
}

#[test]
fn random_lives_keep_what_they_acknowledged() {
    for seed in 0..120 {
        let mut life = Life::new(seed);
        for _ in 0..6 {
            for _ in 0..life.prng.below(120) {
                life.step();
            }
            if life.rig.notes.is_empty() {
                life.append();
            }
            // Something must have been durable once, or an empty log would be no loss.
            if life.rig.wal.durable_hard_state() == HardState::default() {
                life.rig.finish_all();
            }
            life.crash();
        }
    }
}
