//! Whether an endpoint works, as far as it is known.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// How long an endpoint that failed is left alone; doubled each time that it fails again.
const REST: Duration = Duration::from_secs(30);
const LONGEST_REST: Duration = Duration::from_secs(480);
/// How long one request alone may try an endpoint that has rested.
const TRIAL: Duration = Duration::from_secs(30);

/// The state of one endpoint of several. One that failed rests; then one request tries it, while the others still go
/// elsewhere, and its outcome is that of all.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Option<Rest>>);

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    length: Duration,
}

impl Health {
    /// Whether a request may go there now.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        let mut rest = self.lock();
        match rest.as_mut() {
            None => true,
            Some(rest) if now < rest.until => false,
            Some(rest) => {
                rest.until = now + TRIAL;
                true
            }
        }
    }

    /// When it may be tried again, where it rests.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.lock().map(|rest| rest.until)
    }

    /// It answered. Returns whether it had been resting.
    pub(crate) fn worked(&self) -> bool {
        self.lock().take().is_some()
    }

    /// It did not, or asked to be left alone for so long. Returns how long it rests.
    pub(crate) fn failed(&self, now: Instant, asked: Option<Duration>) -> Duration {
        let mut rest = self.lock();
        let length = rest.map_or(REST, |rest| (rest.length * 2).min(LONGEST_REST));
        let pause = asked.unwrap_or(length).clamp(Duration::from_secs(1), LONGEST_REST);
        *rest = Some(Rest { until: now + pause, length });
        pause
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Rest>> {
        self.0.lock().expect("nobody panics while holding the state of an endpoint")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_failed_rests_and_is_tried_by_one_request() {
        let (health, start) = (Health::default(), Instant::now());
        assert!(health.admits(start) && !health.worked());
        assert_eq!(health.failed(start, None), REST);
        assert!(!health.admits(start + REST / 2));
        assert!(health.admits(start + REST));
        assert!(!health.admits(start + REST), "a second request does not wait for the first");
        assert_eq!(health.failed(start + REST, None), 2 * REST);
        assert!(!health.admits(start + REST + REST));
        assert!(health.admits(start + 3 * REST) && health.worked());
        assert!(health.admits(start + 3 * REST) && health.admits(start + 3 * REST));
        for _ in 0..9 {
            health.failed(start, None);
        }
        assert_eq!(health.failed(start, None), LONGEST_REST);
    }

    #[test]
    fn one_that_asks_to_be_left_alone_is() {
        let (health, start) = (Health::default(), Instant::now());
        assert_eq!(health.failed(start, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(health.until(), Some(start + Duration::from_secs(7)));
        assert_eq!(health.failed(start, Some(Duration::from_secs(86_400))), LONGEST_REST);
    }
}
