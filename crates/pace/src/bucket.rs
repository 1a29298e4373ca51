//! The arithmetic of a limit.

use std::time::{Duration, Instant};

use crate::Rate;

/// A token bucket that may be overdrawn, kept as one moment.
///
/// Bytes pass while nothing is owed, and are charged for whole: what was overdrawn is paid before the next may pass. So a batch
/// need not fit into anything, and a large one does not wait for ever while small ones pass it. Whoever lets bytes pass only at
/// [`paid`](Self::paid) or later, and charges for them, passes in any span `W` at most `rate * (W + slack)` and the last batch.
/// One that is never late by more than the slack passes no less than `rate * (W - slack)` without the last batch: what a late
/// timer has cost is caught up, a longer idle time is not.
///
/// Invariant: `paid` is the moment up to which the rate has been spent; before now, that is credit, after now, debt.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    slack: Duration,
    paid: Instant,
}

impl Bucket {
    /// A bucket that owes nothing and has no credit. `slack` is how long a time of the rate may be caught up.
    #[must_use]
    pub const fn new(now: Instant, rate: Rate, slack: Duration) -> Self {
        Self { rate, slack, paid: now }
    }

    /// The moment from which the next bytes may pass, were they charged for last.
    #[must_use]
    pub const fn paid(&self) -> Instant {
        self.paid
    }

    /// The rate that holds.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Charges for bytes, and returns when they are paid for.
    pub fn charge(&mut self, now: Instant, bytes: u64) -> Instant {
        let floor = now.checked_sub(self.slack).unwrap_or(now);
        self.paid = self.paid.max(floor) + self.rate.time_of(bytes);
        self.paid
    }

    /// Charges for bytes that came unasked. For them no more is owed than takes `longest`: what nobody can hold back must not
    /// hold back for ever what somebody can.
    pub fn charge_unasked(&mut self, now: Instant, bytes: u64, longest: Duration) {
        let most = self.paid.max(now + longest);
        self.charge(now, bytes);
        self.paid = self.paid.min(most);
    }

    /// Gives back what was charged for and did not pass.
    pub fn refund(&mut self, bytes: u64) {
        self.paid = self.paid.checked_sub(self.rate.time_of(bytes)).unwrap_or(self.paid);
    }

    /// Changes the rate. What is owed stays owed, in bytes.
    pub fn set_rate(&mut self, now: Instant, rate: Rate) {
        let owed = self.rate.bytes_in(self.paid.saturating_duration_since(now));
        if owed > 0 {
            self.paid = now + rate.time_of(owed);
        }
        self.rate = rate;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLACK: Duration = Duration::from_millis(50);

    fn bucket(start: Instant, rate: u64) -> Bucket {
        Bucket::new(start, Rate::of_bytes(rate).unwrap(), SLACK)
    }

    /// What has passed, and when.
    type Passed = Vec<(Instant, u64)>;

    /// The most that passed in any span, beyond the rate's own and the last batch, in bytes.
    fn burst(passed: &Passed, rate: f64) -> f64 {
        let mut worst: f64 = 0.0;
        for (first, (from, _)) in passed.iter().enumerate() {
            let mut bytes = 0.0;
            for (to, batch) in &passed[first..] {
                worst = worst.max(bytes - rate * (*to - *from).as_secs_f64());
                bytes += *batch as f64;
            }
        }
        worst
    }

    proptest! {
        /// Whatever is asked for when: no span has more than its rate, the slack and one batch.
        #[test]
        fn no_span_has_more_than_its_rate(
            rate in 100_000u64..2_000_000_000,
            asked in prop::collection::vec((0u64..100_000, 1u64..65_536), 1..200),
        ) {
            let start = Instant::now();
            let (mut bucket, mut now, mut passed) = (bucket(start, rate), start, Passed::new());
            for (micros, batch) in asked {
                now += Duration::from_micros(micros);
                if bucket.paid() <= now {
                    bucket.charge(now, batch);
                    passed.push((now, batch));
                }
            }
            let rate = rate as f64;
            prop_assert!(burst(&passed, rate) <= rate * SLACK.as_secs_f64() + 1.0, "{passed:?}");
        }

        /// Who always has something to send, and is late by no more than the slack, gets the rate.
        #[test]
        fn constant_demand_gets_the_rate(
            rate in 100_000u64..2_000_000_000,
            batches in prop::collection::vec((0u64..50_000, 1u64..65_536), 10..200),
        ) {
            let start = Instant::now();
            let (mut bucket, mut now, mut bytes) = (bucket(start, rate), start, 0);
            for &(late, batch) in &batches {
                now = now.max(bucket.paid() + Duration::from_micros(late));
                bucket.charge(now, batch);
                bytes += batch;
            }
            // Each charge is rounded up by a nanosecond at most.
            let rounded = Duration::from_nanos(batches.len() as u64);
            let span = (now - start).saturating_sub(SLACK + rounded);
            let largest = batches.iter().map(|(_, batch)| *batch).max().unwrap_or(0);
            prop_assert!((bytes + largest) as f64 >= rate as f64 * span.as_secs_f64());
        }

        /// A change of the rate forgives nothing, and adds nothing.
        #[test]
        fn what_is_owed_stays_owed(rates in (100_000u64..2_000_000_000, 100_000u64..2_000_000_000), bytes in 1u64..1 << 24) {
            let start = Instant::now();
            let mut bucket = bucket(start, rates.0);
            bucket.charge(start, bytes);
            let rate = Rate::of_bytes(rates.1).unwrap();
            bucket.set_rate(start, rate);
            let owed = rate.bytes_in(bucket.paid() - start);
            prop_assert!(owed.abs_diff(bytes) <= 2 + rates.1 / 1_000_000_000 * 2, "{owed} of {bytes}");
        }
    }

    #[test]
    fn a_late_timer_is_caught_up_and_an_idle_time_is_not() {
        let start = Instant::now();
        let mut bucket = bucket(start, 1000);
        assert_eq!(bucket.charge(start, 10), start + Duration::from_millis(10));
        let late = start + Duration::from_millis(45);
        assert_eq!(bucket.charge(late, 10), start + Duration::from_millis(20));
        let idle = start + Duration::from_secs(60);
        assert_eq!(bucket.charge(idle, 1000), idle + Duration::from_secs(1) - SLACK);
    }

    #[test]
    fn what_came_unasked_is_owed_for_so_long_and_no_longer() {
        let start = Instant::now();
        let mut bucket = bucket(start, 1000);
        let longest = Duration::from_secs(1);
        bucket.charge_unasked(start, 100, longest);
        assert_eq!(bucket.paid(), start + Duration::from_millis(100));
        bucket.charge_unasked(start, 100_000, longest);
        assert_eq!(bucket.paid(), start + longest);
        // What is owed already is not made less by more that comes.
        bucket.charge(start, 5000);
        bucket.charge_unasked(start, 1000, longest);
        assert_eq!(bucket.paid(), start + Duration::from_secs(6));
    }

    #[test]
    fn what_did_not_pass_is_given_back() {
        let start = Instant::now();
        let mut bucket = bucket(start, 1000);
        bucket.charge(start, 300);
        bucket.refund(100);
        assert_eq!(bucket.paid(), start + Duration::from_millis(200));
    }
}
