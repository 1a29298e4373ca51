//! How long a piece takes, as this node has seen it.

use std::time::Duration;

/// How many pieces are remembered.
const REMEMBERED: usize = 33;

/// The median of the last piece times: what deadlines are multiples of. A median, because one slow neighbour must not make
/// all deadlines long.
#[derive(Debug, Default)]
pub(super) struct Pace {
    times: Vec<Duration>,
    next: usize,
}

impl Pace {
    pub(super) fn learn(&mut self, span: Duration) {
        if self.times.len() < REMEMBERED {
            self.times.push(span);
        } else {
            self.times[self.next] = span;
            self.next = (self.next + 1) % REMEMBERED;
        }
    }

    /// The median, once there are three.
    pub(super) fn median(&self) -> Option<Duration> {
        if self.times.len() < 3 {
            return None;
        }
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        Some(sorted[sorted.len() / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_piece_does_not_move_the_median() {
        let mut pace = Pace::default();
        assert_eq!(pace.median(), None);
        for millis in [10, 11, 12, 9000, 10] {
            pace.learn(Duration::from_millis(millis));
        }
        assert_eq!(pace.median(), Some(Duration::from_millis(11)));
        for _ in 0..100 {
            pace.learn(Duration::from_millis(50));
        }
        assert_eq!(pace.median(), Some(Duration::from_millis(50)));
    }
}
