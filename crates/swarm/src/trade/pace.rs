//! How long a piece takes, as this node has seen it.

use std::time::Duration;

/// How many pieces are remembered.
const REMEMBERED: usize = 33;

/// The median of the last piece times: what deadlines are multiples of. A median, because one slow neighbour must not make
/// all deadlines long. It is asked for many times in a decision, and learns a few times a piece.
///
/// Invariant: `sorted` has what `times` has, in order.
#[derive(Debug, Default)]
pub(super) struct Pace {
    times: Vec<Duration>,
    next: usize,
    sorted: Vec<Duration>,
}

impl Pace {
    pub(super) fn learn(&mut self, span: Duration) {
        if self.times.len() < REMEMBERED {
            self.times.push(span);
        } else {
            let oldest = std::mem::replace(&mut self.times[self.next], span);
            self.next = (self.next + 1) % REMEMBERED;
            let place = self.sorted.partition_point(|&time| time < oldest);
            self.sorted.remove(place);
        }
        let place = self.sorted.partition_point(|&time| time < span);
        self.sorted.insert(place, span);
    }

    /// The median, once there are three.
    pub(super) fn median(&self) -> Option<Duration> {
        if self.sorted.len() < 3 { None } else { Some(self.sorted[self.sorted.len() / 2]) }
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
