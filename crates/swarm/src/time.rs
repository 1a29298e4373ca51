//! Time as the drivers tell it: a monotonic count that only they can read.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A moment, in nanoseconds since a beginning that the driver chose. Only differences mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The driver's beginning.
    pub const ZERO: Self = Self(0);

    /// The moment that lies so long after the beginning; 584 years at most.
    #[must_use]
    pub fn after(since_beginning: Duration) -> Self {
        Self(u64::try_from(since_beginning.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}
