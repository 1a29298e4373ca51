//! An even rate over many bodies.

use shoal_pace::{Limit, Rate};

/// Hands out the right to send bytes, so many a second, to whoever asks first.
#[derive(Debug)]
pub(crate) struct Pacer {
    bytes_per_second: u64,
    limit: Limit,
}

impl Pacer {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, limit: Limit::new(Rate::of_bytes(bytes_per_second)) }
    }

    /// How many bytes to send at a time: a fiftieth of a second's worth.
    pub(crate) const fn step(&self) -> u64 {
        let step = self.bytes_per_second / 50;
        if step == 0 { 1 } else { step }
    }

    /// Returns when `bytes` may be sent.
    pub(crate) async fn pay(&self, bytes: u64) {
        let due = self.limit.charge(bytes);
        self.limit.wait(due).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keeps_the_rate_however_many_ask() {
        let (pacer, start) = (Pacer::new(100_000), Instant::now());
        assert_eq!(pacer.step(), 2000);
        join_all((0..50).map(|_| pacer.pay(2000))).await;
        assert!(start.elapsed().abs_diff(Duration::from_secs(1)) <= Duration::from_millis(2), "{:?}", start.elapsed());
        assert_eq!(Pacer::new(1).step(), 1);
    }
}
