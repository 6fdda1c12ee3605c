//! Small things that only Linux knows: signals, processors, limits, randomness.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

/// How the process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this code.
    Code(i32),
    /// By the signal that it was told to stop with.
    Signal(i32),
}

impl End {
    /// Of two ends the one that tells more: a fault, then a signal.
    #[must_use]
    pub fn worse(self, other: End) -> End {
        match (self, other) {
            (End::Code(0), other) => other,
            (End::Signal(_), End::Code(code)) if code != 0 => other,
            (first, _) => first,
        }
    }

    /// Ends the process. As the first process of a container a signal's default does nothing,
    /// so that one exits with 0.
    pub fn exit(self) -> ! {
        match self {
            End::Code(code) => std::process::exit(code),
            End::Signal(signal) => {
                if std::process::id() != 1 {
                    // SAFETY: the calls take numbers and a set that lives through them; the
                    // process does nothing else any more.
                    #[expect(unsafe_code, reason = "std cannot raise a signal")]
                    unsafe {
                        libc::signal(signal, libc::SIG_DFL);
                        let mut set = std::mem::zeroed();
                        libc::sigemptyset(&raw mut set);
                        libc::sigaddset(&raw mut set, signal);
                        libc::pthread_sigmask(
                            libc::SIG_UNBLOCK,
                            &raw const set,
                            std::ptr::null_mut(),
                        );
                        libc::raise(signal);
                    }
                }
                std::process::exit(0)
            }
        }
    }
}

const STOP_SIGNALS: [i32; 2] = [libc::SIGTERM, libc::SIGINT];

/// Keeps the stop signals from killing threads; before any thread is started.
pub(super) fn block() -> io::Result<()> {
    glommio::signal::block(&STOP_SIGNALS).map_err(|error| io::Error::other(error.to_string()))
}

/// The next stop signal.
pub(super) async fn next() -> i32 {
    let signals = match glommio::signal::Signals::new(&STOP_SIGNALS) {
        Ok(signals) => signals,
        Err(_) => return std::future::pending().await,
    };
    signals.recv().await.unwrap_or(libc::SIGTERM)
}

/// What people call a signal.
pub(super) fn name(signal: i32) -> &'static str {
    match signal {
        libc::SIGTERM => "terminated",
        libc::SIGINT => "interrupt",
        _ => "signal",
    }
}

/// Takes what an eventfd has counted.
pub(super) fn drain_event(event: &OwnedFd) {
    let mut count = 0_u64;
    // SAFETY: the buffer is eight bytes that live through the call, as an eventfd wants.
    #[expect(unsafe_code, reason = "std reads no eventfd")]
    unsafe {
        // A count that is zero already is no error worth telling.
        libc::read(event.as_raw_fd(), (&raw mut count).cast(), 8);
    }
}

/// The processors that this process may run on, from the kernel's list ("0-3,8").
pub(super) fn allowed_cpus() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(parse_cpus).unwrap_or_default()
}

fn parse_cpus(list: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<usize>(), to.parse::<usize>()) {
            cpus.extend(from..=to);
        }
    }
    cpus
}

/// Files that this process may have open.
pub(super) fn open_files_max() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|rest| rest.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(1_024)
}

/// A seed for what is chosen at random.
#[must_use]
pub fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    match read {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => u64::from(std::process::id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_list_of_processors() {
        assert_eq!(parse_cpus("\t0-3,8,10-11\n"), [0, 1, 2, 3, 8, 10, 11]);
        assert!(parse_cpus("").is_empty());
    }

    #[test]
    fn a_fault_tells_more_than_a_signal() {
        assert_eq!(End::Code(0).worse(End::Signal(15)), End::Signal(15));
        assert_eq!(End::Signal(15).worse(End::Code(74)), End::Code(74));
        assert_eq!(End::Signal(15).worse(End::Code(0)), End::Signal(15));
    }
}
