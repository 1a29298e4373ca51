//! What processes and the machine have worked, as Linux counts it.

use std::{fs, time::Duration};

use anyhow::Context;

/// The processors' time since the machine was started, summed over all of them, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    idle: u64,
    all: u64,
}

/// What a process has worked so far, in user and in kernel mode, all of its threads together.
///
/// # Errors
/// When it has ended.
pub(crate) fn of_process(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let ticks = ticks(&text).with_context(|| format!("{path} is not as Linux writes it"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Fields 14 and 15. The second field, the program's name, may contain anything but ends with the last parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

impl Machine {
    /// Reads it now.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn now() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let line =
            text.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("/proc/stat has no cpu line")?;
        let ticks: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal: the guests' time is part of the user's.
        let idle = ticks.iter().skip(3).take(2).sum();
        Ok(Self { idle, all: ticks.iter().take(8).sum() })
    }

    /// The part of the time since `before` in which nothing ran, from 0 to 1.
    pub(crate) fn idle_since(self, before: Self) -> f64 {
        self.idle.saturating_sub(before.idle) as f64 / self.all.saturating_sub(before.all).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let stat = "1 (a) b (c) S 0 1 1 0 -1 4194560 1 2 3 4 17 5 6 7 20 0 1 0 30 1 2";
        assert_eq!(ticks(stat), Some(22));
    }

    #[test]
    fn this_process_works() {
        let (before, machine) = (of_process(std::process::id()).unwrap(), Machine::now().unwrap());
        let mut spins = 0u64;
        while of_process(std::process::id()).unwrap() == before {
            spins = std::hint::black_box(spins + 1);
        }
        assert!((0.0..=1.0).contains(&Machine::now().unwrap().idle_since(machine)));
    }
}
