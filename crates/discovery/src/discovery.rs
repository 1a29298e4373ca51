//! The handle to a running node.

use std::{net::SocketAddr, sync::Arc};

use shoal_blob::Digest;
use shoal_proto::{ClusterKeys, NodeId, coordination::Coordination};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Counters, DiscoveryConfig, Event, Readiness, SendError, StartError, command::Command, frames::Letters, node, ring,
    shared::Shared,
};

/// How many commands may wait for the task.
const MOST_COMMANDS: usize = 4096;

/// A handle to the control plane of this node; clones are handles to the same. The node leaves the network when the last
/// one is dropped.
#[derive(Clone, Debug)]
pub struct Discovery {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl Discovery {
    /// Listens, and begins to look for the others. Needs a tokio runtime with I/O and time.
    ///
    /// The receiver must be read: while it is full, messages that arrive are dropped and counted, and states coalesce.
    ///
    /// # Errors
    /// [`StartError`] when a bootstrap entry is malformed or an address cannot be listened on.
    pub async fn start(config: DiscoveryConfig) -> Result<(Self, mpsc::Receiver<Event>), StartError> {
        let (commands, receiver) = mpsc::channel(MOST_COMMANDS);
        let (events, delivered) = mpsc::channel(config.event_buffer.max(1));
        let shared = node::start(config, receiver, events).await?;
        Ok((Self { shared, commands }, delivered))
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.shared.me
    }

    /// Queues a message. It is sent over the connection to that node, which is dialled if there is none; when it is not
    /// acknowledged in time, [`Event::Unreachable`] says so. Messages may overtake each other. One to myself comes back as
    /// an event.
    ///
    /// # Errors
    /// [`SendError`] when it is too long, too many are waiting, or the node has been shut down.
    pub fn send(&self, to: NodeId, message: Coordination) -> Result<(), SendError> {
        let frame = Letters::seal(&message)?;
        let command = if to == self.shared.me {
            Command::Keep { bytes: frame.len(), message: Box::new(message) }
        } else {
            Command::Send { to, frame }
        };
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Busy,
            mpsc::error::TrySendError::Closed(_) => SendError::Stopped,
        })
    }

    /// Up to 20 live nodes, the closest to a digest first, as [`NodeId::distance`] counts; I am one of them where I belong.
    ///
    /// In a cluster small enough that everybody is connected to everybody this is the view and takes no time. In a larger
    /// one Kademlia is asked, which takes up to [`DiscoveryConfig::query_timeout`]; answers are kept for two seconds.
    pub async fn closest(&self, digest: &Digest) -> Vec<NodeId> {
        if !self.shared.published.read().small {
            let (answer, answered) = oneshot::channel();
            if self.commands.send(Command::Closest { digest: *digest, answer }).await.is_ok()
                && let Ok(nodes) = answered.await
            {
                return nodes;
            }
        }
        self.closest_connected(digest)
    }

    /// The same among those that are connected now, without a query.
    #[must_use]
    pub fn closest_connected(&self, digest: &Digest) -> Vec<NodeId> {
        let published = self.shared.published.read();
        ring::closest(published.live.iter().copied().chain([self.shared.me]), digest)
    }

    /// The peers that are here now: admitted, connected and answering; in the order of their ids, without me.
    #[must_use]
    pub fn live(&self) -> Vec<NodeId> {
        self.shared.published.read().live.iter().copied().collect()
    }

    /// How far the search for others has come.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.shared.published.read().readiness
    }

    /// Where a node is reached, the best address first, at most 8: its control plane over TCP and, on the same port
    /// number, its data plane over UDP. Empty when nothing is known of it.
    #[must_use]
    pub fn addresses(&self, node: NodeId) -> Vec<SocketAddr> {
        if node == self.shared.me {
            return self.my_addresses();
        }
        self.shared.published.read().addresses.get(&node).cloned().unwrap_or_default()
    }

    /// Where peers are told to reach this node, at most 8: what the configuration says, else what it listens on, else
    /// the addresses of its interfaces and those that at least two peers saw it under.
    #[must_use]
    pub fn my_addresses(&self) -> Vec<SocketAddr> {
        self.shared.published.read().mine.clone()
    }

    /// The addresses that are listened on, with the ports that were taken; one for each interface where all are meant.
    #[must_use]
    pub fn listen_addrs(&self) -> Vec<SocketAddr> {
        self.shared.published.read().listening.clone()
    }

    /// Takes other cluster keys for every connection from now on. A connection on which the peer proved a key that is no
    /// longer among them is replaced by a new one, or closed within seconds.
    pub fn set_keys(&self, keys: ClusterKeys) {
        self.shared.gate.replace(keys);
    }

    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Leaves the network: connections are closed and the ports are free again when this returns.
    pub async fn shutdown(&self) {
        let (stopped, done) = oneshot::channel();
        if self.commands.send(Command::Stop { stopped }).await.is_ok() {
            // An error means that the task had ended already.
            let _ = done.await;
        }
    }
}
