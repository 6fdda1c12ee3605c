//! What the disks have in common: a ring beside the executor's, awaited through an eventfd, and
//! blocking threads for what no ring does.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use glommio::io::PollableFd;
use io_uring::IoUring;
use io_uring::squeue::SubmissionQueue;

use super::segments::fault;
use super::signals;
use crate::shard::disk::DiskFault;

/// A ring of a disk's own.
pub(super) struct Ring(IoUring);

impl Ring {
    /// A ring of so many entries. `wake` is called when something on it has ended.
    pub(super) fn new(entries: u32, wake: &Rc<dyn Fn()>) -> io::Result<Ring> {
        let ring = IoUring::new(entries)?;
        let event = eventfd()?;
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        let event = PollableFd::new(event).map_err(|error| io::Error::other(error.to_string()))?;
        let wake = Rc::clone(wake);
        glommio::spawn_local(async move {
            while event.readable().await.is_ok() {
                signals::drain_event(event.get_ref());
                wake();
            }
        })
        .detach();
        Ok(Ring(ring))
    }

    /// Where operations are laid for the kernel.
    pub(super) fn submission(&mut self) -> SubmissionQueue<'_> {
        self.0.submission()
    }

    /// Hands what was laid there to the kernel.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        if self.0.submission().is_empty() {
            return Ok(());
        }
        self.0.submit().map(|_| ())
    }

    /// What has ended: its number and the kernel's result.
    pub(super) fn take_ended(&mut self) -> Vec<(u64, i32)> {
        self.0.completion().map(|entry| (entry.user_data(), entry.result())).collect()
    }
}

fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: eventfd takes no pointers; a descriptor that it returns is ours alone.
    #[expect(unsafe_code, reason = "std has no eventfd")]
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// An operation, and what became of it.
type Outcome<Key> = (Key, Result<(), DiskFault>);

/// Operations that have ended and wait for their disk to be asked.
pub(super) struct Ended<Key> {
    list: Rc<RefCell<Vec<Outcome<Key>>>>,
    wake: Rc<dyn Fn()>,
}

impl<Key: 'static> Ended<Key> {
    /// `wake` is called when one that ran on a thread has ended.
    pub(super) fn new(wake: Rc<dyn Fn()>) -> Ended<Key> {
        Ended { list: Rc::default(), wake }
    }

    pub(super) fn put(&self, key: Key, result: Result<(), DiskFault>) {
        self.list.borrow_mut().push((key, result));
    }

    /// Runs a rare operation on a blocking thread.
    pub(super) fn slowly(&self, key: Key, work: impl FnOnce() -> io::Result<()> + Send + 'static) {
        let (list, wake) = (Rc::clone(&self.list), Rc::clone(&self.wake));
        glommio::spawn_local(async move {
            let result = glommio::executor().spawn_blocking(work).await;
            list.borrow_mut().push((key, result.map_err(fault)));
            wake();
        })
        .detach();
    }

    pub(super) fn take(&self) -> Vec<Outcome<Key>> {
        std::mem::take(&mut *self.list.borrow_mut())
    }
}
