//! A pull in which the cluster is cut in two and comes together again.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use serde::Serialize;
use shoal::cluster::Cluster;
use tokio::time::sleep;

use super::{Bench, trial::tails};
use crate::{fanout::Reader, lab::Rate};

/// How long the halves do not hear each other.
const PARTED: Duration = Duration::from_secs(20);
/// How long the links would take for the layer, so that nobody has it when they come together.
const LASTS: u64 = 50;
/// How soon there is one lease again.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(100);

/// What happened.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Parted {
    pub(super) rate: String,
    pub(super) seconds: f64,
    /// What the origin sent, in layers.
    pub(super) origin: f64,
    /// The most leases at once while the halves did not hear each other.
    pub(super) leases_parted: u64,
    /// How long after they came together there was one lease, and no second one from then on.
    pub(super) settled: f64,
    /// The part of the layer that the origin had sent by then.
    pub(super) origin_at_healing: f64,
}

impl Bench<'_> {
    /// Cuts the cluster in two for 20 s when a tenth of the layer is sent.
    pub(super) async fn parted(&self) -> anyhow::Result<Parted> {
        let nodes = self.lab.plan.nodes;
        let rate = Rate::from_bits((self.layer.len() * 8 / LASTS).max(1_000_000)).min(self.rate);
        (0..nodes).try_for_each(|node| self.lab.slow(node, rate))?;
        let folder = tempfile::Builder::new().prefix("parted-").tempdir_in(self.folder)?.keep();
        // Fast enough for two seeds.
        let origin = self.origin(rate.times(2)).await?;
        let cluster = self.daemons(nodes, &origin, &folder).await?;
        let (digest, length) = (self.layer.digest(), self.layer.len());
        let sent = || origin.counts().blob(&digest).bytes_sent;

        let start = |node| {
            let command = Reader::of(&self.lab.node(node), &self.url(&cluster, node));
            async move { Reader::start(command?, digest).await }
        };
        let mut readers = try_join_all((0..nodes).map(start)).await?;
        let began = Instant::now();
        let (one, other): (Vec<usize>, Vec<usize>) = (0..nodes).partition(|node| *node < nodes / 2);
        let watch = async {
            origin.until(|counts| counts.blob(&digest).bytes_sent >= length / 10).await;
            self.lab.part(&one, &other)?;
            let (parted, mut leases_parted) = (Instant::now(), 0);
            while parted.elapsed() < PARTED {
                leases_parted = leases_parted.max(leases(&cluster).await?);
                sleep(GLANCE).await;
            }
            self.lab.join(&one, &other)?;
            let (healed, origin_at_healing) = (Instant::now(), sent() as f64 / length as f64);
            // The last moment at which there was more than one.
            let mut settled = Duration::ZERO;
            while !complete(&cluster, &digest).await? {
                if leases(&cluster).await? > 1 {
                    settled = healed.elapsed();
                }
                sleep(GLANCE).await;
            }
            anyhow::Ok((leases_parted, settled.as_secs_f64(), origin_at_healing, healed.elapsed()))
        };
        let reads = try_join_all(readers.iter_mut().map(Reader::read));
        let done = async { tokio::try_join!(reads, watch) };
        let (_, (leases_parted, settled, origin_at_healing, after)) = done.await.with_context(|| tails(&cluster))?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(
            after > SETTLED_WITHIN,
            "the pull ended {after:?} after the halves came together: too soon to see anything"
        );
        let origin = sent() as f64 / length as f64;
        cluster.shutdown().await?;
        (0..nodes).try_for_each(|node| self.lab.slow(node, self.rate))?;
        Ok(Parted { rate: rate.to_string(), seconds, origin, leases_parted, settled, origin_at_healing })
    }
}

impl Parted {
    /// # Errors
    /// When more was read, or more leases were left, than is promised.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.origin <= 2.0, "the origin sent {:.3} layers to a cluster that was cut in two", self.origin);
        let limit = SETTLED_WITHIN.as_secs_f64();
        ensure!(self.settled <= limit, "there were two leases {:.1} s after the halves came together", self.settled);
        Ok(())
    }
}

async fn leases(cluster: &Cluster) -> anyhow::Result<u64> {
    let held = (0..cluster.len()).map(|node| cluster.metric(node, "shoal_leases_held"));
    Ok(try_join_all(held).await?.into_iter().sum::<f64>() as u64)
}

async fn complete(cluster: &Cluster, digest: &shoal_blob::Digest) -> anyhow::Result<bool> {
    let blobs = try_join_all((0..cluster.len()).map(|node| cluster.blob(node, digest))).await?;
    Ok(blobs.into_iter().all(|blob| blob.is_some_and(|blob| blob.complete)))
}
