//! Bytes a second.

use std::{num::NonZeroU64, time::Duration};

/// So many bytes a second; never none, which would be a standstill and no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// So many bytes a second; `None` for none.
    #[must_use]
    pub const fn of_bytes(a_second: u64) -> Option<Self> {
        match NonZeroU64::new(a_second) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// In bytes a second.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0.get()
    }

    /// How long so many bytes take; rounded up, so that many small parts are never faster than the rate.
    #[must_use]
    pub fn time_of(self, bytes: u64) -> Duration {
        let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(self.bytes()));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many bytes so long a time has.
    #[must_use]
    pub fn bytes_in(self, span: Duration) -> u64 {
        let bytes = span.as_nanos().saturating_mul(u128::from(self.bytes())) / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_times_fit_each_other() {
        let rate = Rate::of_bytes(3).unwrap();
        assert_eq!(rate.time_of(1), Duration::from_nanos(333_333_334));
        assert_eq!(rate.bytes_in(rate.time_of(7)), 7);
        assert_eq!(rate.bytes_in(Duration::from_millis(999)), 2);
        assert_eq!(Rate::of_bytes(0), None);
        assert_eq!(Rate::of_bytes(1).unwrap().time_of(u64::MAX).as_nanos(), u128::from(u64::MAX));
    }
}
