//! What is spoken behind the door.

use std::{num::NonZeroUsize, time::Duration};

use libp2p::{
    PeerId, StreamProtocol, connection_limits,
    connection_limits::ConnectionLimits,
    identify,
    identity::Keypair,
    kad, ping,
    request_response::{self, ProtocolSupport},
    swarm::NetworkBehaviour,
};

use crate::{
    DiscoveryConfig,
    frames::{Introductions, Letters},
    letters,
};

/// How many inbound connections may be established at once.
const MOST_INBOUND: u32 = 1024;
/// More than the two that arise when two nodes dial each other: a peer that restarts must get in before its old
/// connections are known to be dead, and rotation opens new ones before it closes the old.
const MOST_PER_PEER: u32 = 8;
/// How many introductions may be under way on one connection.
const MOST_INTRODUCTIONS: usize = 8;

/// All protocols of the control plane.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    ping: ping::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) kademlia: kad::Behaviour<kad::store::MemoryStore>,
    pub(crate) letters: request_response::Behaviour<Letters>,
    pub(crate) introductions: request_response::Behaviour<Introductions>,
}

impl Behaviour {
    pub(crate) fn new(config: &DiscoveryConfig, keypair: &Keypair) -> Self {
        let me = keypair.public().to_peer_id();
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(config.max_pending_inbound))
            .with_max_established_incoming(Some(MOST_INBOUND))
            .with_max_established_per_peer(Some(MOST_PER_PEER));
        let ping = ping::Config::new().with_interval(config.ping_interval).with_timeout(config.ping_timeout);
        // Only external addresses are told, and those are the ones that are set deliberately. Its cache would bring dead
        // addresses back into dials.
        let identify = identify::Config::new("/shoal/1".into(), keypair.public())
            .with_agent_version(format!("shoal/{}", env!("CARGO_PKG_VERSION")))
            .with_hide_listen_addrs(true)
            .with_cache_size(0);
        let waiting = |streams| {
            request_response::Config::default()
                .with_request_timeout(config.message_timeout)
                .with_max_concurrent_streams(streams)
        };
        Self {
            limits: connection_limits::Behaviour::new(limits),
            ping: ping::Behaviour::new(ping),
            identify: identify::Behaviour::new(identify),
            kademlia: kademlia(me, config.query_timeout),
            letters: request_response::Behaviour::new(
                [(Letters::PROTOCOL, ProtocolSupport::Full)],
                waiting(4 * letters::WINDOW),
            ),
            introductions: request_response::Behaviour::new(
                [(Introductions::PROTOCOL, ProtocolSupport::Full)],
                waiting(MOST_INTRODUCTIONS),
            ),
        }
    }
}

/// Kademlia as a map of the members alone: no records, no providers (a provider record silently keeps 20 peers only).
fn kademlia(me: PeerId, query_timeout: Duration) -> kad::Behaviour<kad::store::MemoryStore> {
    let mut config = kad::Config::new(StreamProtocol::new("/shoal/kad/1"));
    config
        .set_query_timeout(query_timeout)
        .set_parallelism(NonZeroUsize::new(4).expect("4 is not 0"))
        .set_substreams_timeout(query_timeout)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_caching(kad::Caching::Disabled);
    let mut kademlia = kad::Behaviour::with_config(me, kad::store::MemoryStore::new(me), config);
    // Left to itself it would stay a client until an address is confirmed, and clients are in nobody's table.
    kademlia.set_mode(Some(kad::Mode::Server));
    kademlia
}
