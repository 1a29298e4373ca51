//! When a blob was last used.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

/// The system's time in microseconds since 1970, made strictly increasing: two uses never have the same time, and a clock
/// that is set back does not make what is used now the oldest.
#[derive(Debug, Default)]
pub(crate) struct UseClock(AtomicU64);

impl UseClock {
    pub(crate) fn now(&self) -> u64 {
        let system = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let system = u64::try_from(system.as_micros()).unwrap_or(0);
        let next = |last: u64| Some(system.max(last.saturating_add(1)));
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        system.max(last.saturating_add(1))
    }

    /// Makes every later time greater than one that was read from the index, if that is not absurdly far ahead.
    pub(crate) fn passed(&self, micros: u64) {
        const DAY: u64 = 24 * 3600 * 1_000_000;
        if micros < self.now().saturating_add(DAY) {
            self.0.fetch_max(micros, Ordering::Relaxed);
        }
    }
}
