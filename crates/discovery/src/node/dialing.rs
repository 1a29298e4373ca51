//! Whom to dial, and what to make of the bootstrap.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use libp2p::swarm::{
    DialError,
    dial_opts::{DialOpts, PeerCondition},
};
use rand::seq::IteratorRandom;
use shoal_proto::NodeId;

use super::Node;
use crate::{
    Readiness,
    address::multiaddr,
    bootstrap::{Resolved, Step, resolve},
    counters::add,
    identity::peer_id,
    ring,
};

/// How many dials of ours may be under way at once.
const MOST_DIALS: usize = 128;
/// How long a peer that is not wanted may stay when there are too many.
const GUEST_STAYS: Duration = Duration::from_secs(60);

/// What is being dialled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dialled {
    /// An address of which it is not known whose it is.
    Address(SocketAddr),
    /// A node, at its addresses.
    Node(NodeId),
}

impl Dialled {
    pub(super) const fn node(self) -> Option<NodeId> {
        match self {
            Self::Address(_) => None,
            Self::Node(node) => Some(node),
        }
    }
}

impl Node {
    /// Looks the bootstrap names up when it is time.
    pub(super) fn look_up_bootstrap(&mut self, now: Instant) {
        if let Some(names) = self.bootstrap.due(now) {
            self.resolving.push(Box::pin(resolve(names)));
        }
    }

    pub(super) fn on_resolved(&mut self, found: &Resolved) {
        let now = Instant::now();
        let company = self.links.values().any(crate::link::Link::is_live);
        let own = &self.own;
        let step = self.bootstrap.resolved(found, company, |address| own.is_mine(address), &mut rand::rng(), now);
        match step {
            Step::Dial(addresses) => addresses.into_iter().for_each(|address| self.dial_address(address)),
            Step::NobodyThere if self.readiness() == Readiness::Searching && !company => {
                self.set_readiness(Readiness::NobodyThere);
            }
            Step::NobodyThere => {}
        }
    }

    /// Dials an address of which it is not known whose it is.
    fn dial_address(&mut self, address: SocketAddr) {
        if self.dials.len() >= MOST_DIALS || self.book.is_connected_at(address) || self.is_dialled(address) {
            return;
        }
        let how = DialOpts::unknown_peer_id().address(multiaddr(address)).build();
        let connection = how.connection_id();
        add(&self.shared.counters.dials, 1);
        match self.swarm.dial(how) {
            Ok(()) => {
                self.dials.insert(connection, Dialled::Address(address));
            }
            Err(error) => tracing::debug!(%address, %error, "could not begin to dial"),
        }
    }

    /// Whether somebody is being dialled there. A host that hangs answers nobody, and all that wait for it when it goes on.
    fn is_dialled(&self, address: SocketAddr) -> bool {
        self.dials.values().any(|dialled| match dialled {
            Dialled::Address(other) => *other == address,
            Dialled::Node(node) => self.book.addresses(*node).contains(&address),
        })
    }

    /// Dials the known nodes whose time has come.
    pub(super) fn dial_due(&mut self, now: Instant) {
        for node in self.book.due(now) {
            if self.dials.len() >= MOST_DIALS {
                break;
            }
            if self.wants(node) {
                self.dial_node(node, PeerCondition::DisconnectedAndNotDialing, now);
            }
        }
    }

    pub(super) fn dial_node(&mut self, node: NodeId, condition: PeerCondition, now: Instant) {
        // A peer that went silent may still have a connection that is being closed.
        let silent = self.links.get(&node).is_some_and(|link| !link.is_live());
        let condition = if silent { PeerCondition::NotDialing } else { condition };
        let addresses = self.book.addresses(node).iter().copied().map(multiaddr).collect();
        let how = DialOpts::peer_id(peer_id(node)).condition(condition).addresses(addresses).build();
        let connection = how.connection_id();
        match self.swarm.dial(how) {
            Ok(()) => {
                add(&self.shared.counters.dials, 1);
                self.dials.insert(connection, Dialled::Node(node));
                self.book.dialling(node);
            }
            Err(DialError::DialPeerConditionFalse(_)) => self.book.dialled_by_others(node, now),
            Err(error) => {
                tracing::debug!(%node, %error, "could not begin to dial");
                self.book.failed(node, now, rand::random());
            }
        }
    }

    /// Whether a node belongs to those to stay connected to.
    pub(super) fn wants(&self, node: NodeId) -> bool {
        self.chosen.as_ref().is_none_or(|chosen| chosen.contains(&node))
    }

    /// Chooses with whom to be connected, where more are known than connections are kept.
    pub(super) fn choose_mesh(&mut self) {
        self.chosen =
            (self.book.len() > self.config.mesh).then(|| ring::mesh(self.me, self.book.nodes(), self.config.mesh));
    }

    /// Lets guests go when there are many more connections than wanted: those who have been here longest first.
    pub(super) fn trim(&mut self, now: Instant) {
        let over = self.links.len().saturating_sub(2 * self.config.mesh);
        if over == 0 {
            return;
        }
        let mut guests: Vec<_> = self
            .links
            .iter()
            .filter(|(node, link)| !self.wants(**node) && link.age(now) > GUEST_STAYS)
            .map(|(node, link)| (link.age(now), *node))
            .collect();
        guests.sort_unstable_by(|a, b| b.cmp(a));
        for (_, node) in guests.into_iter().take(over) {
            // It may have gone by itself in this very moment.
            let _ = self.swarm.disconnect_peer_id(peer_id(node));
        }
    }

    /// Some peer to ask for introductions.
    pub(super) fn any_settled_peer(&self, now: Instant) -> Option<NodeId> {
        let settled = self.links.iter().filter(|(_, link)| link.is_live() && link.is_settled(now));
        settled.map(|(node, _)| *node).choose(&mut rand::rng())
    }
}
