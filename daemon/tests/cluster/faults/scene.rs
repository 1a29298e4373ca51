//! A pull by many nodes at once in which daemons die.

use std::{fs, time::Duration};

use shoal::{cluster::Cluster, config::Size};
use shoal_blob::Digest;
use shoal_proto::NodeKey;
use shoal_registry::{Artifact, Blob, BlobCounts, Registry};
use tokio::{task::JoinHandle, time::timeout};

use super::patient;
use crate::support::{self, MIB, SEED_LOSS, blob_url, eventually};

/// How many daemons there are.
pub(super) const NODES: usize = 8;
/// How long the layer is, unless the environment says otherwise.
const LAYER: u64 = 128 * MIB;
/// No reader of a node that lives waits longer for its next byte.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How many connections a seed reads a blob over, at most.
const CONNECTIONS: u64 = 4;

/// A pull that has begun.
pub(super) struct Scene {
    pub(super) origin: Registry,
    pub(super) cluster: Cluster,
    pub(super) layer: Blob,
    /// By node; none where the client was given up with its daemon.
    clients: Vec<Option<JoinHandle<anyhow::Result<Duration>>>>,
    seeds_lost: u64,
}

/// A layer of the size that is wanted here.
pub(super) fn model(seed: u64) -> Artifact {
    let size = std::env::var("SHOAL_FAULTS_LAYER").map_or(LAYER, |size| size.parse::<Size>().unwrap().0);
    support::model(size, seed)
}

/// How long the pull of a layer may take on a slow machine that does other things too.
fn limit(layer: &Blob) -> Duration {
    Duration::from_secs(120 + layer.len() / (2 * MIB))
}

impl Scene {
    /// Eight daemons, of which one, the `first`, is asked for the layer and becomes the seed; then the others are.
    pub(super) async fn begin(model: &Artifact, first: impl FnOnce(&Cluster, &Digest) -> usize) -> Self {
        let layer = model.layer().clone();
        let digest = layer.digest();
        let origin = support::origin(model).await;
        let cluster = support::ready(support::daemons(NODES, &origin)).await;
        let first = first(&cluster, &digest);
        // The origin holds until all of them ask.
        origin.hold_at(&digest, MIB);
        let mut scene = Self { origin, cluster, layer, clients: Vec::new(), seeds_lost: 0 };
        scene.clients.resize_with(NODES, || None);
        scene.ask(first);
        assert_eq!(scene.seed().await, first);
        (0..NODES).filter(|node| *node != first).for_each(|node| scene.ask(node));
        scene.origin.release(&digest);
        scene
    }

    /// Has a client pull from a node.
    fn ask(&mut self, node: usize) {
        let url = blob_url(&self.cluster, node, &self.layer.digest());
        let within = limit(&self.layer);
        self.clients[node] = Some(tokio::spawn(patient::pull(url, self.layer.clone(), within)));
    }

    /// The node that holds the lease.
    pub(super) async fn seed(&self) -> usize {
        let living = || (0..NODES).filter(|node| self.cluster.pid(*node).is_some());
        eventually("somebody holds the lease", async || {
            for node in living() {
                if self.cluster.metric(node, "shoal_leases_held").await.is_ok_and(|held| held > 0.0) {
                    return Some(node);
                }
            }
            None
        })
        .await
    }

    pub(super) fn counts(&self) -> BlobCounts {
        self.origin.counts().blob(&self.layer.digest())
    }

    /// Waits until the origin has sent so many hundredths of the layer.
    pub(super) async fn sent(&self, percent: u64) {
        let (digest, bytes) = (self.layer.digest(), self.layer.len() / 100 * percent);
        let met = self.origin.until(|counts| counts.blob(&digest).bytes_sent >= bytes);
        timeout(limit(&self.layer), met).await.unwrap_or_else(|_| panic!("{percent} % of the layer are not sent"));
    }

    /// Kills a daemon, and its client with it.
    pub(super) async fn kill(&mut self, node: usize) {
        self.cluster.kill(node).await.unwrap();
        if let Some(client) = self.clients[node].take() {
            client.abort();
        }
    }

    /// Kills the seed.
    pub(super) async fn kill_seed(&mut self, seed: usize) {
        let sent = self.counts().bytes_sent;
        println!("figure: the seed is killed after {} of {} MiB", sent / MIB, self.layer.len() / MIB);
        self.kill(seed).await;
        self.seeds_lost += 1;
    }

    /// Starts a daemon that was killed, with what it had, and asks it again.
    pub(super) async fn restart(&mut self, node: usize) {
        self.cluster.restart(node).await.unwrap();
        self.ask(node);
    }

    /// Waits until every client has the layer, and holds what it took against what is promised.
    pub(super) async fn end(mut self, what: &str) -> BlobCounts {
        let mut longest = Duration::ZERO;
        for (node, client) in self.clients.iter_mut().enumerate() {
            if let Some(client) = client.take() {
                let pause = client.await.unwrap().unwrap_or_else(|error| panic!("node-{node}: {error:#}"));
                longest = longest.max(pause);
            }
        }
        let counts = self.counts();
        println!(
            "figure: {what}: the origin sent {:.3} x the layer of {} MiB, {:.1} MiB of it twice; the longest pause of a reader \
             was {:.2} s; {} blob connections at most",
            counts.bytes_sent as f64 / self.layer.len() as f64,
            self.layer.len() / MIB,
            counts.bytes_repeated as f64 / MIB as f64,
            longest.as_secs_f64(),
            counts.bodies_peak,
        );
        let most = self.layer.len() + self.seeds_lost * SEED_LOSS;
        assert!(counts.bytes_sent <= most, "{} bytes were sent, {most} are promised", counts.bytes_sent);
        assert!(longest < LONGEST_PAUSE, "a reader waited {longest:?}");
        assert_eq!(counts.heads, 1, "the length was asked for again");
        // Those of a seed that was killed may still be closing.
        assert!(counts.bodies_peak <= CONNECTIONS * (1 + self.seeds_lost), "{counts:?}");
        self.cluster.shutdown().await.unwrap();
        counts
    }
}

/// The daemon that coordinates the swarm of a digest: the one whose name is closest to it.
pub(super) fn coordinator(cluster: &Cluster, digest: &Digest) -> usize {
    let name = |node: usize| {
        let seed = fs::read(cluster.data_dir(node).join("identity")).unwrap();
        NodeKey::from_seed(&seed.try_into().unwrap()).id()
    };
    (0..cluster.len()).min_by_key(|node| name(*node).distance(digest)).unwrap()
}
