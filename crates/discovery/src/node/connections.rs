//! What happens to connections.

use std::time::Instant;

use libp2p::{
    PeerId,
    core::ConnectedPoint,
    swarm::{ConnectionId, DialError, ListenError, SwarmEvent},
};
use shoal_proto::NodeId;

use super::{Node, dialing::Dialled};
use crate::{
    address::socket_addr,
    behaviour::BehaviourEvent,
    counters::add,
    identity::{node_id, peer_id},
    link::Link,
};

impl Node {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let now = Instant::now();
        match event {
            SwarmEvent::Behaviour(event) => self.on_protocol_event(event, now),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint, now);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                self.on_closed(peer_id, connection_id, now);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.on_dial_failed(connection_id, peer_id, error, now);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => match error {
                ListenError::Transport(error) => {
                    self.refusals.inbound(&self.shared.counters, &send_back_addr, &error, now);
                }
                ListenError::Denied { cause } => {
                    self.refusals.denied(&self.shared.counters, &send_back_addr, &cause, now);
                }
                // A dial to one of my own addresses shows on its other end.
                ListenError::LocalPeerId { .. } | ListenError::Aborted | ListenError::WrongPeerId { .. } => {}
            },
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Some(address) = socket_addr(&address) {
                    self.own.listens(address);
                    self.publish_own_addresses();
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                if let Some(address) = socket_addr(&address) {
                    self.own.listens_no_more(address);
                    self.publish_own_addresses();
                }
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "the control plane no longer listens");
                addresses.iter().filter_map(socket_addr).for_each(|address| self.own.listens_no_more(address));
                self.publish_own_addresses();
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "the control plane could not accept a connection");
            }
            _ => {}
        }
    }

    fn on_established(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint, now: Instant) {
        self.dials.remove(&connection);
        let Some(node) = node_id(&peer) else {
            // The gate lets Ed25519 keys alone pass.
            self.swarm.close_connection(connection);
            return;
        };
        add(&self.shared.counters.admitted, 1);
        if let ConnectedPoint::Dialer { address, .. } = endpoint
            && let Some(address) = socket_addr(address)
        {
            self.book.heard(node, [address], now);
        }
        self.book.connected(node, now);
        self.links.entry(node).or_insert_with(|| Link::new(now)).opened(connection);
        for outdated in self.renewals.renewed(node, connection) {
            self.swarm.close_connection(outdated);
        }
        self.changed = true;
    }

    fn on_closed(&mut self, peer: PeerId, connection: ConnectionId, now: Instant) {
        let Some(node) = node_id(&peer) else { return };
        let Some(link) = self.links.get_mut(&node) else { return };
        if !link.closed(connection) {
            self.links.remove(&node);
            self.on_lost(node, now);
        } else if !link.is_live() {
            self.on_lost(node, now);
        }
    }

    /// A peer is no longer here. It is dialled again: it may be restarting.
    pub(super) fn on_lost(&mut self, node: NodeId, now: Instant) {
        self.book.dropped(node, now);
        self.joining.answered(node);
        self.changed = true;
        if self.links.values().all(|link| !link.is_live()) {
            self.bootstrap.hurry(now);
        }
    }

    fn on_dial_failed(&mut self, connection: ConnectionId, peer: Option<PeerId>, error: DialError, now: Instant) {
        let ours = self.dials.remove(&connection);
        if ours.is_some() {
            add(&self.shared.counters.dial_failures, 1);
        }
        match error {
            DialError::LocalPeerId { address } => {
                if let Some(address) = socket_addr(&address) {
                    self.own.met_myself_at(address);
                }
            }
            DialError::WrongPeerId { obtained, address } => {
                // An address that now belongs to another node, as it happens where addresses are given out anew.
                if let Some(address) = socket_addr(&address) {
                    if let Some(expected) = peer.as_ref().and_then(node_id) {
                        self.book.not_at(expected, address);
                    }
                    if let Some(obtained) = node_id(&obtained) {
                        self.book.heard(obtained, [address], now);
                    }
                }
            }
            DialError::Transport(errors) => {
                for (address, error) in &errors {
                    self.refusals.outbound(&self.shared.counters, address, error, now);
                }
            }
            DialError::Denied { .. }
            | DialError::Aborted
            | DialError::NoAddresses
            | DialError::DialPeerConditionFalse(_) => {}
        }
        if let Some(node) = peer.as_ref().and_then(node_id).or(ours.and_then(Dialled::node)) {
            self.book.failed(node, now, rand::random());
            if !self.links.contains_key(&node) {
                self.swarm.behaviour_mut().kademlia.remove_peer(&peer_id(node));
            }
        }
        self.changed = true;
    }
}
