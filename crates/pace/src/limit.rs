//! One limit for many.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::time::sleep_until;

use crate::{Bucket, Rate};

/// How much of a late timer's time is caught up: more than a busy machine is late, and one part in two hundred of what passes
/// in ten seconds.
const SLACK: Duration = Duration::from_millis(50);
/// Who waits looks again after so long: the limit may have been changed.
const LOOK: Duration = Duration::from_millis(100);

/// A limit of bytes a second, or none, over all that share it. Cheap to clone; clones share everything, a change included.
///
/// Without a limit each call costs one relaxed load.
///
/// Invariant: `rate` is that of the bucket, or 0 where there is none.
#[derive(Clone, Debug)]
pub struct Limit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    rate: AtomicU64,
    bucket: Mutex<Option<Bucket>>,
}

/// A place among those that wait to pass so many bytes: they are charged for already. Dropped, it gives them back, so drop it
/// just before what really passes is charged for.
///
/// Who waits is served in turn: each place is behind all that were given before, however small the batches of others are, and
/// nobody has to leave before the next is served. A place that is not used costs the others the time of its bytes at most.
#[derive(Debug)]
pub struct Turn {
    limit: Limit,
    bytes: u64,
    at: Instant,
}

impl Default for Limit {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Limit {
    /// A limit of that rate, or none.
    #[must_use]
    pub fn new(rate: Option<Rate>) -> Self {
        let this = Self(Arc::new(Shared { rate: AtomicU64::new(0), bucket: Mutex::new(None) }));
        this.set(rate);
        this
    }

    /// The rate that holds; `None` without a limit.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        Rate::of_bytes(self.0.rate.load(Relaxed))
    }

    /// Changes the rate, or lifts the limit. Holds at once for whoever comes, and within a tenth of a second for those that wait.
    pub fn set(&self, rate: Option<Rate>) {
        let mut bucket = self.0.bucket.lock();
        match (bucket.as_mut(), rate) {
            (Some(bucket), Some(rate)) => bucket.set_rate(now(), rate),
            (_, rate) => *bucket = rate.map(|rate| Bucket::new(now(), rate, SLACK)),
        }
        self.0.rate.store(rate.map_or(0, Rate::bytes), Relaxed);
    }

    /// Charges for bytes that pass now, and returns when they are paid for. To keep to the limit pass the next after that: see
    /// [`wait`](Self::wait). Many that do so are served in turn.
    pub fn charge(&self, bytes: u64) -> Option<Instant> {
        self.rate()?;
        self.0.bucket.lock().as_mut().map(|bucket| bucket.charge(now(), bytes))
    }

    /// Charges for bytes that came unasked, as [`Bucket::charge_unasked`].
    pub fn charge_unasked(&self, bytes: u64, longest: Duration) {
        if self.rate().is_some()
            && let Some(bucket) = self.0.bucket.lock().as_mut()
        {
            bucket.charge_unasked(now(), bytes, longest);
        }
    }

    /// A place to wait in until so many bytes may pass; `None` when they may at once.
    #[must_use]
    pub fn turn(&self, bytes: u64) -> Option<Turn> {
        self.rate()?;
        let mut bucket = self.0.bucket.lock();
        let bucket = bucket.as_mut()?;
        let (now, at) = (now(), bucket.paid());
        if at <= now {
            return None;
        }
        bucket.charge(now, bytes);
        Some(Turn { limit: self.clone(), bytes, at })
    }

    /// Waits until what [`charge`](Self::charge) has promised; without a promise, until nothing is owed at all. Cancel-safe.
    pub async fn wait(&self, promised: Option<Instant>) {
        while let Some(at) = self.owed_until(promised) {
            sleep_until((now() + LOOK).min(at).into()).await;
        }
    }

    /// How long it takes until nothing is owed.
    #[must_use]
    pub fn owed(&self) -> Duration {
        self.owed_until(None).map_or(Duration::ZERO, |at| at.saturating_duration_since(now()))
    }

    /// Until when to wait, if at all. What was promised under a lower rate is due when everything is.
    fn owed_until(&self, promised: Option<Instant>) -> Option<Instant> {
        self.rate()?;
        let paid = self.0.bucket.lock().as_ref()?.paid();
        let at = promised.map_or(paid, |promised| promised.min(paid));
        (at > now()).then_some(at)
    }
}

impl Turn {
    /// When the bytes may pass.
    #[must_use]
    pub const fn at(&self) -> Instant {
        self.at
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(bucket) = self.limit.0.bucket.lock().as_mut() {
            bucket.refund(self.bytes);
        }
    }
}

/// The runtime's time, which tests may hold.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bytes: u64) -> Option<Rate> {
        Rate::of_bytes(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let (limit, start) = (Limit::default(), now());
        assert_eq!((limit.rate(), limit.charge(1 << 40)), (None, None));
        assert!(limit.turn(1).is_none());
        limit.wait(None).await;
        assert_eq!(now(), start);
    }

    #[tokio::test(start_paused = true)]
    async fn who_charges_and_waits_keeps_the_rate_however_many_do() {
        let (limit, start) = (Limit::new(rate(100_000)), now());
        let reader = async |mut batches: u32| {
            let mut due = None;
            while batches > 0 {
                limit.wait(due).await;
                due = limit.charge(1000);
                batches -= 1;
            }
            limit.wait(due).await;
            now() - start
        };
        let (one, other) = tokio::join!(reader(50), reader(50));
        assert_eq!(one.max(other).as_millis(), 1000);
        assert!(one.abs_diff(other) <= Duration::from_millis(11), "{one:?} and {other:?}: in turn");
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_given_in_order_to_large_and_small() {
        let limit = Limit::new(rate(1_000_000));
        limit.charge(1000);
        let sender = async |nominal: u64, real: u64| {
            let (mut sent, until) = (0u64, now() + Duration::from_secs(10));
            while now() < until {
                if let Some(turn) = limit.turn(nominal) {
                    sleep_until(turn.at().into()).await;
                }
                limit.charge(real);
                sent += 1;
            }
            sent
        };
        // The second says little each time, and is charged for no more than that.
        let (one, small, other) = tokio::join!(sender(5000, 5000), sender(5000, 40), sender(5000, 5000));
        assert!(one.abs_diff(other) <= 2 && small >= one.min(other), "{one}, {small} and {other} batches");
        let bytes = (one + other) * 5000 + small * 40;
        assert!((9_800_000..=10_065_000).contains(&bytes), "{bytes} bytes in ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_is_not_taken_is_given_back() {
        let limit = Limit::new(rate(1000));
        limit.charge(100);
        let turn = limit.turn(500);
        assert_eq!(limit.owed(), Duration::from_millis(600));
        drop(turn);
        assert_eq!(limit.owed(), Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_hears_of_a_change() {
        let (limit, start) = (Limit::new(rate(1000)), now());
        let due = limit.charge(60_000);
        let waiting = tokio::spawn({
            let limit = limit.clone();
            async move { limit.wait(due).await }
        });
        tokio::time::sleep(Duration::from_secs(10)).await;
        limit.set(rate(50_000));
        waiting.await.unwrap();
        // Fifty thousand bytes were still owed.
        assert!((now() - start).abs_diff(Duration::from_secs(11)) <= LOOK, "{:?}", now() - start);

        let due = limit.charge(1 << 30);
        let waiting = tokio::spawn({
            let limit = limit.clone();
            async move { limit.wait(due).await }
        });
        tokio::task::yield_now().await;
        let lifted = now();
        limit.set(None);
        waiting.await.unwrap();
        assert!(now() - lifted <= LOOK);
    }
}
