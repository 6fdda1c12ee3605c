//! Memory that the process may use.

use std::fs;
use std::path::Path;

/// Bytes of the machine's memory, or what the process's control group allows if that is less.
#[must_use]
pub(super) fn allowed_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| group_max(&text));
    // A machine that does not say is taken for a small one.
    machine.unwrap_or(1 << 30).min(group.unwrap_or(u64::MAX))
}

fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least limit of the group and of those above it.
fn group_max(cgroup: &str) -> Option<u64> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let limit = |folder: &Path| {
        fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse::<u64>().ok()
    };
    root.join(path).ancestors().take_while(|at| at.starts_with(root)).filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_how_much_it_has() {
        assert_eq!(total_of("MemTotal:       24576 kB\nMemFree: 1 kB\n"), Some(24576 * 1024));
        assert_eq!(total_of("MemFree: 1 kB\n"), None);
        assert_eq!(group_max("1:name=systemd:/\n"), None);
        assert!(allowed_bytes() >= 64 << 20);
    }
}
