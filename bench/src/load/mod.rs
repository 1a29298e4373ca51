//! Load: many clients that read ranges of stored layers at once, from the mirror and from nginx on the same bytes.

mod client;
mod crowd;

use std::{fmt, path::Path, time::Duration};

use anyhow::{Context, ensure};
use bytesize::ByteSize;
use serde::Serialize;
use shoal::{
    cluster::Cluster,
    config::{Size, Span},
};
use shoal_registry::{Artifact, Blob, Registry};
use tokio::task::spawn_blocking;

use self::crowd::{Offer, Tally};
use crate::{
    blob_file, program,
    web_server::{self, WebServer},
    workshop::{self, Tools},
};

const REPOSITORY: &str = "models/shoal-bench";
/// The seed of the first layer's synthetic weights.
const SEED: u64 = 1_414_213_562;
const LAYERS: u64 = 4;
/// The layers lie in the daemon's store, and as files before nginx.
const COPIES: u64 = 2;
/// The time is cut into so many parts, in which the servers take turns: what the machine does besides meets both.
const TURNS: u32 = 3;
/// Threads that still wait for a server that is gone have so long to notice.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// The arguments of `shoal-bench load`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How long the clients of each server read
    #[arg(long, default_value = "60s", value_name = "DURATION")]
    time: Span,

    /// How many clients there are at once, each with a connection of its own
    #[arg(long, default_value_t = 64, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=512))]
    clients: u16,

    /// How large each of the four layers is; the disk needs room for eight
    #[arg(long, default_value = "256MiB", value_name = "SIZE")]
    size: Size,

    /// Print one JSON object, and nothing else, on standard output
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    tools: Tools,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    clients: u16,
    layers: u64,
    layer_bytes: u64,
    seconds: f64,
    mirror: Figures,
    /// Missing where nginx is not installed.
    nginx: Option<Figures>,
}

/// What one server came to.
#[derive(Debug, Serialize)]
struct Figures {
    requests: usize,
    bytes_per_second: f64,
    median_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
}

impl Figures {
    fn of(mut tally: Tally) -> Self {
        let mut ms = |part| tally.quantile(part).as_secs_f64() * 1e3;
        let (median_ms, p99_ms, longest_ms) = (ms(0.5), ms(0.99), ms(1.0));
        Self {
            requests: tally.latencies.len(),
            bytes_per_second: tally.bytes_per_second(),
            median_ms,
            p99_ms,
            longest_ms,
        }
    }
}

/// Measures. A signal that ends this program ends everything that it started, too.
///
/// # Errors
/// When a single answer of the mirror is not what was asked for.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    let program = program::find(args.tools.shoal.as_deref())?;
    ensure!(args.size.0 >= 1 << 20, "`--size` is {}: layers of 1MiB at least can be measured", args.size);
    ensure!(args.time.0 >= Duration::from_secs(1), "`--time` has to be 1s at least");
    let folder = workshop::set_up(&args.tools.dir, args.size.0.saturating_mul(LAYERS * COPIES))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(Box::pin(workshop::unless_ended(measure(args, &program, folder.path()))));
    runtime.shutdown_timeout(LAST_BREATH);
    outcome
}

async fn measure(args: &Args, program: &Path, folder: &Path) -> anyhow::Result<Report> {
    let (bytes, files) = (args.size.0, folder.to_owned());
    let making = spawn_blocking(move || {
        (0..LAYERS).map(|number| make(bytes, number, &files)).collect::<anyhow::Result<Vec<Artifact>>>()
    });
    let artifacts = making.await??;
    let layers: Vec<Blob> = artifacts.iter().map(|artifact| artifact.layer().clone()).collect();
    let mut origin = Registry::builder();
    for artifact in artifacts {
        origin = origin.artifact(artifact);
    }
    let origin = origin.listen("127.0.0.1:0").await?;
    let data = tempfile::tempdir_in(folder)?;
    let builder = Cluster::builder(program).alone().dir(data.path());
    let cluster = builder.registry(&format!("{}={}", origin.addr(), origin.url())).start().await?;
    cluster.wait_ready(0).await?;
    let path = |layer: &Blob| format!("/v2/{REPOSITORY}/blobs/{}?ns={}", layer.digest(), origin.addr());
    let ours = Offer { server: cluster.mirror_addr(0), paths: layers.iter().map(path).collect() };
    let web_server = match web_server::nginx() {
        Some(_) => Some(WebServer::start(&file(folder, 0), data.path()).await?),
        None => None,
    };
    let theirs = web_server.as_ref().map(|server| Offer {
        server: server.address(),
        paths: (0..LAYERS).map(|number| format!("/layer-{number}")).collect(),
    });
    // What is read whole now is stored, and in the page cache.
    for layer in &layers {
        store(&cluster, &format!("{}{}", cluster.mirror_url(0), path(layer)), layer).await?;
    }

    let (mut mirror, mut nginx) = (Tally::default(), theirs.as_ref().map(|_| Tally::default()));
    for turn in 0..TURNS {
        eprintln!("turn {} of {TURNS}", turn + 1);
        let take = async |offer: &Offer, tally: &mut Tally| {
            let (offer, layers, clients) = (offer.clone(), layers.clone(), u64::from(args.clients));
            let (seed, time) = (SEED + u64::from(turn), args.time.0 / TURNS);
            tally.add(spawn_blocking(move || crowd::load(&offer, &layers, clients, seed, time)).await??);
            anyhow::Ok(())
        };
        let outcome = take(&ours, &mut mirror).await;
        outcome.with_context(|| format!("the mirror; the end of the daemon's log:\n{}", cluster.log_tail(0)))?;
        if let (Some(theirs), Some(nginx)) = (&theirs, &mut nginx) {
            take(theirs, nginx).await?;
        }
    }
    drop(web_server);
    cluster.shutdown().await?;
    Ok(Report {
        clients: args.clients,
        layers: LAYERS,
        layer_bytes: bytes,
        seconds: args.time.0.as_secs_f64(),
        mirror: Figures::of(mirror),
        nginx: nginx.map(Figures::of),
    })
}

fn file(folder: &Path, number: u64) -> std::path::PathBuf {
    folder.join(format!("layer-{number}"))
}

/// A layer, which lies in a file as well.
fn make(bytes: u64, number: u64, folder: &Path) -> anyhow::Result<Artifact> {
    let artifact = Artifact::synthetic(REPOSITORY, &format!("v{number}"), bytes, SEED + number);
    blob_file::write(artifact.layer(), &file(folder, number))?.sync_all()?;
    Ok(artifact)
}

async fn store(cluster: &Cluster, url: &str, layer: &Blob) -> anyhow::Result<()> {
    let mut answer = shoal::fetch::get(url, None).await?;
    let mut came = 0;
    while let Some(bytes) = answer.next().await? {
        came += bytes.len() as u64;
    }
    ensure!(came == layer.len(), "{came} bytes came of {url}; the daemon's log:\n{}", cluster.log_tail(0));
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = ByteSize(self.layer_bytes).display().iec();
        let Self { clients, layers, seconds, .. } = self;
        writeln!(
            f,
            "{clients} clients read ranges of {layers} stored layers of {size} for {seconds:.0} s: no error\n"
        )?;
        writeln!(f, "{:<32}{:>10}{:>12}{:>11}{:>11}{:>11}", "", "requests", "throughput", "median", "p99", "longest")?;
        let rows = [("the mirror", Some(&self.mirror)), ("nginx, one worker, sendfile", self.nginx.as_ref())];
        for (name, figures) in rows.into_iter().filter_map(|(name, figures)| Some((name, figures?))) {
            let rate = format!("{:.0} MB/s", figures.bytes_per_second / 1e6);
            write!(f, "{name:<32}{:>10}{rate:>12}", figures.requests)?;
            for ms in [figures.median_ms, figures.p99_ms, figures.longest_ms] {
                write!(f, "{:>11}", format!("{ms:.1} ms"))?;
            }
            writeln!(f)?;
        }
        if let Some(nginx) = &self.nginx {
            let rate = self.mirror.bytes_per_second / nginx.bytes_per_second;
            writeln!(f, "\nthroughput {rate:.2} x, p99 {:.2} x that of nginx", self.mirror.p99_ms / nginx.p99_ms)?;
        }
        Ok(())
    }
}
