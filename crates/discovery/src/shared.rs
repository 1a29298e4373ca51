//! What the task publishes and handles read without asking it.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use parking_lot::RwLock;
use shoal_proto::NodeId;

use crate::{Counters, Readiness, gate::Gate};

/// The state of the network, as the task last saw it.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) live: BTreeSet<NodeId>,
    pub(crate) addresses: HashMap<NodeId, Vec<SocketAddr>>,
    pub(crate) mine: Vec<SocketAddr>,
    pub(crate) listening: Vec<SocketAddr>,
    pub(crate) readiness: Readiness,
    /// Whether the cluster is so small that everybody is connected to everybody.
    pub(crate) small: bool,
}

/// What handles and the task have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: NodeId,
    pub(crate) counters: Counters,
    pub(crate) gate: Arc<Gate>,
    pub(crate) published: RwLock<Published>,
}

impl Shared {
    pub(crate) fn new(me: NodeId, gate: Arc<Gate>) -> Self {
        let published = Published {
            live: BTreeSet::new(),
            addresses: HashMap::new(),
            mine: Vec::new(),
            listening: Vec::new(),
            readiness: Readiness::Searching,
            small: true,
        };
        Self { me, counters: Counters::default(), gate, published: RwLock::new(published) }
    }
}
