//! runtime::datadir — the data directory: whose it is, and that nobody else touches it.
//! Before step 1 of a write. In: a path. Out: an identity, a lock, the folders of the log and of
//! the page files; or a refusal.
//! Owns: the directory's layout, the identity file (format 1), the lock.
//! Invariants: (1) a directory of a real etcd is refused and not touched, and a real etcd refuses
//!             ours; (2) the identity file is written last: where it stands, all stands; (3) what
//!             was created is durable, its name included, before anything relies on it.
//! Limits: none.
//! Must not: read or write a segment of the log, or a page file that it did not make.
//! Tests: datadir/tests.rs, datadir/staging/tests.rs.
//!
//! ```text
//! <data-dir>/member/wal/        empty; supervisors look for it
//! <data-dir>/member/snap/db     a decoy that is no bolt file: a real etcd stops at it
//! <data-dir>/ringbolt/identity  who this member is
//! <data-dir>/ringbolt/lock      held while a process runs; its number in it, for people
//! <data-dir>/ringbolt/used      stands once the member has served from here
//! <data-dir>/ringbolt/wal/      segments of the log
//! <data-dir>/ringbolt/shards/   one page file per shard, made with the space of its superblocks
//! <data-dir>/ringbolt/reshard-* page files for another number of shards, or those before them
//! ```

mod identity;
mod staging;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

pub use identity::{Identity, NewMember};
pub use staging::Staged;

use crate::base::ShardId;
use crate::shard::pages::{FileId, HEAD_BYTES};

/// How a bolt file's first meta page says what it is, behind the page's 16-byte head.
const BOLT_MAGIC: [u8; 4] = 0xED0C_DAED_u32.to_le_bytes();
const BOLT_MAGIC_AT: u64 = 16;
/// A bolt file whose first page is torn still has the second.
const BOLT_PAGE_BYTES: [u64; 3] = [0, 4096, 16384];

const DECOY: &str = "This directory belongs to Ringbolt, not to etcd. The data is in the folder\n\
    \"ringbolt\" beside \"member\". This file is here so that an etcd that is started on this\n\
    directory stops instead of beginning an empty store. Do not remove it.\n";

/// An open data directory. The lock is held until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    /// The directory.
    pub root: PathBuf,
    /// Who this member is.
    pub identity: Identity,
    /// Whether it was made just now.
    pub is_new: bool,
    /// What a person should know about it.
    pub warnings: Vec<String>,
    _lock: File,
}

impl DataDir {
    /// Opens the directory at `root`, and makes it first if there is none. `new_member` is asked
    /// who this member is to be only in that case, and before anything is created.
    ///
    /// # Errors
    /// A sentence that names the directory and says why it is not opened.
    pub fn open(
        root: &Path,
        new_member: impl FnOnce() -> Result<NewMember, String>,
    ) -> Result<DataDir, String> {
        let places = Places::new(root);
        let mut warnings = Vec::new();
        places.refuse_foreign()?;
        let wanted = if places.identity_exists()? {
            None
        } else {
            places.refuse_half_lost()?;
            Some(new_member()?)
        };
        places.make_outer(&mut warnings)?;
        let lock = places.lock()?;
        // Under the lock: another process may have made the directory in the meantime.
        let is_new = !places.identity_exists()?;
        let identity = match (wanted, is_new) {
            (Some(member), true) => {
                places.make_inner()?;
                places.make_page_files("ringbolt/shards", member.shards)?;
                let identity = Identity::new(member, random()?);
                places.write_atomically("ringbolt", "identity", identity.text().as_bytes())?;
                identity
            }
            _ => {
                let identity = places.read_identity()?;
                places.settle_reshard(identity.member.shards, &mut warnings)?;
                places.refuse_lost_log()?;
                places.refuse_lost_pages(identity.member.shards)?;
                places.make_inner()?;
                identity
            }
        };
        places.note_strangers(&mut warnings);
        Ok(DataDir { root: root.to_owned(), identity, is_new, warnings, _lock: lock })
    }

    /// The folder of the log's segments.
    #[must_use]
    pub fn wal(&self) -> PathBuf {
        self.root.join("ringbolt/wal")
    }

    /// The folder of the shards' page files.
    #[must_use]
    pub fn shards(&self) -> PathBuf {
        self.root.join("ringbolt/shards")
    }

    /// Whether the member has ever served from it: from then on an empty log is a lost one.
    #[must_use]
    pub fn is_used(&self) -> bool {
        used_mark(&self.root).exists()
    }
}

fn used_mark(root: &Path) -> PathBuf {
    root.join("ringbolt/used")
}

/// Notes, durably, that the log holds something and the member serves from now on.
///
/// # Errors
/// Whatever the file system says.
pub fn mark_used(root: &Path) -> io::Result<()> {
    let mark = used_mark(root);
    if mark.exists() {
        return Ok(());
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&mark)?.sync_all()?;
    File::open(root.join("ringbolt"))?.sync_all()
}

/// The directory and what lies where in it.
struct Places<'a> {
    root: &'a Path,
}

impl<'a> Places<'a> {
    fn new(root: &'a Path) -> Places<'a> {
        Places { root }
    }

    fn at(&self, tail: &str) -> PathBuf {
        self.root.join(tail)
    }

    /// A sentence about something in the directory that could not be done.
    fn failed(&self, what: &str, tail: &str, why: &io::Error) -> String {
        format!("cannot {what} {}: {why}", self.at(tail).display())
    }

    /// Names in a folder; none if there is no such folder.
    fn names(&self, tail: &str) -> Result<Vec<String>, String> {
        let entries = match fs::read_dir(self.at(tail)) {
            Ok(entries) => entries,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(why) => return Err(self.failed("list", tail, &why)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|why| self.failed("list", tail, &why))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Refuses a directory in which an etcd has its data. Reads only.
    fn refuse_foreign(&self) -> Result<(), String> {
        let root = self.root.display();
        let theirs = |what: &str| {
            Err(format!(
                "{root} is the data directory of an etcd ({what}); nothing in it was touched: \
                 give Ringbolt a directory of its own"
            ))
        };
        if self.is_bolt("member/snap/db")? {
            return theirs("member/snap/db is a bolt file");
        }
        if let Some(name) = self.names("member/wal")?.iter().find(|name| name.ends_with(".wal")) {
            return theirs(&format!("member/wal/{name} is a log of etcd"));
        }
        if let Some(name) = self.names("member/snap")?.iter().find(|name| name.ends_with(".snap")) {
            return theirs(&format!("member/snap/{name} is a snapshot of etcd"));
        }
        if self.names("")?.iter().any(|name| name == "proxy") {
            return theirs("it holds a folder \"proxy\"");
        }
        let decoy = match fs::read(self.at("member/snap/db")) {
            Ok(bytes) => bytes,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(why) => return Err(self.failed("read", "member/snap/db", &why)),
        };
        if decoy != DECOY.as_bytes() {
            return Err(format!(
                "{root}/member/snap/db is neither a bolt file nor Ringbolt's; nothing was touched: \
                 find out whose directory this is"
            ));
        }
        Ok(())
    }

    fn is_bolt(&self, tail: &str) -> Result<bool, String> {
        use std::os::unix::fs::FileExt;
        let file = match File::open(self.at(tail)) {
            Ok(file) => file,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(why) => return Err(self.failed("read", tail, &why)),
        };
        let mut magic = [0; 4];
        Ok(BOLT_PAGE_BYTES.iter().any(|page| {
            let read = file.read_exact_at(&mut magic, page + BOLT_MAGIC_AT);
            read.is_ok() && magic == BOLT_MAGIC
        }))
    }

    fn identity_exists(&self) -> Result<bool, String> {
        let tail = "ringbolt/identity";
        self.at(tail).try_exists().map_err(|why| self.failed("look for", tail, &why))
    }

    /// Refuses a directory that lost its identity after it had one: to begin anew in it would
    /// make a member forget what it has voted for and acknowledged.
    fn refuse_half_lost(&self) -> Result<(), String> {
        let root = self.root.display();
        let decoy_is_there = self.names("member/snap")?.iter().any(|name| name == "db");
        let ours = self.names("ringbolt")?;
        if decoy_is_there && ours.is_empty() {
            return Err(format!(
                "{root} was a data directory of Ringbolt and its folder \"ringbolt\" is gone: put \
                 it back, or remove the whole directory to begin an empty store"
            ));
        }
        let holds = if !self.names("ringbolt/wal")?.is_empty() {
            "a log"
        } else if self.is_page_written()? {
            "page files"
        } else {
            return Ok(());
        };
        Err(format!(
            "{root}/ringbolt holds {holds} and no identity: put the file \"identity\" back, or \
             remove the whole directory to begin an empty store"
        ))
    }

    /// Whether any page file is written to.
    fn is_page_written(&self) -> Result<bool, String> {
        for name in self.names("ringbolt/shards")? {
            if self.is_written(&format!("ringbolt/shards/{name}"))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a page file holds more than the zeros that it is made with.
    fn is_written(&self, tail: &str) -> Result<bool, String> {
        let failed = |why| self.failed("read", tail, &why);
        let mut head = Vec::new();
        let file = File::open(self.at(tail)).map_err(failed)?;
        file.take(HEAD_BYTES as u64 + 1).read_to_end(&mut head).map_err(failed)?;
        Ok(head.len() > HEAD_BYTES || head.iter().any(|byte| *byte != 0))
    }

    fn refuse_lost_log(&self) -> Result<(), String> {
        let there = self.at("ringbolt/wal").is_dir();
        if there {
            return Ok(());
        }
        Err(format!(
            "{}/ringbolt/wal is gone, and with it what this member acknowledged: put it back, or \
             remove the whole directory to begin an empty store",
            self.root.display()
        ))
    }

    /// A page file stands from the beginning, so one that is not there was lost.
    fn refuse_lost_pages(&self, shards: u16) -> Result<(), String> {
        let folder = "ringbolt/shards";
        let files = page_files(folder, shards);
        let Some(lost) = files.into_iter().find(|tail| !self.at(tail).is_file()) else {
            return Ok(());
        };
        let tail = if self.at(folder).is_dir() { lost } else { folder.to_owned() };
        Err(format!(
            "{}/{tail} is gone, and with it what this member acknowledged and no longer keeps in \
             its log: put it back, or remove the whole directory to begin an empty store",
            self.root.display()
        ))
    }

    /// Makes the directory and our own folder in it, as far as the lock needs them.
    fn make_outer(&self, warnings: &mut Vec<String>) -> Result<(), String> {
        // Each missing folder of the path, the outermost first, so that each name is synced.
        let mut missing = Vec::new();
        let mut folder = Some(self.root);
        while let Some(path) = folder.filter(|path| !path.as_os_str().is_empty() && !path.exists())
        {
            missing.push(path);
            folder = path.parent();
        }
        for path in missing.into_iter().rev() {
            make_folder(path).map_err(|why| format!("cannot make {}: {why}", path.display()))?;
        }
        if !self.root.is_dir() {
            return Err(format!("{} is not a directory", self.root.display()));
        }
        if let Err(why) = tighten(self.root, 0o700) {
            // A mount point may belong to someone else; our own folder in it is still closed.
            warnings.push(format!(
                "{} is open to other users and its mode cannot be changed: {why}",
                self.root.display()
            ));
        }
        self.make("ringbolt")
    }

    /// Makes what a complete directory holds besides the identity; does nothing where it stands.
    fn make_inner(&self) -> Result<(), String> {
        for tail in ["ringbolt/wal", "ringbolt/shards", "member", "member/wal", "member/snap"] {
            self.make(tail)?;
        }
        if !self.at("member/snap/db").exists() {
            self.write_atomically("member/snap", "db", DECOY.as_bytes())?;
        }
        Ok(())
    }

    /// Makes the page files. The zeros are written, so that no first superblock wants for space.
    fn make_page_files(&self, folder: &str, shards: u16) -> Result<(), String> {
        for tail in page_files(folder, shards) {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let made = options.open(self.at(&tail)).and_then(|mut file| {
                file.write_all(&[0; HEAD_BYTES])?;
                file.sync_all()
            });
            made.map_err(|why| self.failed("make", &tail, &why))?;
        }
        sync_folder(&self.at(folder)).map_err(|why| self.failed("make", folder, &why))
    }

    fn make(&self, tail: &str) -> Result<(), String> {
        make_folder(&self.at(tail)).map_err(|why| self.failed("make", tail, &why))
    }

    fn lock(&self) -> Result<File, String> {
        let tail = "ringbolt/lock";
        let failed = |why: &io::Error| self.failed("lock", tail, why);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.at(tail))
            .map_err(|why| failed(&why))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(32).read_to_string(&mut holder);
                let holder: String = holder.chars().filter(char::is_ascii_digit).collect();
                let who = if holder.is_empty() {
                    "another process".to_owned()
                } else {
                    format!("process {holder}")
                };
                return Err(format!("{} is in use by {who}", self.root.display()));
            }
            Err(TryLockError::Error(why)) => return Err(failed(&why)),
        }
        file.set_len(0).map_err(|why| failed(&why))?;
        writeln!(file, "{}", std::process::id()).map_err(|why| failed(&why))?;
        sync_folder(&self.at("ringbolt")).map_err(|why| failed(&why))?;
        Ok(file)
    }

    fn read_identity(&self) -> Result<Identity, String> {
        let tail = "ringbolt/identity";
        let text =
            fs::read_to_string(self.at(tail)).map_err(|why| self.failed("read", tail, &why))?;
        Identity::read(&text).map_err(|why| format!("{}: {why}", self.at(tail).display()))
    }

    /// A file that is there whole or not at all, also after a crash.
    fn write_atomically(&self, folder: &str, name: &str, bytes: &[u8]) -> Result<(), String> {
        let folder_path = self.at(folder);
        let target = folder_path.join(name);
        let temporary = folder_path.join(format!("{name}.tmp"));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(bytes)?;
            if let Ok(before) = fs::metadata(&target) {
                keep_owner(&temporary, &before)?;
            }
            file.sync_all()?;
            fs::rename(&temporary, &target)?;
            sync_folder(&folder_path)
        };
        write().map_err(|why| format!("cannot write {}: {why}", target.display()))
    }

    /// Files that nobody knows are left alone and named, as etcd does.
    fn note_strangers(&self, warnings: &mut Vec<String>) {
        let known = ["member", "ringbolt", "lost+found"];
        for name in self.names("").unwrap_or_default() {
            if !known.contains(&name.as_str()) {
                warnings.push(format!("found invalid file under data directory: {name}"));
            }
        }
    }
}

/// Where the shards' page files lie in the directory.
fn page_files(folder: &str, shards: u16) -> Vec<String> {
    (0..shards).map(|shard| format!("{folder}/{}", FileId(ShardId(shard)).file_name())).collect()
}

/// Makes a folder that only its owner may enter, and makes its name durable.
fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            return tighten(path, 0o700);
        }
        Err(why) => return Err(why),
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// Takes rights from group and others where they have any.
fn tighten(path: &Path, mode: u32) -> io::Result<()> {
    let now = fs::metadata(path)?.permissions().mode() & 0o777;
    if now & !mode == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Gives what was made to the owner of something else.
fn keep_owner(path: &Path, of: &Metadata) -> io::Result<()> {
    let now = fs::metadata(path)?;
    if (now.uid(), now.gid()) == (of.uid(), of.gid()) {
        return Ok(());
    }
    chown(path, Some(of.uid()), Some(of.gid()))
}

/// Makes the names in a folder durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Bytes that no other directory has.
fn random() -> Result<[u8; 24], String> {
    let mut bytes = [0; 24];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|why| format!("cannot read /dev/urandom: {why}"))?;
    Ok(bytes)
}
