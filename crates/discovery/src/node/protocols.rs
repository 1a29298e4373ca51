//! What is said behind the door.

use std::{collections::BTreeSet, net::SocketAddr, time::Instant};

use libp2p::{
    Multiaddr, PeerId, identify, kad, ping,
    request_response::{self, Message, OutboundRequestId},
};
use rand::seq::IteratorRandom;
use shoal_proto::NodeId;

use super::Node;
use crate::{
    address::{is_dialable, multiaddr, socket_addr},
    behaviour::BehaviourEvent,
    counters::add,
    frames::{Acknowledged, Acquaintance, Letter, MOST_TOLD, WhoIsThere},
    identity::{node_id, peer_id},
    ring,
};

type LetterEvent = request_response::Event<Letter, Acknowledged>;
type IntroductionEvent = request_response::Event<WhoIsThere, Vec<Acquaintance>>;

impl Node {
    pub(super) fn on_protocol_event(&mut self, event: BehaviourEvent, now: Instant) {
        match event {
            BehaviourEvent::Ping(event) => self.on_ping(&event, now),
            BehaviourEvent::Identify(event) => self.on_identify(event, now),
            BehaviourEvent::Kademlia(event) => self.on_kademlia(event, now),
            BehaviourEvent::Letters(event) => self.on_letter(event),
            BehaviourEvent::Introductions(event) => self.on_introduction(event, now),
            BehaviourEvent::Limits(never) => match never {},
        }
    }

    fn on_ping(&mut self, event: &ping::Event, now: Instant) {
        // libp2p keeps the first failure in a row to itself: what it reports is the second.
        if event.result.is_ok() {
            return;
        }
        let Some(node) = node_id(&event.peer) else { return };
        let Some(link) = self.links.get_mut(&node) else { return };
        if !link.silent(event.connection) {
            return;
        }
        let live = link.is_live();
        tracing::info!(peer = %node, "a connection went silent; it is closed");
        self.swarm.close_connection(event.connection);
        if !live {
            add(&self.shared.counters.peers_silent, 1);
            self.on_lost(node, now);
        }
    }

    fn on_identify(&mut self, event: identify::Event, now: Instant) {
        match event {
            identify::Event::Received { peer_id: peer, info, .. } => {
                let Some(node) = node_id(&peer) else { return };
                let addresses = self.dialable(&info.listen_addrs);
                let news = self.book.identified(node, addresses, now);
                // Kademlia learns an inbound peer's address from here alone.
                let kademlia = &mut self.swarm.behaviour_mut().kademlia;
                if news {
                    kademlia.remove_peer(&peer);
                }
                for address in self.book.addresses(node) {
                    kademlia.add_address(&peer, multiaddr(*address));
                }
                if let Some(link) = self.links.get_mut(&node) {
                    link.identified();
                }
                if let Some(observed) = socket_addr(&info.observed_addr) {
                    self.own.observed_by(node, observed.ip());
                    self.publish_own_addresses();
                }
                self.changed = true;
            }
            identify::Event::Sent { .. } | identify::Event::Pushed { .. } => {}
            identify::Event::Error { peer_id: peer, error, .. } => {
                tracing::debug!(%peer, %error, "a peer could not be identified");
            }
        }
    }

    fn dialable(&self, addresses: &[Multiaddr]) -> Vec<SocketAddr> {
        self.dialable_of(addresses.iter().filter_map(socket_addr))
    }

    fn dialable_of(&self, addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let on_loopback = self.own.on_loopback();
        let mut seen = BTreeSet::new();
        let useful = |address: &SocketAddr| {
            is_dialable(*address, on_loopback) && !self.own.is_mine(*address) && seen.insert(*address)
        };
        addresses.into_iter().filter(useful).collect()
    }

    fn on_kademlia(&mut self, event: kad::Event, now: Instant) {
        match event {
            kad::Event::RoutingUpdated { peer, addresses, .. } => {
                self.heard_of(&peer, &addresses.iter().cloned().collect::<Vec<_>>(), now);
            }
            kad::Event::RoutablePeer { peer, address } | kad::Event::PendingRoutablePeer { peer, address } => {
                self.heard_of(&peer, &[address], now);
            }
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                let timed_out =
                    matches!(result, kad::QueryResult::Bootstrap(Err(_)) | kad::QueryResult::GetClosestPeers(Err(_)));
                if timed_out {
                    add(&self.shared.counters.queries_timed_out, 1);
                }
                match result {
                    kad::QueryResult::Bootstrap(_) if Some(id) == self.walk && step.last => {
                        self.walk = None;
                        self.joining.walked(now);
                        self.changed = true;
                    }
                    kad::QueryResult::GetClosestPeers(result) => {
                        let peers = match result {
                            Ok(found) => found.peers,
                            Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                        };
                        self.on_closest(id, peers, now);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn on_closest(&mut self, walk: kad::QueryId, peers: Vec<kad::PeerInfo>, now: Instant) {
        let mut nodes = self.live();
        nodes.insert(self.me);
        for peer in peers {
            self.heard_of(&peer.peer_id, &peer.addrs, now);
            nodes.extend(node_id(&peer.peer_id));
        }
        if let Some(digest) = self.lookups.ended(walk) {
            self.lookups.answer(digest, ring::closest_found(nodes, &digest), now);
        }
    }

    fn heard_of(&mut self, peer: &PeerId, addresses: &[Multiaddr], now: Instant) {
        if let Some(node) = node_id(peer) {
            let addresses = self.dialable(addresses);
            self.book.heard(node, addresses, now);
            self.changed = true;
        }
    }

    /// Queues a frame for a node.
    pub(super) fn send(&mut self, to: NodeId, frame: Vec<u8>) {
        if self.lanes.push(to, frame).is_err() {
            add(&self.shared.counters.messages_failed, 1);
            self.outbox.unreachable(to);
            return;
        }
        self.send_waiting(to);
    }

    fn send_waiting(&mut self, to: NodeId) {
        while let Some(frame) = self.lanes.pop(to) {
            add(&self.shared.counters.messages_out, 1);
            add(&self.shared.counters.bytes_out, frame.len() as u64);
            let addresses = self.book.addresses(to).iter().copied().map(multiaddr).collect();
            let letters = &mut self.swarm.behaviour_mut().letters;
            let request = letters.send_request_with_addresses(&peer_id(to), Letter::Sealed(frame), addresses);
            self.lanes.left(to, request);
        }
    }

    fn on_letter(&mut self, event: LetterEvent) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request: Letter::Opened(message, bytes), channel, .. } => {
                    // When the channel has closed, the sender will think that the message was lost, and may say it again.
                    let _ = self.swarm.behaviour_mut().letters.send_response(channel, Acknowledged);
                    let Some(from) = node_id(&peer) else { return };
                    let counters = &self.shared.counters;
                    add(&counters.messages_in, 1);
                    add(&counters.bytes_in, bytes as u64);
                    if !self.deaf && !self.outbox.message(from, *message, bytes) {
                        add(&counters.messages_dropped, 1);
                    }
                }
                Message::Request { request: Letter::Sealed(_), .. } => unreachable!("what is read is open"),
                Message::Response { request_id, .. } => {
                    if let Some(node) = self.lanes.ended(request_id) {
                        self.send_waiting(node);
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                self.on_letter_lost(request_id, &error);
            }
            request_response::Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a message did not come in whole");
            }
            request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn on_letter_lost(&mut self, request: OutboundRequestId, error: &request_response::OutboundFailure) {
        let Some(node) = self.lanes.ended(request) else { return };
        tracing::debug!(%node, %error, "a message was not acknowledged");
        // One message may have been unlucky; where there is no connection the others would be as well.
        let gone = matches!(error, request_response::OutboundFailure::DialFailure);
        let others = if gone { self.lanes.give_up(node) } else { 0 };
        add(&self.shared.counters.messages_failed, 1 + others as u64);
        self.outbox.unreachable(node);
        self.send_waiting(node);
    }

    /// Asks a peer whom it is connected to.
    pub(super) fn ask_for_introductions(&mut self, node: NodeId) {
        let asked = WhoIsThere { addresses: self.own.told() };
        let introductions = &mut self.swarm.behaviour_mut().introductions;
        let request = introductions.send_request(&peer_id(node), asked);
        self.asked.insert(request, node);
    }

    fn on_introduction(&mut self, event: IntroductionEvent, now: Instant) {
        match event {
            request_response::Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                let Some(asker) = node_id(&peer) else { return };
                let addresses = self.dialable_of(request.addresses);
                self.book.heard(asker, addresses, now);
                let known = self.acquaintances(asker);
                // When the channel has closed, the asker has given up.
                let _ = self.swarm.behaviour_mut().introductions.send_response(channel, known);
            }
            request_response::Event::Message { message: Message::Response { request_id, response }, .. } => {
                for known in response {
                    let addresses = self.dialable_of(known.addresses);
                    self.book.heard(known.node, addresses, now);
                }
                self.introduced(request_id, now);
            }
            request_response::Event::OutboundFailure { request_id, error, peer, .. } => {
                tracing::debug!(%peer, %error, "a peer did not say whom it knows");
                self.introduced(request_id, now);
            }
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn introduced(&mut self, request: OutboundRequestId, now: Instant) {
        if let Some(node) = self.asked.remove(&request) {
            self.joining.answered(node);
        }
        self.changed = true;
        // Whoever was named is dialled at once: joining waits for it.
        self.dial_due(now);
    }

    /// Whom I am connected to, for one who asks; the nearest to it and some others, where they are too many.
    fn acquaintances(&self, asker: NodeId) -> Vec<Acquaintance> {
        let mut nodes = self.live();
        nodes.remove(&asker);
        if nodes.len() > MOST_TOLD {
            let near = ring::nearest(nodes.iter().copied(), asker, MOST_TOLD / 2);
            let far = nodes.iter().copied().filter(|node| !near.contains(node));
            let far = far.sample(&mut rand::rng(), MOST_TOLD - near.len());
            nodes = near.into_iter().chain(far).collect();
        }
        let known = |node| Acquaintance { node, addresses: self.book.addresses(node).to_vec() };
        nodes.into_iter().map(known).filter(|known| !known.addresses.is_empty()).collect()
    }
}
