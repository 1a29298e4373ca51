//! `shoal demo`: an origin, daemons, and one pull on every node at the same moment.
//!
//! Everything is the real thing: the registry protocol over HTTP, the daemons as processes of their own, clients that use
//! the mirrors as any client would. Only the weights are synthetic.

mod bars;
mod client;
mod image;
mod origin;
mod report;
mod room;

use std::{path::Path, time::Instant};

use anyhow::{Context, bail};
use futures::future::join_all;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use self::{bars::Bars, client::Client, image::Manifest, origin::Origin};
use crate::{cli::DemoArgs, cluster::Cluster};

pub use report::{BlobReport, NodeReport, OriginReport, Report};

/// Runs the demonstration and returns what was measured.
///
/// # Errors
/// When something could not be started or asked, and when it is interrupted. Pulls that fail are in the report.
pub async fn run(args: &DemoArgs) -> anyhow::Result<Report> {
    let folder = tempfile::Builder::new()
        .prefix("shoal-demo-")
        .tempdir_in(&args.dir)
        .with_context(|| format!("make a folder in {}; `--dir` names another", args.dir.display()))?;
    let outcome = tokio::select! {
        outcome = in_folder(args, folder.path()) => outcome,
        signal = interrupted() => signal.and_then(|name| bail!("interrupted by {name}")),
    };
    if args.keep {
        eprintln!("kept: {}", keep(folder).display());
    }
    outcome
}

fn keep(folder: TempDir) -> std::path::PathBuf {
    folder.keep()
}

async fn interrupted() -> anyhow::Result<&'static str> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok("SIGINT"),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}

async fn in_folder(args: &DemoArgs, folder: &Path) -> anyhow::Result<Report> {
    let bars = Bars::new(args.json);
    let nodes = usize::from(args.nodes);
    if args.registry.is_none() {
        room::check(folder, nodes, args.size.0)?;
    }
    let origin = Origin::of(args, &bars).await?;
    bars.say(&origin.describe());

    let program = std::env::current_exe().context("find the program to start the daemons with")?;
    let begun = Instant::now();
    let cluster = Cluster::builder(program)
        .nodes(nodes)
        .dir(folder)
        .registry(&origin.registry_flag())
        .flag("drain", "5s")
        .start()
        .await?;
    cluster.wait_all_ready().await?;
    bars.say(&format!(
        "all daemons ({nodes}) are ready after {:.1} s, in {}",
        begun.elapsed().as_secs_f64(),
        folder.display()
    ));

    let report = measure(&cluster, &origin, folder, &bars).await;
    if let Err(error) = cluster.shutdown().await {
        bars.warn(&format!("a daemon did not end well: {error:#}"));
    }
    report
}

/// Pulls through every mirror at the same moment, checks the copies, and asks everybody for their figures.
async fn measure(cluster: &Cluster, origin: &Origin, folder: &Path, bars: &Bars) -> anyhow::Result<Report> {
    let clients = (0..cluster.len())
        .map(|node| Client::new(&cluster.mirror_url(node), origin.image(), &folder.join(format!("client-{node}"))))
        .collect::<anyhow::Result<Vec<_>>>()?;

    let begun = Instant::now();
    let manifests = join_all(clients.iter().map(Client::manifest)).await;
    let manifest = agreed(manifests)?;
    let weight = manifest.weight().clone();
    if origin.is_foreign() {
        room::check(folder, cluster.len(), manifest.bytes())?;
    }
    let pulls = clients.iter().enumerate().map(async |(node, client)| {
        let bar = bars.node(node, weight.size);
        let outcome = client.pull(&manifest, |done| bar.set_position(done)).await;
        bar.finish();
        (outcome, begun.elapsed().as_secs_f64())
    });
    let pulled = join_all(pulls).await;
    let seconds = begun.elapsed().as_secs_f64();

    let checking = bars.spinner("reading every copy again for its SHA-256");
    let checked = client::check(&clients, &manifest).await;
    checking.finish_and_clear();

    let mut nodes = Vec::with_capacity(clients.len());
    for (node, ((outcome, seconds), checked)) in pulled.into_iter().zip(checked).enumerate() {
        let name = format!("node-{node}");
        let verified = match outcome.and(checked) {
            Ok(()) => true,
            Err(error) => {
                bars.warn(&format!("{name}: {error:#}\nthe end of its log:\n{}", cluster.log_tail(node)));
                false
            }
        };
        let figures = cluster.blob(node, &weight.digest).await?;
        let (bytes_from_origin, bytes_from_peers) =
            figures.map_or((0, 0), |blob| (blob.bytes_from_origin, blob.bytes_from_peers));
        nodes.push(NodeReport { name, seconds, bytes_from_origin, bytes_from_peers, verified });
    }
    let sent = origin.report(cluster, &weight.digest, &nodes).await?;
    Ok(Report { blob: BlobReport { digest: weight.digest, bytes: weight.size }, nodes, origin: sent, seconds })
}

/// The manifest that all mirrors gave.
fn agreed(manifests: Vec<anyhow::Result<Manifest>>) -> anyhow::Result<Manifest> {
    let mut all = manifests.into_iter().enumerate();
    let (_, first) = all.next().context("there is no node")?;
    let first = first.context("node-0")?;
    for (node, manifest) in all {
        if manifest.with_context(|| format!("node-{node}"))? != first {
            bail!("node-{node} gave another manifest than node-0: was the tag moved meanwhile?");
        }
    }
    Ok(first)
}
