//! Who holds a blob complete without being in its swarm.

use std::sync::Arc;

use rand::{Rng, RngExt};
use shoal_proto::{NodeId, coordination::Probe};

use super::seats::Contact;
use crate::Time;

/// One of them.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) node: NodeId,
    pub(super) contact: Arc<Contact>,
    /// The blob's length and visibility, as it says.
    pub(super) found: Probe,
    heard: Time,
}

/// All of them that the coordinator remembers, in the order of their first announcements.
#[derive(Debug, Default)]
pub(super) struct Holders(Vec<Holder>);

impl Holders {
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Holder> {
        self.0.iter()
    }

    pub(super) fn get(&self, node: &NodeId) -> Option<&Holder> {
        self.0.iter().find(|holder| holder.node == *node)
    }

    /// Notes an announcement. A holder beyond `most` is not needed and not remembered.
    pub(super) fn announced(&mut self, now: Time, node: NodeId, contact: &Arc<Contact>, found: Probe, most: usize) {
        let holder = Holder { node, contact: contact.clone(), found, heard: now };
        if let Some(known) = self.0.iter_mut().find(|known| known.node == node) {
            *known = holder;
        } else if self.0.len() < most {
            self.0.push(holder);
        }
    }

    /// Forgets one; returns whether it was known.
    pub(super) fn remove(&mut self, node: &NodeId) -> bool {
        let before = self.0.len();
        self.0.retain(|holder| holder.node != *node);
        self.0.len() < before
    }

    /// Forgets those that fail the test, as those whose blob has another length.
    pub(super) fn retain(&mut self, keep: impl Fn(&Holder) -> bool) {
        self.0.retain(keep);
    }

    /// Forgets those not heard from since `since`.
    pub(super) fn expire(&mut self, since: Time) {
        self.0.retain(|holder| holder.heard >= since);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }

    /// Fills `chosen` up to `want` with holders taken at random, after dropping from it who holds no longer.
    pub(super) fn choose(
        &self,
        chosen: &mut Vec<NodeId>,
        want: usize,
        rng: &mut impl Rng,
        not: impl Fn(&NodeId) -> bool,
    ) {
        chosen.retain(|node| self.get(node).is_some() && !not(node));
        chosen.truncate(want);
        if self.0.is_empty() || chosen.len() >= want {
            return;
        }
        let start = rng.random_range(0..self.0.len());
        for holder in self.0[start..].iter().chain(&self.0[..start]) {
            if chosen.len() < want && !chosen.contains(&holder.node) && !not(&holder.node) {
                chosen.push(holder.node);
            }
        }
    }
}
