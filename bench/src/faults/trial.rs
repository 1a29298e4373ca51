//! One pull by nodes of which all but one are well.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use serde::Serialize;
use shoal::cluster::Cluster;
use tokio::time::timeout;

use super::{
    Bench,
    bad_peer::{BadPeer, Manner, Met},
    case::Case,
};
use crate::{fanout::Reader, lab::Rate};

/// What a pull may take at most, whatever is wrong with one node: far more than is measured, so that a hang ends.
const WITHIN: Duration = Duration::from_secs(300);

/// What one pull took.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Trial {
    /// Until the last of the nodes that are well had everything.
    pub(super) seconds: f64,
    pub(super) origin_bytes: u64,
    /// What the bad member did, where it is one of this program.
    pub(super) met: Option<Met>,
}

impl Bench<'_> {
    /// Has all nodes that are well pull at once, beside one with that fault; without it where there is none.
    pub(super) async fn trial(&self, fault: Option<Case>) -> anyhow::Result<Trial> {
        let name = fault.map_or("without", Case::what);
        let folder = tempfile::Builder::new().prefix("trial-").tempdir_in(self.folder)?;
        let outcome = self.pull(fault, &folder.keep()).await;
        outcome.with_context(|| format!("the pull with a peer that is bad: {name}"))
    }

    async fn pull(&self, fault: Option<Case>, folder: &Path) -> anyhow::Result<Trial> {
        let well = self.lab.plan.nodes - 1;
        let bad = well;
        let is_daemon = matches!(fault, Some(Case::Slow | Case::Hung));
        let origin = self.origin(self.rate).await?;
        let cluster = self.daemons(well + usize::from(is_daemon), &origin, folder).await?;
        if fault == Some(Case::Slow) {
            self.lab.slow(bad, Rate::from_bits(self.rate.bits() / 10))?;
        }
        let manner = match fault {
            Some(Case::Mute) => Some(Manner::Mute),
            Some(Case::Deaf) => Some(Manner::Deaf),
            _ => None,
        };
        let peer = match manner {
            Some(manner) => Some(BadPeer::join(&self.lab.node(bad), &cluster, manner, self.layer).await?),
            None => None,
        };

        let start = |node| {
            let command = Reader::of(&self.lab.node(node), &self.url(&cluster, node));
            async { Reader::start(command?, self.layer.digest()).await }
        };
        let mut readers = try_join_all((0..cluster.len()).map(start)).await?;
        let mut of_bad = readers.split_off(well);
        let is_well = of_bad.is_empty();
        let began = Instant::now();
        let hang = async {
            if fault == Some(Case::Hung) {
                let (digest, fifth) = (self.layer.digest(), self.layer.len() / 5);
                origin.until(|counts| counts.blob(&digest).bytes_sent >= fifth).await;
                cluster.pause(bad)?;
            }
            anyhow::Ok(())
        };
        let good_reads = async {
            let (read, hung) = tokio::join!(try_join_all(readers.iter_mut().map(Reader::read)), hang);
            hung?;
            read
        };
        // The bad node's own client may get its layer later, or never.
        let read = {
            let mut good_reads = std::pin::pin!(timeout(WITHIN, good_reads));
            tokio::select! {
                read = &mut good_reads => read,
                _ = try_join_all(of_bad.iter_mut().map(Reader::read)), if !is_well => good_reads.await,
            }
        };
        let read = read.map_err(|_| anyhow::anyhow!("the nodes that are well have not all of it after {WITHIN:?}"));
        read.and_then(|read| read).with_context(|| tails(&cluster))?;
        let seconds = began.elapsed().as_secs_f64();

        drop(of_bad);
        let met = match peer {
            Some(peer) => Some(peer.end().await?),
            None => None,
        };
        if fault == Some(Case::Hung) {
            cluster.resume(bad)?;
        }
        let origin_bytes = origin.counts().blob(&self.layer.digest()).bytes_sent;
        ensure!(origin_bytes >= self.layer.len(), "the origin sent {origin_bytes} bytes");
        if fault == Some(Case::Slow) {
            self.lab.slow(bad, self.rate)?;
        }
        cluster.shutdown().await?;
        Ok(Trial { seconds, origin_bytes, met })
    }
}

/// The ends of all daemons' logs.
pub(super) fn tails(cluster: &Cluster) -> String {
    let tails = (0..cluster.len()).map(|node| format!("node-{node}:\n{}", cluster.log_tail(node)));
    format!("the ends of the daemons' logs:\n{}", tails.collect::<Vec<_>>().join("\n"))
}
