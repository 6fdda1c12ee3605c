//! Which core does what. Cores serve; shards and the orderer are placed on them.

use crate::base::batch::ShardSet;
use crate::base::{CoreId, ShardId};
use crate::router::Router;

/// The fixed placement of one process.
#[derive(Clone, Debug)]
pub struct Topology {
    cores: u16,
    router: Router,
    homes: Vec<CoreId>,
}

impl Topology {
    /// Core of the orderer, the coordinator and the lease table.
    pub const ORDERER: CoreId = CoreId(0);

    /// Places `router`'s shards on `cores` cores. Up to 15 cores the orderer's core owns shards
    /// too; from 16 on it owns none.
    #[must_use]
    pub fn new(cores: u16, router: Router) -> Topology {
        assert!(cores >= 1, "a process has at least one core");
        let first = u16::from(cores >= 16);
        let homes = (0..router.shards()).map(|shard| CoreId(first + shard % (cores - first)));
        Topology { cores, router, homes: homes.collect() }
    }

    /// The shards that a data dir made on this machine gets by default.
    #[must_use]
    pub fn default_shards(cores: u16) -> u16 {
        (cores / 4).clamp(1, crate::base::limits::SHARDS_MAX)
    }

    /// How many cores there are.
    #[must_use]
    pub fn cores(&self) -> u16 {
        self.cores
    }

    /// All cores.
    pub fn all_cores(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..self.cores).map(CoreId)
    }

    /// Whether a core takes connections: the orderer's does not from 8 cores on.
    #[must_use]
    pub fn serves(&self, core: CoreId) -> bool {
        core != Topology::ORDERER || self.cores < 8
    }

    /// Which shard owns which key.
    #[must_use]
    pub fn router(&self) -> Router {
        self.router
    }

    /// The core that owns a shard.
    #[must_use]
    pub fn home(&self, shard: ShardId) -> CoreId {
        self.homes[shard.0 as usize]
    }

    /// The shards of a core.
    #[must_use]
    pub fn shards_on(&self, core: CoreId) -> ShardSet {
        let mut set = ShardSet::default();
        for shard in self.router.all().iter().filter(|shard| self.home(*shard) == core) {
            set.insert(shard);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_few_and_leave_a_large_machines_orderer_alone() {
        for (cores, shards) in [(1, 1), (2, 1), (4, 1), (8, 2), (16, 4), (64, 16), (256, 16)] {
            assert_eq!(Topology::default_shards(cores), shards, "{cores} cores");
            let topology = Topology::new(cores, Router::new(1, shards));
            let homes: Vec<CoreId> =
                topology.router().all().iter().map(|s| topology.home(s)).collect();
            assert!(homes.iter().all(|core| core.0 < cores));
            assert_eq!(homes.contains(&Topology::ORDERER), cores < 16, "{cores} cores");
        }
    }

    #[test]
    fn more_shards_than_cores_share_them() {
        let topology = Topology::new(2, Router::new(1, 5));
        assert_eq!(topology.shards_on(CoreId(0)).len(), 3);
        assert_eq!(topology.shards_on(CoreId(1)).len(), 2);
    }
}
