//! What a data directory holds, read before anything runs.

use std::path::PathBuf;

use super::datadir::DataDir;
use super::page_files::PageDir;
use super::segments::SegmentDir;
use crate::node::{Boot, Refused, Whose};
use crate::shard::wal::Layout;

/// Whose its files have to be.
pub(super) fn whose(data_dir: &DataDir) -> Whose {
    let identity = &data_dir.identity;
    Whose {
        data_dir: identity.data_dir_id,
        cluster: identity.member.cluster_id,
        member: identity.member.member_id,
        shards: identity.member.shards,
        hash_seed: identity.key_hash_seed,
        is_used: data_dir.is_used(),
    }
}

/// Reads the log, and the superblocks of page files in `shards`.
pub(super) fn recover(
    data_dir: &DataDir,
    shards: PathBuf,
    whose: &Whose,
    layout: Layout,
) -> Result<Boot, String> {
    let (log, files) = (SegmentDir::new(data_dir.wal()), PageDir::new(shards));
    let refused = |refused: Refused| match refused {
        Refused::Log(corrupt) => {
            format!("the log in {} is refused: {corrupt}", data_dir.wal().display())
        }
        // A page file names itself.
        refused => format!("the data directory {} is refused: {refused}", data_dir.root.display()),
    };
    Boot::recover(&log, &files, whose, layout).map_err(refused)
}
