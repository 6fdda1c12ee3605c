//! router — which shard owns a key.
//! Step 1 of a write. In: keys. Out: shards.
//! Owns: the count of shards and the seed, both fixed when the data dir is made.
//! Invariants: (1) the same key, seed and count always give the same shard.
//! Limits: SHARDS_MAX.
//! Must not: be written to the log; know what a request means.
//! Tests: here.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::base::ShardId;
use crate::base::batch::ShardSet;
use crate::base::limits::SHARDS_MAX;
use crate::base::range::KeyRange;

/// Maps keys to shards by a hash of the whole key, so that a hot prefix spreads.
#[derive(Clone, Copy, Debug)]
pub struct Router {
    seed: u64,
    shards: u16,
}

impl Router {
    /// A router over `shards` shards, at least one.
    #[must_use]
    pub fn new(seed: u64, shards: u16) -> Router {
        assert!((1..=SHARDS_MAX).contains(&shards), "{shards} shards");
        Router { seed, shards }
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(self) -> u16 {
        self.shards
    }

    /// All shards.
    #[must_use]
    pub fn all(self) -> ShardSet {
        ShardSet::all(self.shards)
    }

    /// The shard that owns `key`.
    #[must_use]
    pub fn shard_of(self, key: &[u8]) -> ShardId {
        if self.shards == 1 {
            return ShardId(0);
        }
        // The high half of a product maps a hash to a range without a division.
        let wide = u128::from(xxh3_64_with_seed(key, self.seed)) * u128::from(self.shards);
        ShardId((wide >> 64) as u16)
    }

    /// The shards that may hold a key of `range`.
    #[must_use]
    pub fn shards_of(self, range: &KeyRange) -> ShardSet {
        let Some(key) = range.as_single() else { return self.all() };
        let mut set = ShardSet::default();
        set.insert(self.shard_of(key));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_prefix_spreads_evenly_and_a_key_stays() {
        let router = Router::new(42, 5);
        let mut counts = [0_u32; 5];
        for node in 0..10_000 {
            let key = format!("/registry/leases/kube-node-lease/node-{node:06}");
            let shard = router.shard_of(key.as_bytes());
            assert_eq!(shard, router.shard_of(key.as_bytes()));
            counts[shard.0 as usize] += 1;
        }
        assert!(counts.iter().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_range_concerns_all_shards_and_a_single_key_one() {
        let router = Router::new(42, 5);
        assert_eq!(router.shards_of(&KeyRange::single(Bytes::from("a"))).len(), 1);
        let prefix = KeyRange::from_request(Bytes::from("a"), Bytes::from("b"));
        assert_eq!(router.shards_of(&prefix), router.all());
    }
}
