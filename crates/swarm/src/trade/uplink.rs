//! What the node's uplink was seen to do.

use std::time::Duration;

use crate::Time;

/// How fast the uplink carries pieces, and how long it takes until a slot is answered.
///
/// Invariant: `running` is the number of uploads that have begun and not ended, over all swarms, and `since` is a time while
/// there are any.
#[derive(Debug)]
pub(super) struct Uplink {
    running: u32,
    /// From when on the time is not counted yet.
    since: Time,
    /// Bytes that have arrived, and the seconds that uploads ran for them; both fade.
    bytes: f64,
    busy: f64,
    answer: Option<Duration>,
    /// The least round trip to those that took something; smoothed.
    rtt: Duration,
}

/// What was seen is smoothed over about so many.
const SMOOTH: u32 = 8;

impl Uplink {
    /// One of which nothing is known.
    pub(super) const fn new() -> Self {
        Self { running: 0, since: Time::ZERO, bytes: 0.0, busy: 0.0, answer: None, rtt: Duration::ZERO }
    }

    /// An upload begins.
    pub(super) fn began(&mut self, now: Time) {
        if self.running == 0 {
            self.since = now;
        }
        self.running += 1;
    }

    /// One ends, or is given up; so many bytes have arrived.
    pub(super) fn ended(&mut self, now: Time, bytes: u64) {
        debug_assert!(self.running > 0, "an upload ends once");
        self.running = self.running.saturating_sub(1);
        let keep = 1.0 - 1.0 / f64::from(SMOOTH);
        self.busy = self.busy * keep + now.since(self.since).as_secs_f64();
        self.bytes = self.bytes * keep + bytes as f64;
        self.since = now;
    }

    /// A slot was answered, after so long.
    pub(super) fn answered(&mut self, span: Duration) {
        self.answer = Some(self.answer.map_or(span, |before| (before * (SMOOTH - 1) + span) / SMOOTH));
    }

    /// Somebody took a piece, whose round trip without anything waiting is this.
    pub(super) fn reached(&mut self, rtt: Duration) {
        self.rtt = if self.rtt.is_zero() { rtt } else { (self.rtt * (SMOOTH - 1) + rtt) / SMOOTH };
    }

    /// Bytes a second while uploads run; 0 before any has ended.
    pub(super) fn rate(&self) -> f64 {
        if self.bytes == 0.0 { 0.0 } else { self.bytes / self.busy.max(1e-6) }
    }

    /// How long it takes until a slot is answered: a round trip, and what waits before the links on the way.
    pub(super) fn answer(&self) -> Duration {
        self.answer.unwrap_or_default()
    }

    /// How far those that take something are.
    pub(super) const fn rtt(&self) -> Duration {
        self.rtt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn uploads_side_by_side_show_what_all_carry_together() {
        let mut uplink = Uplink::new();
        assert_eq!(uplink.rate(), 0.0);
        let mut now = Time::ZERO;
        (0..4).for_each(|_| uplink.began(now));
        for _ in 0..100 {
            now = now + 10 * MS;
            uplink.ended(now, 1_000_000);
            uplink.began(now);
        }
        assert!((uplink.rate() / 1e8 - 1.0).abs() < 1e-3, "{}", uplink.rate());
        // What was given up took its time.
        uplink.ended(now + 10 * MS, 0);
        assert!(uplink.rate() < 9e7);
    }

    #[test]
    fn idle_time_says_nothing() {
        let mut uplink = Uplink::new();
        for second in 0..10 {
            let now = Time::after(Duration::from_secs(second));
            uplink.began(now);
            uplink.ended(now + 10 * MS, 1_000_000);
        }
        assert!((uplink.rate() / 1e8 - 1.0).abs() < 1e-3, "{}", uplink.rate());
    }

    #[test]
    fn answers_are_smoothed() {
        let mut uplink = Uplink::new();
        uplink.answered(8 * MS);
        assert_eq!(uplink.answer(), 8 * MS);
        uplink.answered(16 * MS);
        assert_eq!(uplink.answer(), 9 * MS);
    }
}
