//! When "joined" is true.
//!
//! Somebody is admitted; a walk through Kademlia to my own place finishes; then every peer is asked once whom it is
//! connected to, and whoever is named is dialled and asked in turn, until nobody new is named. Who asks says where it is
//! reached, so of two nodes that join at the same moment the one that asks a peer later is told of the other.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use shoal_proto::NodeId;

const WALK_LIMIT: Duration = Duration::from_secs(5);
const SWEEP_LIMIT: Duration = Duration::from_secs(12);

/// What is known of the peers at one moment.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// Connected peers that have said who they are.
    pub(crate) settled: &'a [NodeId],
    /// Whether other peers are connected that will be settled soon.
    pub(crate) unsettled: bool,
    /// Whether nodes are known that have not been tried yet.
    pub(crate) untried: bool,
}

/// What is to be done to join.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Walk through Kademlia to my own place; then say [`Joining::walked`].
    Walk,
    /// Ask this peer whom it knows; then say [`Joining::answered`].
    Ask(NodeId),
    /// It is done.
    Joined,
}

/// How far joining has come.
#[derive(Debug, Default)]
pub(crate) enum Joining {
    /// Nobody is there.
    #[default]
    Waiting,
    /// The walk is under way.
    Walking { until: Instant },
    /// Peers are being asked.
    Sweeping { asked: HashSet<NodeId>, open: HashSet<NodeId>, until: Instant },
    /// Joined, once and for all.
    Done,
}

impl Joining {
    /// The walk has finished, well or not.
    pub(crate) fn walked(&mut self, now: Instant) {
        if let Self::Walking { .. } = self {
            *self = Self::Sweeping { asked: HashSet::new(), open: HashSet::new(), until: now + SWEEP_LIMIT };
        }
    }

    /// A peer has answered, or is gone.
    pub(crate) fn answered(&mut self, node: NodeId) {
        if let Self::Sweeping { open, .. } = self {
            open.remove(&node);
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Goes as far as the facts allow.
    pub(crate) fn advance(&mut self, facts: &Facts<'_>, now: Instant) -> Vec<Next> {
        match self {
            Self::Waiting if facts.settled.is_empty() => Vec::new(),
            Self::Waiting => {
                *self = Self::Walking { until: now + WALK_LIMIT };
                vec![Next::Walk]
            }
            Self::Walking { until } if now < *until => Vec::new(),
            Self::Walking { .. } => {
                self.walked(now);
                self.advance(facts, now)
            }
            Self::Sweeping { asked, open, until } => {
                let new: Vec<_> = facts.settled.iter().copied().filter(|node| asked.insert(*node)).collect();
                open.extend(&new);
                let all_done = open.is_empty() && !facts.unsettled && !facts.untried;
                if facts.settled.is_empty() && !facts.unsettled {
                    *self = Self::Waiting;
                    Vec::new()
                } else if all_done || now >= *until {
                    *self = Self::Done;
                    vec![Next::Joined]
                } else {
                    new.into_iter().map(Next::Ask).collect()
                }
            }
            Self::Done => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    fn facts(settled: &[NodeId]) -> Facts<'_> {
        Facts { settled, unsettled: false, untried: false }
    }

    #[test]
    fn joins_only_after_everybody_found_was_dialled_and_asked() {
        let now = Instant::now();
        let mut joining = Joining::default();
        assert_eq!(joining.advance(&facts(&[]), now), []);
        assert_eq!(joining.advance(&facts(&[node(1)]), now), [Next::Walk]);
        assert_eq!(joining.advance(&facts(&[node(1)]), now), []);
        joining.walked(now);
        assert_eq!(joining.advance(&facts(&[node(1)]), now), [Next::Ask(node(1))]);
        assert_eq!(joining.advance(&facts(&[node(1)]), now), []);
        joining.answered(node(1));
        let settled = [node(1)];
        let untried = Facts { untried: true, ..facts(&settled) };
        assert_eq!(joining.advance(&untried, now), []);
        let unsettled = Facts { unsettled: true, ..facts(&settled) };
        assert_eq!(joining.advance(&unsettled, now), []);
        assert_eq!(joining.advance(&facts(&[node(1), node(2)]), now), [Next::Ask(node(2))]);
        joining.answered(node(2));
        assert_eq!(joining.advance(&facts(&[node(1), node(2)]), now), [Next::Joined]);
        assert!(joining.is_done());
    }

    #[test]
    fn starts_again_when_all_are_lost_and_never_waits_for_ever() {
        let now = Instant::now();
        let mut joining = Joining::default();
        joining.advance(&facts(&[node(1)]), now);
        let later = now + WALK_LIMIT;
        assert_eq!(joining.advance(&facts(&[node(1)]), later), [Next::Ask(node(1))]);
        joining.answered(node(1));
        assert_eq!(joining.advance(&facts(&[]), later), []);
        assert_eq!(joining.advance(&facts(&[node(2)]), later), [Next::Walk]);
        joining.walked(later);
        assert_eq!(joining.advance(&facts(&[node(2)]), later), [Next::Ask(node(2))]);
        assert_eq!(joining.advance(&facts(&[node(2)]), later + SWEEP_LIMIT), [Next::Joined]);
    }
}
