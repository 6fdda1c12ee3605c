//! What a process on this machine has used so far, as the kernel counts it.

use std::fs;

/// Ticks per second in `/proc/PID/stat`: part of the kernel's interface on all machines we run on.
const TICKS_PER_SECOND: u64 = 100;
/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// One look at a process. Counts are since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// CPU time, user and system, of all threads that it has or had.
    pub cpu_ns: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// What it made the devices read; `None` if this user may not know.
    pub read_bytes: Option<u64>,
    /// What it made the devices write; `None` if this user may not know.
    pub written_bytes: Option<u64>,
    /// Its threads.
    pub threads: u32,
    /// When it started: another figure is another process.
    pub start_ticks: u64,
}

/// Looks at the process `pid`.
///
/// # Errors
/// A sentence, if there is none or it cannot be looked at.
pub fn sample(pid: u32) -> Result<Sample, String> {
    let read = |name: &str| {
        fs::read_to_string(format!("/proc/{pid}/{name}"))
            .map_err(|error| format!("process {pid} cannot be looked at: {error}"))
    };
    let stat = parse_stat(&read("stat")?)
        .ok_or_else(|| format!("/proc/{pid}/stat is not as proc(5) says"))?;
    let rss_bytes = kilobytes(&read("status")?, "VmRSS:").unwrap_or(0);
    // Not for other users' processes.
    let io = read("io").unwrap_or_default();
    Ok(Sample {
        cpu_ns: cpu_clock_ns(pid).unwrap_or(stat.cpu_ticks * 1_000_000_000 / TICKS_PER_SECOND),
        rss_bytes,
        read_bytes: number(&io, "read_bytes:"),
        written_bytes: number(&io, "write_bytes:"),
        threads: stat.threads,
        start_ticks: stat.start_ticks,
    })
}

/// Looks at this process.
///
/// # Errors
/// A sentence, if `/proc` is not there.
pub fn own() -> Result<Sample, String> {
    sample(std::process::id())
}

/// The process that listens on a TCP port of this machine, if this user may know.
#[must_use]
pub fn listener(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inode = tables.iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        listening_inode(&text, port)
    })?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|target| target.as_os_str() == wanted.as_str())
    })
}

/// CPU time of a whole process by its own clock, to the nanosecond; the ticks of `stat` are
/// 10 ms, and the files by thread forget threads that ended.
fn cpu_clock_ns(pid: u32) -> Option<u64> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "std has no clock of another process")]
    // SAFETY: both calls write one value behind the pointer they are given, which is a local of
    // the type they ask for, and keep no pointer.
    let is_read = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanoseconds = u64::try_from(time.tv_nsec).ok()?;
    is_read.then_some(seconds * 1_000_000_000 + nanoseconds)
}

#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    threads: u32,
    start_ticks: u64,
}

/// `/proc/PID/stat`. The second field is a name in parentheses that may hold anything.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, tail) = text.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    // Fields are numbered from 1 in proc(5); the third is the first here.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: field(14)?.checked_add(field(15)?)?,
        threads: u32::try_from(field(20)?).ok()?,
        start_ticks: field(22)?,
    })
}

fn number(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    number(text, name)?.checked_mul(1024)
}

/// The inode of the socket that listens on `port`, in a table of `/proc/net`.
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let is_it =
            u16::from_str_radix(local_port, 16) == Ok(port) && fields.get(3) == Some(&LISTEN);
        if is_it { fields.get(9)?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_any_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 123 45 0 0 20 0 17 0 9876 1000 200";
        let expect = Stat { cpu_ticks: 168, threads: 17, start_ticks: 9876 };
        assert_eq!(parse_stat(&format!("42 (a) b (c)) {tail}\n")), Some(expect));
        for broken in ["", "42 (a", "42 (a) S 1", "42 (a) S x x x x x x x x x x x x x x x x x x x"]
        {
            assert_eq!(parse_stat(broken), None, "{broken}");
        }
    }

    #[test]
    fn numbers_are_found_by_name() {
        let status = "Name:\tx\nVmHWM:\t    900 kB\nVmRSS:\t    800 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(819_200));
        let io = "rchar: 1\nwchar: 2\nread_bytes: 4096\nwrite_bytes: 8192\n";
        assert_eq!(
            (number(io, "read_bytes:"), number(io, "write_bytes:")),
            (Some(4096), Some(8192))
        );
        assert_eq!(number("", "read_bytes:"), None);
    }

    #[test]
    fn a_listener_is_found_in_the_table() {
        let table = "  sl  local_address rem_address   st tx rx tr tm retrnsmt uid timeout inode\n\
             0: 0100007F:1F90 00000000:0000 01 0:0 0:0 0 0 0 111 1 x\n\
             1: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 222 1 x\n";
        assert_eq!(listening_inode(table, 8080), Some(222));
        assert_eq!(listening_inode(table, 8081), None);
    }

    #[test]
    fn this_process_is_seen_working() {
        let pid = std::process::id();
        let before = sample(pid).expect("this process");
        assert!(before.rss_bytes > 100_000 && before.threads >= 1 && before.start_ticks > 0);
        let mut sum = 0_u64;
        while sample(pid).expect("this process").cpu_ns < before.cpu_ns + 2_000_000 {
            sum = (0..10_000_u64).fold(sum, |sum, at| sum.rotate_left(3) ^ at);
        }
        let after = sample(pid).expect("this process");
        assert_eq!(after.start_ticks, before.start_ticks, "{sum}");
        let stat = fs::read_to_string("/proc/self/stat").expect("stat");
        let ticks = parse_stat(&stat).expect("stat").cpu_ticks;
        let by_ticks = ticks * 1_000_000_000 / TICKS_PER_SECOND;
        let by_clock = cpu_clock_ns(pid).expect("a clock");
        assert!(by_clock.abs_diff(by_ticks) < 500_000_000, "{by_clock} {by_ticks}");
    }

    #[test]
    fn no_process_is_an_error_and_this_one_listens() {
        let why = sample(u32::MAX).expect_err("no such process");
        assert!(why.starts_with("process 4294967295 cannot be looked at"), "{why}");
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("an address").port();
        assert_eq!(listener(port), Some(std::process::id()));
        drop(socket);
        assert_eq!(listener(port), None);
    }
}
