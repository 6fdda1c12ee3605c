//! A timer that is a file: precise to the clock, where a poll's timeout is rounded to milliseconds.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

/// A one-shot timer that a poll waits for.
#[derive(Debug)]
pub(super) struct Timer {
    file: OwnedFd,
}

impl Timer {
    /// A timer at rest, reported under `token` when it fires.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Timer> {
        // SAFETY: the call takes numbers; what it returns is checked before it is owned.
        #[expect(unsafe_code, reason = "std has no timer that can be polled")]
        let file = unsafe {
            let fd =
                libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        registry.register(&mut SourceFd(&file.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Timer { file })
    }

    /// Fires once after `ns`, not earlier set times. Setting it makes it unread again, so that it
    /// need not be read.
    pub(super) fn set(&self, ns: u64) -> io::Result<()> {
        // Zero would stop it.
        let ns = ns.max(1);
        let value = libc::timespec {
            tv_sec: (ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (ns % 1_000_000_000) as libc::c_long,
        };
        let once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = libc::itimerspec { it_interval: once, it_value: value };
        // SAFETY: the file is a timer that lives through the call, and so does the value; no old
        // value is asked for.
        #[expect(unsafe_code, reason = "std has no timer that can be polled")]
        let failed = unsafe {
            libc::timerfd_settime(self.file.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut())
        };
        if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
