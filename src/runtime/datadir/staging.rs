//! Page files for another number of shards, beside those that are the store's.
//!
//! They are written into a folder that names their number. The identity file, which names the
//! number of the store's shards and is replaced by one rename, says which of the two folders are
//! the store's page files; what is left to be done is moving them to their place.
//!
//! | identity | `shards` | `reshard-<n>` | a start, or the next run |
//! |---|---|---|---|
//! | other than n | there | there | removes `reshard-<n>`: it was not written to its end |
//! | n | there | there | moves `shards` to `reshard-old`, then goes on as below |
//! | n | gone | there | moves `reshard-<n>` to `shards`, then removes `reshard-old` |
//! | any | there | gone | removes `reshard-old` if it is there |
//!
//! Nothing is removed before what replaces it is durable.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::{DataDir, Places, keep_owner, page_files, sync_folder};

/// What a folder of page files that are not at their place begins with.
const PREFIX: &str = "reshard-";
/// Page files that were replaced.
const REPLACED: &str = "ringbolt/reshard-old";
const SHARDS: &str = "ringbolt/shards";

fn staged(shards: u16) -> String {
    format!("ringbolt/{PREFIX}{shards}")
}

/// A folder of new page files.
#[derive(Debug)]
pub struct Staged {
    /// Where it lies.
    pub path: PathBuf,
    /// How many there are.
    pub shards: u16,
}

impl DataDir {
    /// Makes page files for another number of shards, which hold nothing yet.
    ///
    /// # Errors
    /// A sentence.
    pub fn stage(&self, shards: u16) -> Result<Staged, String> {
        assert_ne!(shards, self.identity.member.shards, "a store was staged as it is");
        let places = Places::new(&self.root);
        let folder = staged(shards);
        let staged = Staged { path: places.at(&folder), shards };
        let made = places.make(&folder).and_then(|()| {
            places.make_page_files(&folder, shards)?;
            places.give_to_owner(&folder, shards)
        });
        match made {
            Ok(()) => Ok(staged),
            Err(why) => Err(self.unstage(staged, why)),
        }
    }

    /// Removes staged page files that came to nothing, so that their space is free again, and
    /// gives why, and what could not be removed.
    #[must_use]
    pub fn unstage(&self, staged: Staged, why: String) -> String {
        match fs::remove_dir_all(&staged.path) {
            Ok(()) => why,
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => why,
            Err(left) => format!("{why}; {} is left behind: {left}", staged.path.display()),
        }
    }

    /// Makes staged page files, which are durable, those of the store.
    ///
    /// # Errors
    /// A sentence. Whichever store is there then, it is whole.
    pub fn adopt(&mut self, staged: Staged) -> Result<(), String> {
        let places = Places::new(&self.root);
        let mut identity = self.identity.clone();
        identity.member.shards = staged.shards;
        places.write_atomically("ringbolt", "identity", identity.text().as_bytes())?;
        self.identity = identity;
        places.settle_reshard(staged.shards, &mut Vec::new())
    }
}

impl Places<'_> {
    /// Finishes what a reshard has left to be done, or removes what it left, and notes it.
    pub(super) fn settle_reshard(
        &self,
        shards: u16,
        notes: &mut Vec<String>,
    ) -> Result<(), String> {
        let names = self.names("ringbolt")?;
        if !names.iter().any(|name| name.starts_with(PREFIX)) {
            return Ok(());
        }
        if names.contains(&format!("{PREFIX}{shards}")) {
            let new = staged(shards);
            self.refuse_unwritten(&new, shards)?;
            if self.at(SHARDS).exists() {
                self.remove(REPLACED)?;
                self.rename(SHARDS, REPLACED)?;
            }
            self.rename(&new, SHARDS)?;
            notes.push(format!("the reshard to {shards} shards is finished: they are in place"));
        }
        for name in self.names("ringbolt")?.iter().filter(|name| name.starts_with(PREFIX)) {
            let tail = format!("ringbolt/{name}");
            self.remove(&tail)?;
            if tail == REPLACED {
                notes.push(format!("removed {tail}: page files that a reshard has replaced"));
            } else {
                notes.push(format!("removed {tail}: page files of a reshard that did not end"));
            }
        }
        Ok(())
    }

    /// The identity is written behind all page files that it is about.
    fn refuse_unwritten(&self, folder: &str, shards: u16) -> Result<(), String> {
        for tail in page_files(folder, shards) {
            if !self.is_written(&tail)? {
                return Err(format!(
                    "{} holds no store of {shards} shards, though the identity says so; nothing \
                     was touched: put the page files back if they were moved, or the identity if \
                     it was replaced",
                    self.at(&tail).display()
                ));
            }
        }
        Ok(())
    }

    /// Whoever owns the identity has to be able to start from the new files, too.
    fn give_to_owner(&self, folder: &str, shards: u16) -> Result<(), String> {
        let identity = "ringbolt/identity";
        let owner = fs::metadata(self.at(identity));
        let owner = owner.map_err(|why| self.failed("find the owner of", identity, &why))?;
        for tail in page_files(folder, shards).iter().map(String::as_str).chain([folder]) {
            let given = keep_owner(&self.at(tail), &owner);
            given.map_err(|why| self.failed("give to its owner", tail, &why))?;
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), String> {
        let renamed =
            fs::rename(self.at(from), self.at(to)).and_then(|()| sync_folder(&self.at("ringbolt")));
        renamed.map_err(|why| self.failed("rename", from, &why))
    }

    /// Removes a folder, if it is there.
    fn remove(&self, tail: &str) -> Result<(), String> {
        match fs::remove_dir_all(self.at(tail)) {
            Ok(()) => {}
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(why) => return Err(self.failed("remove", tail, &why)),
        }
        sync_folder(&self.at("ringbolt")).map_err(|why| self.failed("remove", tail, &why))
    }
}

#[cfg(test)]
mod tests;
