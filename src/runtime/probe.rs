//! Whether this kernel lets the process use io_uring, asked once before anything is opened.
//! There is no other way to do I/O here: what is missing is said in one sentence with its remedy.

use std::fs;

use io_uring::{IoUring, Probe, opcode};

/// Most memory that an executor's rings register for I/O.
const IO_MEMORY_BYTES_MAX: u64 = 1 << 20;
/// Least memory with which an executor works at all.
const IO_MEMORY_BYTES_MIN: u64 = 64 << 10;
/// Parts that a core's share of locked memory is divided into: three rings, the log's own, and that
/// of the page files.
const SHARES_PER_CORE: u64 = 5;
/// The capability that lifts the limit on locked memory.
const CAP_IPC_LOCK: u32 = 14;

const OPERATIONS: [(&str, u8); 15] = [
    ("READV", opcode::Readv::CODE),
    ("WRITEV", opcode::Writev::CODE),
    ("FSYNC", opcode::Fsync::CODE),
    ("READ_FIXED", opcode::ReadFixed::CODE),
    ("WRITE_FIXED", opcode::WriteFixed::CODE),
    ("POLL_ADD", opcode::PollAdd::CODE),
    ("TIMEOUT", opcode::Timeout::CODE),
    ("LINK_TIMEOUT", opcode::LinkTimeout::CODE),
    ("ACCEPT", opcode::Accept::CODE),
    ("FALLOCATE", opcode::Fallocate::CODE),
    ("OPENAT", opcode::OpenAt::CODE),
    ("READ", opcode::Read::CODE),
    ("WRITE", opcode::Write::CODE),
    ("SEND", opcode::Send::CODE),
    ("RECV", opcode::Recv::CODE),
];

/// What the kernel grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Memory that each executor's rings may register, in bytes.
    pub io_memory: usize,
}

/// Asks the kernel for a ring and for the memory that `cores` executors need.
///
/// # Errors
/// One sentence that says what is missing and what to do.
pub fn probe(cores: u16) -> Result<Grant, String> {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let outcome = match IoUring::new(4) {
        Ok(ring) => Ok(missing(&ring)),
        Err(why) => Err(why.raw_os_error().unwrap_or(0)),
    };
    check_ring(&outcome, disabled.as_deref().map(str::trim))?;
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    check_memory(locked_memory(&limits, &status), cores)
}

/// Operations that the ring does not have. A kernel too old to be asked has none of them.
fn missing(ring: &IoUring) -> Vec<&'static str> {
    let mut probe = Probe::new();
    let asked = ring.submitter().register_probe(&mut probe).is_ok();
    let lacks = |code: u8| !asked || !probe.is_supported(code);
    OPERATIONS.iter().filter(|(_, code)| lacks(*code)).map(|(name, _)| *name).collect()
}

/// `outcome`: operations that are missing, or the errno of the setup.
fn check_ring(
    outcome: &Result<Vec<&'static str>, i32>,
    disabled: Option<&str>,
) -> Result<(), String> {
    let text = match outcome {
        Ok(missing) if missing.is_empty() => return Ok(()),
        Ok(missing) => format!(
            "this kernel's io_uring lacks {}: run a kernel of 5.8 or later",
            missing.join(", ")
        ),
        Err(libc::ENOSYS) => {
            "this kernel has no io_uring: run a kernel of 5.8 or later built with CONFIG_IO_URING"
                .to_owned()
        }
        Err(libc::EPERM) => match disabled {
            Some("2") => "io_uring is switched off on this machine: set the sysctl \
                          kernel.io_uring_disabled to 0"
                .to_owned(),
            Some("1") => "io_uring is reserved for privileged processes on this machine: set the \
                          sysctl kernel.io_uring_disabled to 0, or put this process's group into \
                          kernel.io_uring_group"
                .to_owned(),
            _ => "io_uring is denied to this process, most likely by the container's seccomp \
                  profile: allow io_uring_setup, io_uring_enter and io_uring_register in it, for \
                  a pod by securityContext.seccompProfile of type Localhost"
                .to_owned(),
        },
        Err(libc::ENOMEM) => {
            "the limit on locked memory is too low for an io_uring: raise it with ulimit -l, with \
             LimitMEMLOCK= in the systemd unit, or with --ulimit memlock= for a container"
                .to_owned()
        }
        Err(errno) => {
            format!("io_uring_setup failed: {}", std::io::Error::from_raw_os_error(*errno))
        }
    };
    Err(text)
}

/// Memory that the process may lock; `None`: any amount.
fn locked_memory(limits: &str, status: &str) -> Option<u64> {
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = capabilities.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    if mask.is_some_and(|mask| mask & (1 << CAP_IPC_LOCK) != 0) {
        return None;
    }
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    // "unlimited" is no number.
    soft.split_whitespace().next()?.parse().ok()
}

fn check_memory(locked: Option<u64>, cores: u16) -> Result<Grant, String> {
    let shares = SHARES_PER_CORE * u64::from(cores.max(1));
    let share = locked.map_or(IO_MEMORY_BYTES_MAX, |bytes| bytes / shares);
    if share < IO_MEMORY_BYTES_MIN {
        return Err(format!(
            "this process may lock {} bytes of memory and needs {} for {cores} cores: raise the \
             limit with ulimit -l, with LimitMEMLOCK= in the systemd unit, or with --ulimit \
             memlock= for a container, or run on fewer --cores",
            locked.unwrap_or(0),
            IO_MEMORY_BYTES_MIN * shares,
        ));
    }
    // Whole pages; the bound keeps it in a usize.
    let bytes = share.min(IO_MEMORY_BYTES_MAX) / 4096 * 4096;
    Ok(Grant { io_memory: usize::try_from(bytes).unwrap_or(IO_MEMORY_BYTES_MIN as usize) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_has_its_remedy() {
        let cases = [
            (Err(libc::ENOSYS), None, "CONFIG_IO_URING"),
            (Err(libc::EPERM), None, "seccomp"),
            (Err(libc::EPERM), Some("0"), "seccomp"),
            (Err(libc::EPERM), Some("1"), "kernel.io_uring_group"),
            (Err(libc::EPERM), Some("2"), "kernel.io_uring_disabled to 0"),
            (Err(libc::ENOMEM), Some("0"), "LimitMEMLOCK="),
            (Err(libc::EMFILE), Some("0"), "Too many open files"),
            (Ok(vec!["SEND", "RECV"]), Some("0"), "lacks SEND, RECV"),
        ];
        for (outcome, disabled, expect) in cases {
            let why = check_ring(&outcome, disabled).expect_err(expect);
            assert!(why.contains(expect), "{why}");
            assert!(!why.contains('\n'));
        }
        assert_eq!(check_ring(&Ok(Vec::new()), Some("0")), Ok(()));
    }

    #[test]
    fn locked_memory_is_read_and_divided() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\n\
                      Max locked memory         8388608              8388608              bytes\n";
        let unlimited = limits.replace("8388608", "unlimited");
        let user = "Name:\tx\nCapEff:\t0000000000000000\n";
        let root = "CapEff:\t000001ffffffffff\n";
        assert_eq!(locked_memory(limits, user), Some(8 << 20));
        assert_eq!(locked_memory(limits, root), None);
        assert_eq!(locked_memory(&unlimited, user), None);
        let cases = [
            (None, 64, Ok(1 << 20)),
            (Some(8 << 20), 1, Ok(1 << 20)),
            (Some(8 << 20), 2, Ok(816 << 10)),
            (Some(8 << 20), 16, Ok(100 << 10)),
            (Some(8 << 20), 33, Err(())),
            (Some(64 << 10), 1, Err(())),
        ];
        for (locked, cores, expect) in cases {
            let got = check_memory(locked, cores).map(|grant| grant.io_memory).map_err(|_| ());
            assert_eq!(got, expect, "{locked:?} {cores}");
        }
    }
}
