//! How many connections are worth having.

use std::time::Duration;

/// A try at one connection more is judged after so many times [`RunSettings::watch`](crate::RunSettings::watch): a new
/// connection begins slowly.
const TRIAL: u32 = 3;
/// What it must bring of the rate before to be kept.
const GAIN: f64 = 1.25;
/// How long after a try in vain, in waiting time, the next one is made; doubled each time.
const REST: Duration = Duration::from_secs(60);
const LONGEST_REST: Duration = Duration::from_secs(960);

/// The number of connections, found by trying: one more is kept while all together bring more with it. Where a link is
/// full, a second connection only halves the first, and what is needed next comes late.
///
/// Time is the time spent waiting for the network, so that a caller that takes slowly says nothing about it.
#[derive(Debug)]
pub(crate) struct Breadth {
    /// How many have proven worth it.
    proven: usize,
    trial: Option<Trial>,
    next_trial: Duration,
    rest: Duration,
}

/// One connection more than have proven worth it.
#[derive(Debug)]
struct Trial {
    /// Bytes a second without it.
    before: f64,
    since: Duration,
    received: u64,
}

impl Breadth {
    pub(crate) const fn new() -> Self {
        Self { proven: 1, trial: None, next_trial: Duration::ZERO, rest: REST }
    }

    /// How many connections may be open now.
    pub(crate) fn connections(&self) -> usize {
        self.proven + usize::from(self.trial.is_some())
    }

    /// Whether one of them is open only to see what it brings.
    pub(crate) const fn is_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// All connections are slow, and bring so many bytes a second together: tries one more, unless that was in vain lately.
    pub(crate) fn slow(&mut self, waited: Duration, received: u64, rate: f64) {
        if self.trial.is_none() && waited >= self.next_trial {
            self.trial = Some(Trial { before: rate, since: waited, received });
        }
    }

    /// Judges a try that has lasted long enough; `received` is what all connections have brought since they were made.
    pub(crate) fn judge(&mut self, waited: Duration, received: u64, watch: Duration) {
        let Some(Trial { before, since, received: had }) = self.trial else { return };
        let lasted = waited.saturating_sub(since);
        if lasted < watch * TRIAL || lasted.is_zero() {
            return;
        }
        self.trial = None;
        if received.saturating_sub(had) as f64 >= GAIN * before * lasted.as_secs_f64() {
            self.proven += 1;
            self.rest = REST;
        } else {
            self.next_trial = waited + self.rest;
            self.rest = (self.rest * 2).min(LONGEST_REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCH: Duration = Duration::from_millis(200);

    /// Lets `seconds` pass in steps, at a rate that depends on how many connections there are.
    fn pass(breadth: &mut Breadth, now: &mut Duration, received: &mut u64, seconds: u64, rate: impl Fn(usize) -> u64) {
        for _ in 0..seconds * 20 {
            let rate = rate(breadth.connections());
            *now += Duration::from_millis(50);
            *received += rate / 20;
            breadth.judge(*now, *received, WATCH);
            breadth.slow(*now, *received, rate as f64);
        }
    }

    #[test]
    fn a_full_link_gets_no_second_connection() {
        let (mut breadth, mut now, mut received) = (Breadth::new(), Duration::ZERO, 0);
        pass(&mut breadth, &mut now, &mut received, 5, |_| 25_000_000);
        assert_eq!((breadth.proven, breadth.is_trial()), (1, false));
        let mut tried = 0;
        for _ in 0..3600 {
            pass(&mut breadth, &mut now, &mut received, 1, |_| 25_000_000);
            tried += usize::from(breadth.is_trial());
        }
        assert!(breadth.proven == 1 && tried <= 8, "{tried}");
    }

    #[test]
    fn connections_that_are_each_limited_are_added_while_they_bring_more() {
        let (mut breadth, mut now, mut received) = (Breadth::new(), Duration::ZERO, 0);
        pass(&mut breadth, &mut now, &mut received, 30, |connections| 10_000_000 * connections.min(3) as u64);
        assert_eq!(breadth.proven, 3);
    }
}
