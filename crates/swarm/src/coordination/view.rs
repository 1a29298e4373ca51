//! Which nodes are live, as far as this one knows, and which of them are the closest to a digest.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use shoal_blob::Digest;
use shoal_proto::NodeId;

use crate::Time;

/// A node counts as live for so long after a message came from it, even if discovery has not said so yet, and as gone
/// for so long after a send to it failed, even if discovery has not noticed yet.
const HEARSAY: Duration = Duration::from_secs(5);
/// One that is connected and does not answer counts as gone for so long, or until it speaks.
const SILENT: Duration = Duration::from_secs(30);
/// So many nodes around a digest may know of its leases.
const CLOSEST: usize = 20;
/// How many nodes may be known only so.
const MOST_HEARSAY: usize = 1024;

/// The live nodes other than this one.
///
/// Invariant: `version` grows whenever the set does or may change.
#[derive(Debug)]
pub(super) struct View {
    me: NodeId,
    told: BTreeSet<NodeId>,
    /// Who was only heard of, and until when that counts.
    heard: BTreeMap<NodeId, Time>,
    /// Who is not believed to live, and until when.
    gone: BTreeMap<NodeId, Time>,
    version: u64,
    /// Who came or went of late, the latest last.
    changes: VecDeque<(Time, NodeId)>,
}

/// The closest live nodes to one digest, as of one version of the view.
#[derive(Debug, Default)]
pub(super) struct Rank {
    version: Option<u64>,
    /// The closest others, the nearest first.
    pub(super) others: Vec<NodeId>,
    /// The nearest of them, where it is nearer than this node: it should coordinate.
    pub(super) closer: Option<NodeId>,
}

impl View {
    pub(super) fn new(me: NodeId, now: Time) -> Self {
        let (told, heard, gone) = Default::default();
        Self { me, told, heard, gone, version: 0, changes: VecDeque::from([(now, me)]) }
    }

    /// When one of the [`CLOSEST`] to a digest last came or went. What goes on farther away has nothing to say of leases.
    pub(super) fn changed_near(&self, digest: &Digest, rank: &Rank) -> Option<Time> {
        let farthest = rank.others.get(CLOSEST - 1).map(|node| node.distance(digest));
        let near = |node: NodeId| farthest.as_ref().is_none_or(|farthest| node.distance(digest) <= *farthest);
        self.changes.iter().rev().find(|(_, node)| near(*node)).map(|(at, _)| *at)
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    fn change(&mut self, now: Time, node: NodeId) {
        self.version += 1;
        while self.changes.front().is_some_and(|(at, _)| now.since(*at) > HEARSAY * 2)
            || self.changes.len() >= MOST_HEARSAY
        {
            self.changes.pop_front();
        }
        self.changes.push_back((now, node));
    }

    /// Takes what discovery says now; returns the nodes that are live no longer.
    pub(super) fn replace(&mut self, now: Time, live: Vec<NodeId>) -> Vec<NodeId> {
        let mut told: BTreeSet<NodeId> = live.into_iter().collect();
        told.remove(&self.me);
        let lost: Vec<NodeId> = self.told.difference(&told).copied().collect();
        // Who is new to discovery is back, whatever a failed send said before.
        let back: Vec<NodeId> = told.difference(&self.told).copied().collect();
        for node in &back {
            self.gone.remove(node);
        }
        for &node in &lost {
            self.mark_gone(node, now + HEARSAY);
        }
        if !lost.is_empty() || !back.is_empty() {
            self.told = told;
            lost.iter().chain(&back).for_each(|node| self.change(now, *node));
        }
        lost
    }

    /// A message came from this node: it is live, whatever was said of it before.
    pub(super) fn heard_from(&mut self, now: Time, node: NodeId) {
        if node == self.me {
            return;
        }
        let was_live = self.is_live(&node);
        self.gone.remove(&node);
        if !self.told.contains(&node) && (was_live || self.heard.len() < MOST_HEARSAY) {
            self.heard.insert(node, now + HEARSAY);
        }
        if !was_live && self.is_live(&node) {
            self.change(now, node);
        }
    }

    /// A send to this node failed.
    pub(super) fn lost(&mut self, now: Time, node: NodeId) {
        self.believe_gone(now, node, HEARSAY);
    }

    /// This node does not answer although it is connected. Discovery may not miss it for long.
    pub(super) fn fell_silent(&mut self, now: Time, node: NodeId) {
        self.believe_gone(now, node, SILENT);
    }

    fn believe_gone(&mut self, now: Time, node: NodeId, span: Duration) {
        if self.is_live(&node) {
            self.mark_gone(node, now + span);
            self.change(now, node);
        }
    }

    fn mark_gone(&mut self, node: NodeId, until: Time) {
        self.heard.remove(&node);
        if self.gone.len() < MOST_HEARSAY {
            self.gone.insert(node, until);
        }
    }

    /// Forgets hearsay that is too old.
    pub(super) fn sweep(&mut self, now: Time) {
        let old = |(_, until): &(&NodeId, &Time)| **until <= now;
        let nodes: Vec<NodeId> = self.heard.iter().chain(&self.gone).filter(old).map(|(node, _)| *node).collect();
        for node in nodes {
            self.heard.remove(&node);
            self.gone.remove(&node);
            self.change(now, node);
        }
    }

    /// Whether there is hearsay to forget, and when to look again.
    pub(super) fn wake(&self) -> Option<Time> {
        self.heard.values().chain(self.gone.values()).min().copied()
    }

    fn is_live(&self, node: &NodeId) -> bool {
        (self.told.contains(node) || self.heard.contains_key(node)) && !self.gone.contains_key(node)
    }

    fn live(&self) -> impl Iterator<Item = NodeId> + '_ {
        let others = self.heard.keys().filter(|node| !self.told.contains(node));
        self.told.iter().chain(others).filter(|node| !self.gone.contains_key(node)).copied()
    }

    /// The live node nearest to a digest, where it is nearer than `than`.
    pub(super) fn closer(&self, digest: &Digest, than: NodeId) -> Option<NodeId> {
        let nearest = self.live().filter(|node| *node != than).min_by_key(|node| node.distance(digest))?;
        (nearest.distance(digest) < than.distance(digest)).then_some(nearest)
    }

    /// Ranks the `most` closest anew if anything has changed since; returns whether it has.
    pub(super) fn rank(&self, digest: &Digest, most: usize, rank: &mut Rank) -> bool {
        if rank.version == Some(self.version) {
            return false;
        }
        let mut ranked: Vec<_> = self.live().map(|node| (node.distance(digest), node)).collect();
        ranked.sort_unstable();
        ranked.truncate(most);
        let mine = self.me.distance(digest);
        rank.closer = ranked.first().filter(|(distance, _)| *distance < mine).map(|(_, node)| *node);
        rank.others = ranked.into_iter().map(|(_, node)| node).collect();
        rank.version = Some(self.version);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    #[test]
    fn a_node_that_speaks_is_live_and_one_that_cannot_be_reached_is_not() {
        let digest = Digest::Sha256([9; 32]);
        let mut view = View::new(node(0), Time::ZERO);
        let mut rank = Rank::default();
        view.heard_from(Time::ZERO, node(1));
        view.replace(Time::ZERO, vec![node(0), node(2)]);
        assert!(view.rank(&digest, 64, &mut rank));
        assert_eq!(rank.others.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([node(1), node(2)]));
        assert!(!view.rank(&digest, 64, &mut rank), "nothing changed");

        view.lost(Time::ZERO, node(2));
        view.rank(&digest, 64, &mut rank);
        assert_eq!(rank.others, vec![node(1)]);

        let later = Time::ZERO + HEARSAY;
        view.sweep(later);
        view.rank(&digest, 64, &mut rank);
        assert_eq!(rank.others, vec![node(2)], "discovery still lists it; the first was only heard of");

        view.lost(later, node(2));
        view.heard_from(later, node(2));
        view.rank(&digest, 64, &mut rank);
        assert_eq!(rank.others, vec![node(2)], "it speaks");

        view.fell_silent(later, node(2));
        view.sweep(later + HEARSAY);
        view.rank(&digest, 64, &mut rank);
        assert!(rank.others.is_empty(), "it is listed and does not answer");
        assert_eq!(view.wake(), Some(later + SILENT));
    }
}
