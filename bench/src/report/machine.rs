//! The machine that is measured on, and the commit that is measured.

use std::{fs, process::Command, thread};

use anyhow::Context;
use bytesize::ByteSize;

/// What a reader has to know to measure the same.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) memory: String,
    pub(super) system: String,
    pub(super) commit: String,
}

impl Machine {
    /// Looks at this machine, and at the checkout in the current folder.
    ///
    /// # Errors
    /// When the system does not say how many cores there are.
    pub(super) fn look() -> anyhow::Result<Self> {
        let kernel = rustix::system::uname();
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Ok(Self {
            processor: value(&text("/proc/cpuinfo"), "model name").unwrap_or_else(|| "an unnamed processor".to_owned()),
            cores: thread::available_parallelism().context("count the cores")?.get(),
            memory: memory(&text("/proc/meminfo")),
            system: format!("{} {}", kernel.sysname().to_string_lossy(), kernel.release().to_string_lossy()),
            commit: commit(),
        })
    }
}

fn memory(meminfo: &str) -> String {
    let kib = value(meminfo, "MemTotal").and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or_else(|| "unknown".to_owned(), |kib| ByteSize::kib(kib).display().iec().to_string())
}

/// The first value of that name among lines of `name: value`.
fn value(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned());
    values.next().filter(|value| !value.is_empty())
}

/// The commit of the checkout in the current folder, and whether anything in it differs.
fn commit() -> String {
    let git = |words: &[&str]| {
        let output = Command::new("git").args(words).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "no checkout".to_owned() };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit}, with changes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts() {
        let text = "processor\t: 0\nmodel name\t: A: fast one\nmodel name\t: another\nempty\t:\n";
        assert_eq!(value(text, "model name").as_deref(), Some("A: fast one"));
        assert_eq!(value(text, "model"), None);
        assert_eq!(value(text, "empty"), None);
    }

    #[test]
    fn memory_is_in_human_units() {
        assert_eq!(memory("MemTotal:       16777216 kB\n"), "16.0 GiB");
        assert_eq!(memory(""), "unknown");
    }
}
