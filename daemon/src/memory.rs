//! How much memory and how many descriptors a process has, as Linux tells it.

/// The resident memory of a process in bytes; `None` where it is gone or the system does not say.
#[must_use]
pub fn resident(pid: u32) -> Option<u64> {
    field(pid, "VmRSS:")
}

/// The most resident memory that a process has had, in bytes; `None` where it is gone or the system does not say.
#[must_use]
pub fn peak_resident(pid: u32) -> Option<u64> {
    field(pid, "VmHWM:")
}

/// How many file descriptors a process has open, that of the look itself among them when it looks at itself; `None` where it is
/// gone or the system does not say.
#[must_use]
pub fn descriptors(pid: u32) -> Option<usize> {
    std::fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count)
}

fn field(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_some() {
        let me = std::process::id();
        let peak = peak_resident(me).unwrap();
        assert!(resident(me).unwrap() > 100_000);
        assert!(peak > 100_000);
        assert_eq!(resident(u32::MAX), None);
        assert!(descriptors(me).unwrap() >= 3);
        assert_eq!(descriptors(u32::MAX), None);
    }
}
