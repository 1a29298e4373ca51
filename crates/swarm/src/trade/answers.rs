//! How long a neighbour takes to answer a slot.

use std::time::Duration;

/// The mean and the spread of its answers so far, smoothed as TCP smooths round trips (RFC 6298). A link that is full makes
/// words late that a connection's first round trips knew nothing of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answers(Option<(Duration, Duration)>);

impl Answers {
    /// An answer has come after so long.
    pub(super) fn learn(&mut self, span: Duration) {
        self.0 = Some(match self.0 {
            None => (span, span / 2),
            Some((mean, spread)) => ((mean * 7 + span) / 8, (spread * 3 + mean.abs_diff(span)) / 4),
        });
    }

    /// How long it may take before it counts as not coming; nothing while none has come.
    pub(super) fn patience(self) -> Duration {
        self.0.map_or(Duration::ZERO, |(mean, spread)| mean + spread * 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_what_is_seen() {
        let mut answers = Answers::default();
        assert_eq!(answers.patience(), Duration::ZERO);
        (0..100).for_each(|_| answers.learn(Duration::from_millis(1)));
        assert!(answers.patience() < Duration::from_millis(2));
        answers.learn(Duration::from_millis(300));
        assert!(answers.patience() > Duration::from_millis(300), "one late answer is enough to expect the next");
    }
}
