//! The shards' page files, as a start reads them: past the page cache, before anything runs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::direct;
use super::segments::fault;
use crate::shard::disk::DiskFault;
use crate::shard::pages::{Extent, FileId, PageMedium};

/// The `shards` folder of a data directory.
#[derive(Debug)]
pub(super) struct PageDir {
    path: PathBuf,
}

impl PageDir {
    pub(super) fn new(path: PathBuf) -> PageDir {
        PageDir { path }
    }

    /// Opens a file past the page cache; to write to it as well if `is_written`.
    pub(super) fn open(&self, file: FileId, is_written: bool) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(is_written).custom_flags(libc::O_DIRECT);
        options.open(self.path.join(file.file_name()))
    }
}

impl PageMedium for PageDir {
    fn settle(&self, file: FileId) -> Result<u64, DiskFault> {
        let file = File::open(self.path.join(file.file_name())).map_err(fault)?;
        file.sync_all().map_err(fault)?;
        Ok(file.metadata().map_err(fault)?.len())
    }

    fn read(&self, file: FileId, extent: Extent) -> Result<Vec<u8>, DiskFault> {
        let file = self.open(file, false).map_err(fault)?;
        let len = usize::try_from(extent.bytes()).expect("an extent fits memory");
        direct::read(&file, extent.offset(), len).map_err(fault)
    }
}
