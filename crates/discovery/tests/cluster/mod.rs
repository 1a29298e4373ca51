//! Nodes on loopback, and waiting for what they should come to.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "only tests call it")]

use std::{net::SocketAddr, time::Duration};

use shoal_blob::Digest;
use shoal_discovery::{Discovery, DiscoveryConfig, Event, Readiness};
use shoal_proto::{
    ClusterKeys, NodeId, NodeKey,
    coordination::{Coordination, ToMember},
};
use tokio::{sync::mpsc, time::timeout};

/// How long anything may take before a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Member {
    pub(crate) discovery: Discovery,
    pub(crate) events: mpsc::Receiver<Event>,
}

pub(crate) fn keys(digit: char) -> ClusterKeys {
    ClusterKeys::parse(&digit.to_string().repeat(64)).unwrap()
}

pub(crate) fn key(number: u8) -> NodeKey {
    NodeKey::from_seed(&[number; 32])
}

/// A node on loopback with a port of its own, quick to notice things.
pub(crate) fn config(number: u8, bootstrap: &[String]) -> DiscoveryConfig {
    DiscoveryConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        bootstrap: bootstrap.to_vec(),
        ping_interval: Duration::from_millis(500),
        ping_timeout: Duration::from_millis(500),
        ..DiscoveryConfig::new(key(number), keys('a'))
    }
}

pub(crate) async fn start(config: DiscoveryConfig) -> Member {
    let (discovery, events) = Discovery::start(config).await.unwrap();
    Member { discovery, events }
}

pub(crate) fn message(byte: u8) -> Coordination {
    Coordination::ToMember(ToMember::Ask { digest: Digest::Sha256([byte; 32]) })
}

impl Member {
    pub(crate) fn id(&self) -> NodeId {
        self.discovery.me()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.discovery.listen_addrs()[0]
    }

    pub(crate) fn bootstrap(&self) -> Vec<String> {
        vec![self.address().to_string()]
    }

    /// The next event that is to the test's liking.
    pub(crate) async fn until<T>(&mut self, what: &str, mut fits: impl FnMut(&Event) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the node runs");
                if let Some(found) = fits(&event) {
                    return found;
                }
            }
        };
        timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("no {what}; live: {:?}", self.discovery.live()))
    }

    pub(crate) async fn readiness(&mut self) -> Readiness {
        self.until("readiness", |event| match event {
            Event::Readiness(readiness) => Some(*readiness),
            _ => None,
        })
        .await
    }

    pub(crate) async fn joined(&mut self) -> usize {
        self.until("joining", |event| match event {
            Event::Readiness(Readiness::Joined { peers }) => Some(*peers),
            _ => None,
        })
        .await
    }

    /// Waits until exactly these peers are in the view.
    pub(crate) async fn sees(&mut self, others: &[NodeId]) {
        let mut others = others.to_vec();
        others.sort_unstable();
        if self.discovery.live() == others {
            return;
        }
        self.until(&format!("view of {others:?}"), |event| {
            matches!(event, Event::View { live } if *live == others).then_some(())
        })
        .await;
    }

    pub(crate) async fn message(&mut self) -> (NodeId, Coordination) {
        self.until("message", |event| match event {
            Event::Message { from, message } => Some((*from, message.clone())),
            _ => None,
        })
        .await
    }
}

/// Waits for a condition that no event tells.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}
