//! Whom a member takes for the coordinator of its digest.

use std::collections::{BTreeMap, VecDeque};

use shoal_blob::Digest;
use shoal_proto::NodeId;

use super::Settings;
use crate::Time;

/// How many of the closest nodes are kept from a look-up.
const MOST_CLOSEST: usize = 20;
/// Grants of so many closest nodes are believed: the coordinator and its standbys.
const TRUSTED: usize = 3;
/// How many former coordinators are remembered, whose grants may still be told.
const FORMER: usize = 4;
/// How often a member lets itself be sent on between two look-ups.
const MOST_HOPS: u8 = 8;

/// Invariant: `closest` is in order of distance and has this node in it.
#[derive(Debug)]
pub(super) struct Guide {
    me: NodeId,
    digest: Digest,
    closest: Vec<NodeId>,
    current: Option<NodeId>,
    former: VecDeque<NodeId>,
    /// Since when the current one has left a Join without an answer.
    unanswered: Option<Time>,
    shunned: BTreeMap<NodeId, Time>,
    hops: u8,
}

impl Guide {
    pub(super) fn new(me: NodeId, digest: Digest) -> Self {
        let (former, shunned) = Default::default();
        Self { me, digest, closest: vec![me], current: None, former, unanswered: None, shunned, hops: 0 }
    }

    /// To whom to speak.
    pub(super) const fn current(&self) -> Option<NodeId> {
        self.current
    }

    /// Whether a coordinator's word of this node is worth anything.
    pub(super) fn trusts(&self, node: NodeId) -> bool {
        self.current == Some(node)
            || self.former.contains(&node)
            || self.closest.iter().take(TRUSTED).any(|close| *close == node)
    }

    /// A look-up has been answered. Returns whether the coordinator is another now.
    pub(super) fn looked_up(&mut self, now: Time, closest: Vec<NodeId>) -> bool {
        let mut ranked: Vec<_> = closest.into_iter().chain([self.me]).map(|n| (n.distance(&self.digest), n)).collect();
        ranked.sort_unstable();
        ranked.dedup();
        let mine = self.me;
        self.closest = ranked.into_iter().map(|(_, node)| node).take(MOST_CLOSEST).collect();
        if !self.closest.contains(&mine) {
            self.closest.push(mine);
        }
        self.hops = 0;
        self.choose(now)
    }

    /// Takes the closest that is not shunned, unless the current one is closer still: others sent us there.
    fn choose(&mut self, now: Time) -> bool {
        self.shunned.retain(|_, until| *until > now);
        let Some(best) = self.closest.iter().find(|node| !self.shunned.contains_key(node)).copied() else {
            return false;
        };
        let closer = |node: NodeId| node.distance(&self.digest) < best.distance(&self.digest);
        match self.current {
            Some(current) if !self.shunned.contains_key(&current) && (current == best || closer(current)) => false,
            _ => self.take(best),
        }
    }

    fn take(&mut self, node: NodeId) -> bool {
        if self.current == Some(node) {
            return false;
        }
        if let Some(before) = self.current.replace(node) {
            self.former.retain(|former| *former != before);
            self.former.push_back(before);
            if self.former.len() > FORMER {
                self.former.pop_front();
            }
        }
        self.unanswered = None;
        true
    }

    /// Some node says that this one is closer. It is followed only if that is true, so that no circle is possible.
    pub(super) fn pointed(&mut self, now: Time, closer: NodeId) -> bool {
        let nearer = self.current.is_none_or(|at| closer.distance(&self.digest) < at.distance(&self.digest));
        if !nearer || self.hops >= MOST_HOPS || self.shunned.get(&closer).is_some_and(|until| *until > now) {
            return false;
        }
        self.hops += 1;
        self.take(closer)
    }

    /// A Join is being sent to the current one.
    pub(super) fn asked(&mut self, now: Time) {
        self.unanswered.get_or_insert(now);
    }

    /// A node has spoken.
    pub(super) fn heard(&mut self, node: NodeId) {
        self.shunned.remove(&node);
        if self.current == Some(node) {
            self.unanswered = None;
        }
    }

    /// When the current one will have been silent for too long.
    pub(super) fn patience_ends(&self, settings: &Settings) -> Option<Time> {
        self.unanswered.map(|since| since + settings.silence)
    }

    /// This node does not answer. Returns whether the coordinator is another now.
    pub(super) fn shun(&mut self, now: Time, node: NodeId, settings: &Settings) -> bool {
        if node != self.me {
            self.shunned.insert(node, now + settings.shun);
        }
        if self.current == Some(node) {
            self.unanswered = None;
        }
        self.choose(now)
    }
}
