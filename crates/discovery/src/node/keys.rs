//! When the cluster keys are replaced: connections that would not be admitted now are opened anew before they are closed,
//! so that peers which have the new key never leave the view.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use libp2p::swarm::{ConnectionId, dial_opts::PeerCondition};
use shoal_proto::NodeId;

use super::Node;

/// How long a peer has to be admitted anew.
const GRACE: Duration = Duration::from_secs(5);

/// Connections that await their replacement.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    seen: u64,
    /// When to look once more: a connection that was at the door during the change was judged by the old keys.
    again: Option<Instant>,
    outdated: HashMap<NodeId, (HashSet<ConnectionId>, Instant)>,
}

impl Renewals {
    /// A connection was admitted: returns those that it replaces.
    pub(super) fn renewed(&mut self, node: NodeId, connection: ConnectionId) -> HashSet<ConnectionId> {
        match self.outdated.get(&node) {
            Some((connections, _)) if !connections.contains(&connection) => {
                self.outdated.remove(&node).map(|(connections, _)| connections).unwrap_or_default()
            }
            _ => HashSet::new(),
        }
    }
}

impl Node {
    pub(super) fn renew_connections(&mut self, now: Instant) {
        let replaced = self.shared.gate.replaced();
        let news = self.renewals.seen != replaced;
        if news || self.renewals.again.is_some_and(|again| again <= now) {
            self.renewals.seen = replaced;
            self.renewals.again = news.then(|| now + self.config.handshake_timeout + GRACE);
            for node in self.shared.gate.outdated() {
                let Some(link) = self.links.get(&node) else { continue };
                if self.renewals.outdated.contains_key(&node) {
                    continue;
                }
                tracing::info!(peer = %node, "a peer proved a cluster key that was withdrawn; it is admitted anew or closed");
                self.renewals.outdated.insert(node, (link.connections().collect(), now + GRACE));
                self.dial_node(node, PeerCondition::NotDialing, now);
            }
        }
        let late = self.renewals.outdated.extract_if(|_, (_, until)| *until <= now);
        for connection in late.flat_map(|(_, (connections, _))| connections) {
            self.swarm.close_connection(connection);
        }
    }
}
