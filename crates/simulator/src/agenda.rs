//! What will happen, and when: the order of virtual time.

use std::{cmp::Reverse, collections::BinaryHeap};

use shoal_swarm::Time;

/// Events in the order of their times; those of one moment in the order in which they were entered.
///
/// Invariant: each key in `order` names a filled place of `bodies`, and the others are in `free`.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    order: BinaryHeap<Reverse<(Time, u64, u32)>>,
    bodies: Vec<Option<E>>,
    free: Vec<u32>,
    entered: u64,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { order: BinaryHeap::new(), bodies: Vec::new(), free: Vec::new(), entered: 0 }
    }
}

impl<E> Agenda<E> {
    pub(crate) fn enter(&mut self, at: Time, event: E) {
        let place = if let Some(place) = self.free.pop() {
            self.bodies[place as usize] = Some(event);
            place
        } else {
            self.bodies.push(Some(event));
            (self.bodies.len() - 1) as u32
        };
        self.order.push(Reverse((at, self.entered, place)));
        self.entered += 1;
    }

    pub(crate) fn next(&mut self) -> Option<(Time, E)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        self.bodies[place as usize].take().map(|event| (at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn events_come_in_order_and_ties_as_they_were_entered() {
        let at = |s| Time::after(Duration::from_secs(s));
        let mut agenda = Agenda::default();
        for (s, name) in [(3, "d"), (1, "a"), (2, "b"), (2, "c")] {
            agenda.enter(at(s), name);
        }
        assert_eq!(agenda.next(), Some((at(1), "a")));
        agenda.enter(at(2), "later");
        let rest: Vec<_> = std::iter::from_fn(|| agenda.next()).map(|(_, name)| name).collect();
        assert_eq!(rest, ["b", "c", "later", "d"]);
    }
}
