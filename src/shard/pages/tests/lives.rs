//! Random lives: checkpoints whose writes end in any order, reads between them, want of space,
//! and crashes that lose and tear what was not synced. After each crash the newest checkpoint
//! that was reported durable opens whole, or the one that was under way.

use std::collections::BTreeMap;

use super::*;

/// What is to be done to the leaves by the checkpoint under way.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Add,
    Replace,
    Remove,
}

/// A store of leaves below one root page, which lists them.
struct Life {
    rig: Rig,
    prng: Prng,
    seeds: u64,
    /// Leaves of each checkpoint that was sealed: reference and content's seed and length.
    sealed: BTreeMap<u64, Vec<Leaf>>,
    leaves: Vec<Leaf>,
    edits: Option<Vec<Edit>>,
    crashes: usize,
    abandoned: usize,
}

type Leaf = (PageRef, u64, usize);

impl Life {
    fn new(seed: u64) -> Life {
        let mut prng = Prng::new(seed);
        let rig = Rig::new(prng.below(100_000) as usize);
        Life {
            rig,
            prng,
            seeds: seed << 20,
            sealed: BTreeMap::from([(0, Vec::new())]),
            leaves: Vec::new(),
            edits: None,
            crashes: 0,
            abandoned: 0,
        }
    }

    fn sequence(&self) -> u64 {
        self.rig.file.newest().sequence
    }

    fn step(&mut self) {
        match self.prng.below(100) {
            0..=39 => self.write(),
            40..=84 if !self.rig.pending.is_empty() => {
                let at = self.prng.below(self.rig.pending.len() as u64) as usize;
                self.finish(at);
            }
            85..=92 => self.read(),
            93 if self.rig.file.is_idle() => self.rig.file.punch(),
            94 => self.crash(),
            _ => {}
        }
        self.rig.tend();
    }

    fn finish(&mut self, at: usize) {
        let is_page = matches!(
            self.rig.pending[at].0.action,
            Action::Write { unit, .. } if unit >= SUPERBLOCK_UNITS
        );
        let has_space = !is_page || !self.prng.percent(1);
        let result = if has_space { Ok(()) } else { Err(DiskFault::NoSpace) };
        self.rig.finish_with(at, result).unwrap_or_else(|fault| panic!("{fault}"));
        if self.rig.done.pop() == Some(Done::NoSpace) {
            self.abandoned += 1;
            self.edits = None;
            self.leaves = self.sealed[&self.sequence()].clone();
        }
    }

    fn write(&mut self) {
        let is_idle = self.rig.file.is_idle();
        match self.edits.as_mut().map(Vec::pop) {
            None if is_idle => {
                let kinds = [Edit::Add, Edit::Add, Edit::Replace, Edit::Replace, Edit::Remove];
                let edit = |prng: &mut Prng| kinds[prng.below(5) as usize];
                let count = self.prng.below(12);
                self.edits = Some((0..count).map(|_| edit(&mut self.prng)).collect());
                self.rig.file.begin();
            }
            None => {}
            Some(Some(edit)) => self.edit(edit),
            Some(None) => self.seal(),
        }
    }

    fn edit(&mut self, edit: Edit) {
        let victim = self.prng.below(self.leaves.len() as u64) as usize;
        if !matches!(edit, Edit::Add) && !self.leaves.is_empty() {
            let (at, ..) = self.leaves.swap_remove(victim);
            self.rig.file.free(at);
        }
        if !matches!(edit, Edit::Remove) {
            self.seeds += 1;
            let len_max = if self.prng.percent(50) { 500 } else { 20_000 };
            let len = 1 + self.prng.below(len_max) as usize;
            let at = self.rig.file.write(content(self.seeds, len).into());
            self.leaves.push((at, self.seeds, len));
        }
    }

    fn seal(&mut self) {
        let newest = *self.rig.file.newest();
        if let Some(root) = newest.state.roots.current {
            self.rig.file.free(root.page);
        }
        let mut page = (self.leaves.len() as u32).to_le_bytes().to_vec();
        self.leaves.iter().for_each(|(at, ..)| page.extend_from_slice(&at.encode()));
        let root = self.rig.file.write(page.clone().into());
        let sequence = newest.sequence + 1;
        self.rig.file.seal(state(sequence as i64 + 1, Some(root)));
        self.sealed.insert(sequence, self.leaves.clone());
        // The checkpoint is out of the tree's hands, and the next cannot begin before it ends.
        self.edits = None;
    }

    /// A leaf of the newest roots, or of those to come, by way of the cache.
    fn read(&mut self) {
        let durable = &self.sealed[&self.sequence()];
        let leaves = if self.prng.percent(50) { durable } else { &self.leaves };
        if leaves.is_empty() {
            return;
        }
        let (at, seed, len) = leaves[self.prng.below(leaves.len() as u64) as usize];
        match self.rig.file.page(at) {
            Some(page) => assert_eq!(page, content(seed, len)),
            None => assert!(self.rig.file.wish(at), "few are wished for"),
        }
    }

    fn crash(&mut self) {
        self.crashes += 1;
        let durable = self.sequence();
        let rig = std::mem::replace(&mut self.rig, Rig::new(0));
        self.rig = rig.crash(&mut self.prng).unwrap_or_else(|refusal| panic!("{refusal}"));
        let found = self.sequence();
        assert!(found == durable || found == durable + 1, "{found} opened behind {durable}");
        let leaves = self.sealed.get(&found).expect("a checkpoint that was sealed").clone();
        self.check_whole(&leaves);
        self.sealed.retain(|sequence, _| *sequence <= found);
        self.leaves = leaves;
        self.edits = None;
    }

    /// Reads everything that the newest superblock reaches, and learns from it what is free.
    fn check_whole(&mut self, expected: &[Leaf]) {
        let newest = *self.rig.file.newest();
        let Some(root) = newest.state.roots.current else {
            assert_eq!((newest.sequence, expected.len()), (0, 0));
            return;
        };
        assert_eq!(newest.state, state(newest.sequence as i64 + 1, Some(root.page)));
        let page = self.rig.load(root.page).unwrap_or_else(|fault| panic!("{fault}"));
        let (mut count, rest) = page.split_at(4);
        assert_eq!(count.get_u32_le() as usize, expected.len());
        let mut extents = vec![root.page.extent()];
        for (encoded, (at, seed, len)) in
            rest.chunks(PageRef::ENCODED_BYTES).zip(expected.iter().copied())
        {
            assert_eq!(PageRef::decode(encoded), Ok(at));
            let leaf = self.rig.load(at).unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!(leaf, content(seed, len), "{at:?}");
            extents.push(at.extent());
        }
        self.rig.file.adopt(extents).unwrap_or_else(|fault| panic!("{fault}"));
    }
}

#[test]
fn every_crash_brings_back_a_whole_checkpoint() {
    let (mut checkpoints, mut crashes, mut abandoned) = (0, 0, 0);
    for seed in 0..3_000 {
        let mut life = Life::new(seed);
        (0..300).for_each(|_| life.step());
        life.crash();
        checkpoints += life.sequence();
        crashes += life.crashes;
        abandoned += life.abandoned;
    }
    let counts = (checkpoints, crashes, abandoned);
    assert!(checkpoints > 10_000 && crashes > 5_000 && abandoned > 500, "{counts:?}");
}
