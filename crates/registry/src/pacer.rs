//! An even rate over many bodies.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Hands out the right to send bytes, so many a second, to whoever asks first.
///
/// Invariant: `paid` is the moment up to which the rate has been spent.
#[derive(Debug)]
pub(crate) struct Pacer {
    bytes_per_second: u64,
    paid: Mutex<Option<Instant>>,
}

/// How far it may lag behind the rate and catch up: more than a timer's millisecond of coarseness.
const SLACK: Duration = Duration::from_millis(20);

impl Pacer {
    pub(crate) const fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, paid: Mutex::new(None) }
    }

    /// How many bytes to send at a time: a fiftieth of a second's worth.
    pub(crate) const fn step(&self) -> u64 {
        let step = self.bytes_per_second / 50;
        if step == 0 { 1 } else { step }
    }

    /// Returns when `bytes` may be sent.
    pub(crate) async fn pay(&self, bytes: u64) {
        let due = self.due(bytes, Instant::now());
        sleep_until(due).await;
    }

    fn due(&self, bytes: u64, now: Instant) -> Instant {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let floor = now.checked_sub(SLACK).unwrap_or(now);
        let from = paid.map_or(now, |paid| paid.max(floor));
        *paid.insert(from + cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_rate_however_many_ask() {
        let (pacer, start) = (Pacer::new(100_000), Instant::now());
        assert_eq!(pacer.step(), 2000);
        let due = (0..50).map(|_| pacer.due(2000, start)).last().unwrap();
        assert_eq!((due - start).as_millis(), 1000);
    }

    #[test]
    fn a_late_wake_up_is_caught_up_and_an_idle_time_is_not() {
        let (pacer, start) = (Pacer::new(1000), Instant::now());
        assert_eq!(pacer.due(10, start), start + Duration::from_millis(10));
        let late = start + Duration::from_millis(15);
        assert_eq!(pacer.due(10, late), start + Duration::from_millis(20));
        let idle = start + Duration::from_secs(60);
        assert_eq!(pacer.due(1000, idle), idle + Duration::from_secs(1) - SLACK);
    }
}
