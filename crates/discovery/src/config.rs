//! What a node is told before it looks for others.

use std::{net::SocketAddr, time::Duration};

use shoal_proto::{ClusterKeys, NodeKey};

/// How a node finds the others. Everything but the two keys has a default.
#[derive(Clone, Debug)]
pub struct DiscoveryConfig {
    /// Who this node is.
    pub key: NodeKey,
    /// What makes it a member.
    pub keys: ClusterKeys,
    /// TCP addresses to listen on; port 0 takes a free one, `0.0.0.0` or `::` all interfaces.
    pub listen: Vec<SocketAddr>,
    /// What peers are told instead of the addresses found here; port 0 stands for the port that is listened on.
    pub advertise: Vec<SocketAddr>,
    /// Whom to ask first, each `host:port`; a name may have many addresses.
    pub bootstrap: Vec<String>,
    /// After how long without an answer from anybody the node goes on alone; it keeps trying.
    pub alone_after: Duration,
    /// How often each peer is pinged. Two failures in a row make it dead: with the defaults, 14 s after it hung at the
    /// latest. One whose connection breaks is gone at once.
    pub ping_interval: Duration,
    /// How long one ping may take.
    pub ping_timeout: Duration,
    /// How long a connection may take from the first packet until both sides are admitted.
    pub handshake_timeout: Duration,
    /// How long a message may wait for its acknowledgement.
    pub message_timeout: Duration,
    /// How long a walk through Kademlia may take.
    pub query_timeout: Duration,
    /// How many connections may be in their handshake at once; strangers cost no more than that.
    pub max_pending_inbound: u32,
    /// Up to how many peers everybody is connected to everybody; beyond it to the nearest, and some of each distance.
    pub mesh: usize,
    /// How many events may wait for their reader before messages are dropped.
    pub event_buffer: usize,
}

impl DiscoveryConfig {
    /// The defaults: listens on port 5051 of every IPv4 interface and knows nobody.
    #[must_use]
    pub fn new(key: NodeKey, keys: ClusterKeys) -> Self {
        Self {
            key,
            keys,
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 5051))],
            advertise: Vec::new(),
            bootstrap: Vec::new(),
            alone_after: Duration::from_secs(30),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(5),
            message_timeout: Duration::from_secs(3),
            query_timeout: Duration::from_secs(3),
            max_pending_inbound: 64,
            mesh: 128,
            event_buffer: 1024,
        }
    }
}
