//! What moving some bytes has cost: time, and processor time of the processes that did it.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::comparison::{Comparison, Goal, Unit};
use crate::{cpu, median::median};

/// What moving some bytes has cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    bytes: u64,
    time: Duration,
    cpu: Duration,
}

impl Cost {
    pub(super) const fn seconds(&self) -> f64 {
        self.time.as_secs_f64()
    }

    pub(super) fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64()
    }

    /// In nanoseconds.
    pub(super) fn cpu_per_byte(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / self.bytes as f64
    }

    /// Runs `work` in this process, which moves so many bytes and does nothing else meanwhile.
    pub(super) fn of(bytes: u64, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let mine = || {
            let now = clock_gettime(ClockId::ProcessCPUTime);
            Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
        };
        let (begun, before) = (Instant::now(), mine());
        work()?;
        Ok(Self { bytes, time: begun.elapsed(), cpu: mine() - before })
    }
}

/// Watches other processes while they work.
pub(super) struct Meter<'a> {
    pids: &'a [u32],
    begun: Instant,
    before: Duration,
}

impl<'a> Meter<'a> {
    /// # Errors
    /// When one of the processes is gone.
    pub(super) fn start(pids: &'a [u32]) -> anyhow::Result<Self> {
        Ok(Self { pids, before: cpu(pids)?, begun: Instant::now() })
    }

    /// # Errors
    /// When one of the processes has ended.
    pub(super) fn stop(self, bytes: u64) -> anyhow::Result<Cost> {
        let time = self.begun.elapsed();
        Ok(Cost { bytes, time, cpu: cpu(self.pids)?.saturating_sub(self.before) })
    }
}

/// The processor time that processes have had.
fn cpu(pids: &[u32]) -> anyhow::Result<Duration> {
    pids.iter().map(|pid| cpu::of_process(*pid)).sum()
}

/// Holds the costs of one thing against those of another, round by round.
pub(super) fn compare(what: &str, ours: &[Cost], against: &str, theirs: &[Cost], unit: Unit, goal: Goal) -> Comparison {
    let figure = |cost: &Cost| match unit {
        Unit::BytesPerSecond => cost.bytes_per_second(),
        Unit::CpuPerByte => cost.cpu_per_byte(),
        Unit::Seconds => cost.seconds(),
    };
    let (ours, theirs): (Vec<f64>, Vec<f64>) = (ours.iter().map(figure).collect(), theirs.iter().map(figure).collect());
    figures(what, &ours, against, &theirs, unit, goal)
}

/// The same for figures of any making.
pub(super) fn figures(what: &str, ours: &[f64], against: &str, theirs: &[f64], unit: Unit, goal: Goal) -> Comparison {
    let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    Comparison {
        what: what.to_owned(),
        unit,
        figure: median(ours.to_vec()),
        against: against.to_owned(),
        other: median(theirs.to_vec()),
        ratio: median(ratios),
        goal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_gone_is_told() {
        assert!(cpu(&[std::process::id()]).is_ok());
        assert!(cpu(&[u32::MAX]).is_err());
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds() {
        let line = figures("a", &[1.0, 9.0, 2.0], "b", &[1.0, 3.0, 4.0], Unit::Seconds, Goal::None);
        assert_eq!((line.figure, line.other, line.ratio), (2.0, 3.0, 1.0));
    }
}
