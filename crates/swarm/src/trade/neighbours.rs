//! The neighbours of a swarm, in the order of their names.

use std::{iter::Zip, slice, time::Duration};

use shoal_proto::NodeId;

use super::neighbour::Neighbour;
use crate::Time;

/// A map of about twenty: each decision looks at all of them, so that they lie side by side.
///
/// Invariant: `names` ascends, and the neighbour of each name is at the same place of `neighbours`.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    names: Vec<NodeId>,
    neighbours: Vec<Neighbour>,
    /// Of whom this node took leave, and when; those of the last moment.
    left: Vec<(NodeId, Time)>,
}

/// A Hello that comes so soon after a Bye was said has crossed it.
const CROSSES: Duration = Duration::from_secs(1);

impl Neighbours {
    pub(super) const fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn place(&self, node: &NodeId) -> Option<usize> {
        self.names.iter().position(|name| name == node)
    }

    pub(super) fn get(&self, node: &NodeId) -> Option<&Neighbour> {
        self.neighbours.get(self.place(node)?)
    }

    pub(super) fn get_mut(&mut self, node: &NodeId) -> Option<&mut Neighbour> {
        let place = self.place(node)?;
        self.neighbours.get_mut(place)
    }

    pub(super) fn leave(&mut self, now: Time, node: NodeId) {
        self.left.retain(|(_, at)| now.since(*at) < CROSSES);
        self.left.push((node, now));
    }

    pub(super) fn has_left(&self, now: Time, node: &NodeId) -> bool {
        self.left.iter().any(|(left, at)| left == node && now.since(*at) < CROSSES)
    }

    pub(super) fn insert(&mut self, node: NodeId, neighbour: Neighbour) {
        self.left.retain(|(left, _)| *left != node);
        match self.names.binary_search(&node) {
            Ok(place) => self.neighbours[place] = neighbour,
            Err(place) => {
                self.names.insert(place, node);
                self.neighbours.insert(place, neighbour);
            }
        }
    }

    pub(super) fn remove(&mut self, node: &NodeId) -> Option<Neighbour> {
        let place = self.place(node)?;
        self.names.remove(place);
        Some(self.neighbours.remove(place))
    }

    pub(super) fn keys(&self) -> slice::Iter<'_, NodeId> {
        self.names.iter()
    }

    pub(super) fn values(&self) -> slice::Iter<'_, Neighbour> {
        self.neighbours.iter()
    }

    pub(super) fn values_mut(&mut self) -> slice::IterMut<'_, Neighbour> {
        self.neighbours.iter_mut()
    }

    pub(super) fn iter(&self) -> Zip<slice::Iter<'_, NodeId>, slice::Iter<'_, Neighbour>> {
        self.names.iter().zip(&self.neighbours)
    }
}

impl<'a> IntoIterator for &'a Neighbours {
    type Item = (&'a NodeId, &'a Neighbour);
    type IntoIter = Zip<slice::Iter<'a, NodeId>, slice::Iter<'a, Neighbour>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shoal_blob::PieceSet;

    use super::*;

    #[test]
    fn they_are_found_by_name_and_come_in_order() {
        let name = |n: u8| NodeId::from_bytes([n; 32]);
        let mut neighbours = Neighbours::default();
        for n in [5, 1, 9, 3] {
            neighbours.insert(name(n), Neighbour::new(&PieceSet::empty(8), Duration::from_millis(n.into())));
        }
        assert!(neighbours.remove(&name(4)).is_none() && neighbours.remove(&name(5)).is_some());
        assert!(neighbours.keys().eq(&[1, 3, 9].map(name)));
        for n in [1, 3, 9] {
            assert_eq!(neighbours.get(&name(n)).map(|one| one.rtt), Some(Duration::from_millis(n.into())));
        }
        assert_eq!(neighbours.iter().len(), 3);
    }

    #[test]
    fn leave_is_remembered_for_a_moment_and_until_they_meet_again() {
        let (one, other) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let mut neighbours = Neighbours::default();
        let now = Time::after(Duration::from_secs(9));
        neighbours.leave(now, one);
        neighbours.leave(now, other);
        neighbours.insert(other, Neighbour::new(&PieceSet::empty(8), Duration::ZERO));
        assert!(neighbours.has_left(now + CROSSES / 2, &one) && !neighbours.has_left(now, &other));
        assert!(!neighbours.has_left(now + CROSSES, &one));
    }
}
