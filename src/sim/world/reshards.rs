//! Between two lives the store may be written for another number of shards.

use super::World;
use crate::base::prng::Prng;
use crate::node::Boot;
use crate::node::reshard::{Failed, log_end};
use crate::router::Router;
use crate::sim::reshard::{Ended, Trouble, reshard};

/// Chosen so that no seed of tests/seeds.txt is concerned that was found before.
const RESHARD_SALT: u64 = 0x2_0000_0000;

/// Draws of their own, for a third of the seeds: the others are as they were.
pub(super) fn drawn(seed: u64) -> Option<Prng> {
    let mut prng = Prng::new(seed ^ RESHARD_SALT);
    prng.percent(33).then_some(prng)
}

impl World {
    /// Writes the store anew, now and then, perhaps not at the first attempt.
    pub(super) fn reshard(&mut self) {
        let Some(mut prng) = self.reshards.take() else { return };
        for _ in 0..prng.below(4) {
            self.attempt(&mut prng);
        }
        self.reshards = Some(prng);
    }

    fn attempt(&mut self, prng: &mut Prng) {
        let others = [1, 2, 3, 5, 8].into_iter().filter(|count| *count != self.plan.shards);
        let others: Vec<u16> = others.collect();
        let shards = others[prng.below(others.len() as u64) as usize];
        self.judge_log_end();
        let trouble = Trouble {
            cut_behind: prng.percent(40).then(|| prng.below(60)),
            fault_behind: prng.percent(20).then(|| prng.below(60)),
            no_space_percent: if prng.percent(15) { 1 + prng.below(30) } else { 0 },
        };
        let disks = (&self.disk, &mut self.pages);
        match reshard(&self.plan, disks, shards, trouble, prng) {
            Ok(new) => {
                self.note(|_| format!("the store has {shards} shards"));
                self.pages = new;
                self.plan.reshard(shards);
                self.report.resharded += 1;
            }
            Err(ended) => {
                let is_caused = match &ended {
                    Ended::Cut => true,
                    Ended::Failed(Failed::NoSpace { .. }) => trouble.no_space_percent > 0,
                    Ended::Failed(Failed::Fault { .. }) => trouble.fault_behind.is_some(),
                    Ended::Failed(_) => false,
                };
                assert!(is_caused, "a store was not written anew: {ended:?}");
                self.report.reshards_cut += 1;
            }
        }
    }

    /// What a reshard applies is committed: the judge has to see it before a checkpoint hides it.
    fn judge_log_end(&mut self) {
        let whose = self.plan.whose(true);
        let boot = Boot::recover(&self.disk, &self.pages, &whose, self.plan.layout);
        let boot = boot.unwrap_or_else(|refused| panic!("a start was refused: {refused}"));
        self.judge.crashed();
        self.judge.began(boot.recovered.base().index);
        let router = Router::new(whose.hash_seed, whose.shards);
        let batches = log_end(boot, whose.member, router).expect("a log of this program's own");
        for batch in batches {
            self.judge.committed(&batch, self.clock.now());
        }
    }
}
