//! How long to try, and how to wait in between.

use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use http::{HeaderMap, header};

/// Bytes that must have come since the budget was last full before it is full again: a connection that brings a few bytes
/// and breaks, for ever, must come to an end.
pub(crate) const PROGRESS: u64 = 16 * 1024;

/// How patient to be with an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The longest time to establish a connection, TLS included. 5 s.
    pub connect: Duration,
    /// The longest time without a byte of an answer while one is waited for. 10 s.
    pub stall: Duration,
    /// How many times a request is sent, in all, before anything has come of it; bytes that arrive refill this. 5.
    pub attempts: u32,
    /// The first wait before a request is sent again; it doubles, with jitter. 100 ms.
    pub backoff: Duration,
    /// The longest such wait, and the longest `Retry-After` that is honoured; a longer one fails at once. 5 s.
    pub most_backoff: Duration,
}

/// The attempts that are left for one request or one stream.
#[derive(Debug)]
pub(crate) struct Budget {
    patience: Patience,
    left: u32,
    waits: ExponentialBackoff,
    since_full: u64,
    since_failure: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            stall: Duration::from_secs(10),
            attempts: 5,
            backoff: Duration::from_millis(100),
            most_backoff: Duration::from_secs(5),
        }
    }
}

impl Patience {
    fn waits(&self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(self.backoff)
            .with_max_delay(self.most_backoff)
            .without_max_times()
            .with_jitter()
            .build()
    }
}

impl Budget {
    pub(crate) fn new(patience: Patience) -> Self {
        let left = patience.attempts.max(1) - 1;
        Self { waits: patience.waits(), patience, left, since_full: 0, since_failure: 0 }
    }

    /// Notes bytes that arrived.
    pub(crate) fn progressed(&mut self, bytes: u64) {
        self.since_full += bytes;
        self.since_failure += bytes;
        if self.since_full >= PROGRESS {
            self.since_full = 0;
            self.left = self.patience.attempts.max(1) - 1;
        }
    }

    /// Takes an attempt after a failure: how long to wait before it, or `None` when none is left or the origin asked for
    /// a longer wait than is honoured.
    pub(crate) fn again(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        if retry_after.is_some_and(|wait| wait > self.patience.most_backoff) {
            return None;
        }
        let progressed = std::mem::take(&mut self.since_failure) >= PROGRESS;
        if progressed {
            // A connection that brought much before it broke says nothing about load: go on at once.
            self.waits = self.patience.waits();
            return Some(retry_after.unwrap_or_default());
        }
        let wait = self.waits.next().unwrap_or(self.patience.most_backoff).min(self.patience.most_backoff);
        Some(retry_after.map_or(wait, |asked| asked.max(wait)))
    }
}

/// The `Retry-After` of an answer, in seconds or as a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_ends_without_progress_and_refills_with_it() {
        let patience = Patience { attempts: 3, ..Patience::default() };
        let mut budget = Budget::new(patience);
        assert!(budget.again(None).is_some());
        assert!(budget.again(None).is_some());
        assert!(budget.again(None).is_none());
        let mut budget = Budget::new(patience);
        for _ in 0..1000 {
            budget.progressed(PROGRESS);
            assert_eq!(budget.again(None), Some(Duration::ZERO));
        }
        let mut budget = Budget::new(patience);
        let dripping = (0..10_000).take_while(|_| {
            budget.progressed(1);
            budget.again(None).is_some()
        });
        assert_eq!(dripping.count(), 2, "an origin that drips must not be retried for ever");
    }

    #[test]
    fn waits_grow_and_are_bounded() {
        let patience = Patience { attempts: 50, ..Patience::default() };
        let mut budget = Budget::new(patience);
        let waits: Vec<_> = std::iter::from_fn(|| budget.again(None)).collect();
        assert_eq!(waits.len(), 49);
        assert!(waits[0] < Duration::from_millis(250) && waits[0] >= Duration::from_millis(100), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= patience.most_backoff));
    }

    #[test]
    fn retry_after_is_read_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("3"), Some(Duration::from_secs(3)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        let mut budget = Budget::new(Patience::default());
        assert_eq!(budget.again(Some(Duration::from_secs(3))), Some(Duration::from_secs(3)));
        assert_eq!(budget.again(Some(Duration::from_secs(600))), None);
    }
}
