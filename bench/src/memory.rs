//! Memory: how much a daemon ever has, whatever the size of what it moves.

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use bytesize::ByteSize;
use futures::future::try_join_all;
use http::StatusCode;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use shoal::{cluster::Cluster, config::Size, fetch};
use shoal_blob::Digest;
use shoal_registry::{Artifact, Registry};

use crate::{
    program,
    workshop::{self, Tools},
};

const REPOSITORY: &str = "models/shoal-bench";
/// The seed of the synthetic weights.
const SEED: u64 = 8_589_934_592;
/// What a node's index and log may take on disk beside the layer.
const BESIDE: u64 = 64 << 20;
/// How long a daemon may need to find the others.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// The arguments of `shoal-bench memory`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How large the layer is; the disk needs room for it once for each node
    #[arg(long, default_value = "8GiB", value_name = "SIZE")]
    size: Size,

    /// How many daemons; a client pulls from each at the same moment and keeps nothing
    #[arg(long, default_value_t = 2, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,

    /// The most that a daemon may ever have
    #[arg(long, default_value = "256MiB", value_name = "SIZE")]
    limit: Size,

    /// Print one JSON object, and nothing else, on standard output
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    tools: Tools,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    bytes: u64,
    limit: u64,
    nodes: Vec<NodeReport>,
    origin_bytes_sent: u64,
    seconds: f64,
}

/// What one daemon needed.
#[derive(Debug, Serialize)]
struct NodeReport {
    name: String,
    peak_resident: u64,
    bytes_from_origin: u64,
    bytes_from_peers: u64,
}

/// Starts an origin and daemons, pulls the layer through every one of them, and reads how much memory each has had.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    let program = program::find(args.tools.shoal.as_deref())?;
    let nodes = usize::from(args.nodes);
    let folder = workshop::set_up(&args.tools.dir, (nodes as u64).saturating_mul(args.size.0.saturating_add(BESIDE)))?;
    let artifact = Artifact::synthetic(REPOSITORY, "v1", args.size.0, SEED);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(args, &program, nodes, folder.path(), artifact))
}

async fn measure(
    args: &Args,
    program: &Path,
    nodes: usize,
    folder: &Path,
    artifact: Artifact,
) -> anyhow::Result<Report> {
    let layer = artifact.layer().digest();
    let registry = Registry::builder().artifact(artifact).listen("127.0.0.1:0").await?;
    let cluster = Cluster::builder(program)
        .nodes(nodes)
        .dir(folder)
        .registry(&format!("{}={}", registry.addr(), registry.url()))
        .ready_within(READY_WITHIN)
        .start()
        .await?;
    cluster.wait_all_ready().await?;

    let begun = Instant::now();
    let pulls = (0..nodes).map(async |node| {
        let url = format!("{}/v2/{REPOSITORY}/blobs/{layer}?ns={}", cluster.mirror_url(node), registry.addr());
        let found = pull(&url, args.size.0).await;
        let found = found.with_context(|| format!("node-{node}; the end of its log:\n{}", cluster.log_tail(node)))?;
        ensure!(found == layer, "node-{node} gave {found} for {layer}");
        anyhow::Ok(())
    });
    try_join_all(pulls).await?;
    let seconds = begun.elapsed().as_secs_f64();

    let mut reports = Vec::with_capacity(nodes);
    for node in 0..nodes {
        let name = format!("node-{node}");
        let peak_resident =
            cluster.peak_rss(node).with_context(|| format!("{name} has ended, or /proc is not there"))?;
        let figures =
            cluster.blob(node, &layer).await?.with_context(|| format!("{name} knows nothing of the layer"))?;
        let (bytes_from_origin, bytes_from_peers) = (figures.bytes_from_origin, figures.bytes_from_peers);
        reports.push(NodeReport { name, peak_resident, bytes_from_origin, bytes_from_peers });
    }
    cluster.shutdown().await?;
    let origin_bytes_sent = registry.counts().blob(&layer).bytes_sent;
    Ok(Report { bytes: args.size.0, limit: args.limit.0, nodes: reports, origin_bytes_sent, seconds })
}

/// Reads a blob to its end and hashes it; nothing is kept.
async fn pull(url: &str, length: u64) -> anyhow::Result<Digest> {
    let mut answer = fetch::get(url, None).await?;
    let status = answer.status;
    if status != StatusCode::OK {
        bail!("GET {url}: {status}: {}", String::from_utf8_lossy(&answer.whole().await?).trim());
    }
    let mut hasher = Sha256::new();
    let mut done = 0;
    while let Some(bytes) = answer.next().await.with_context(|| format!("GET {url}: after {done} of {length} bytes"))? {
        hasher.update(&bytes);
        done += bytes.len() as u64;
    }
    Ok(Digest::Sha256(hasher.finalize().into()))
}

impl Report {
    /// # Errors
    /// When a daemon had more than the limit, or the origin sent more than the layer.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        for NodeReport { name, peak_resident, .. } in &self.nodes {
            let (peak, limit) = (shown(*peak_resident), shown(self.limit));
            ensure!(*peak_resident <= self.limit, "{name} had {peak} resident; the limit is {limit}");
        }
        let (sent, bytes) = (self.origin_bytes_sent, self.bytes);
        ensure!(sent == bytes, "the origin sent {sent} bytes of a layer of {bytes}");
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.nodes.len();
        writeln!(f, "A layer of {} through {nodes} daemons in {:.1} s\n", shown(self.bytes), self.seconds)?;
        writeln!(f, "{:<9}{:>16}{:>18}{:>14}", "node", "peak resident", "from the origin", "from peers")?;
        for NodeReport { name, peak_resident, bytes_from_origin, bytes_from_peers } in &self.nodes {
            let (peak, origin, peers) = (shown(*peak_resident), shown(*bytes_from_origin), shown(*bytes_from_peers));
            writeln!(f, "{name:<9}{peak:>16}{origin:>18}{peers:>14}")?;
        }
        Ok(())
    }
}

fn shown(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(peak_resident: u64, origin_bytes_sent: u64) -> Report {
        let node = NodeReport { name: "node-0".to_owned(), peak_resident, bytes_from_origin: 10, bytes_from_peers: 0 };
        Report { bytes: 10, limit: 100, nodes: vec![node], origin_bytes_sent, seconds: 1.0 }
    }

    #[test]
    fn a_daemon_over_the_limit_is_a_fault_and_so_is_a_byte_sent_twice() {
        assert!(report(100, 10).check().is_ok());
        assert!(report(101, 10).check().unwrap_err().to_string().contains("node-0"));
        assert!(report(100, 11).check().unwrap_err().to_string().contains("11 bytes"));
    }
}
