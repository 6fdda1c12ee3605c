//! What the log and the page file have in common in asking a disk.

use std::fmt;

/// Names an operation until it is done. Never used twice by one log or page file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Gives every operation its token.
#[derive(Debug, Default)]
pub(super) struct Tokens(u64);

impl Tokens {
    pub(super) fn take(&mut self) -> Token {
        self.0 += 1;
        Token(self.0)
    }
}

/// Why a disk did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// No space, or no quota, is left.
    NoSpace,
    /// Fewer bytes were written or read than asked for.
    Short,
    /// Any other error, by its number.
    Os(i32),
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskFault::NoSpace => write!(f, "no space is left"),
            DiskFault::Short => write!(f, "fewer bytes were transferred than asked for"),
            DiskFault::Os(errno) => write!(f, "error {errno} of the operating system"),
        }
    }
}

/// What brings back what a member's disk has lost.
pub(crate) const REMEDY: &str = "in a cluster, remove this member and add it again with an empty \
     data directory; a single member's data directory has to be restored from a snapshot";

/// Why a member does not start from what it finds, in front of the remedy.
pub(crate) const NO_START: &str =
    "this member does not start, since it would forget what it acknowledged";
