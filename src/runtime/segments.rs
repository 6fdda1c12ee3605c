//! The log's segment files, as recovery reads them: past the page cache, before anything runs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::direct;
use crate::shard::disk::DiskFault;
use crate::shard::wal::{Medium, SegmentId};

/// The `wal` folder of a data directory.
#[derive(Debug)]
pub(super) struct SegmentDir {
    path: PathBuf,
}

impl SegmentDir {
    pub(super) fn new(path: PathBuf) -> SegmentDir {
        SegmentDir { path }
    }

    fn open_direct(&self, segment: SegmentId) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECT);
        options.open(self.path.join(segment.file_name()))
    }
}

impl Medium for SegmentDir {
    fn settle(&self) -> Result<(), DiskFault> {
        for (segment, _) in self.segments()? {
            let file = File::open(self.path.join(segment.file_name())).map_err(fault)?;
            file.sync_all().map_err(fault)?;
        }
        sync_dir(&self.path).map_err(fault)
    }

    fn segments(&self) -> Result<Vec<(SegmentId, u64)>, DiskFault> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let name = entry.file_name();
            let Some(segment) = name.to_str().and_then(SegmentId::from_file_name) else {
                continue;
            };
            found.push((segment, entry.metadata().map_err(fault)?.len()));
        }
        Ok(found)
    }

    fn read(&self, segment: SegmentId, offset: u64, len: usize) -> Result<Vec<u8>, DiskFault> {
        let file = self.open_direct(segment).map_err(fault)?;
        direct::read(&file, offset, len).map_err(fault)
    }
}

/// Makes a directory's entries durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What an operation's failure means to the log.
pub(super) fn fault(error: io::Error) -> DiskFault {
    errno_fault(error.raw_os_error().unwrap_or(libc::EIO))
}

/// The same from an error number.
pub(super) fn errno_fault(errno: i32) -> DiskFault {
    match errno {
        libc::ENOSPC | libc::EDQUOT => DiskFault::NoSpace,
        other => DiskFault::Os(other),
    }
}
