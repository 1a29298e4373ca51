//! A soak: minutes of random pulls by the nodes of a small network, while daemons are killed, ended and stopped, and links are
//! cut. Then all is mended, and everything has to be right and nothing left.
//!
//! * `stock`: what there is to pull; `client`: a pull of which every byte is compared; `clients`: many of them;
//! * `storm`: what goes wrong; `quiet`: waiting until nothing is done any more;
//! * `audit`: what each daemon has then, against what it had before; `report`: what it came to.

mod audit;
mod client;
mod clients;
mod quiet;
mod report;
mod stock;
mod storm;

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use rand::{SeedableRng, rngs::StdRng};
use shoal::{cluster::Cluster, config::Size};
use shoal_registry::Registry;
use tokio::time::{Instant, sleep};

use self::{audit::Seen, clients::Clients, report::Report, stock::Stock};
use crate::{
    lab::{Lab, Plan, Rate},
    program,
    workshop::{self, Tools},
};

/// The origin's name, as the clients use it.
const REGISTRY: &str = "soak.test";
/// What a node's index, sidecars and log may take on disk beside its capacity.
const BESIDE: u64 = 256 << 20;
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take until nothing is done any more: a blob that no client reads is pulled on for a minute.
const QUIET_WITHIN: Duration = Duration::from_secs(150);
/// How long a daemon that ends in order may let its clients read on.
const DRAIN: &str = "2s";

/// The arguments of `shoal-bench soak`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How long daemons are killed and links are cut; what is left after it is looked at for some minutes more
    #[arg(long, default_value_t = 30.0, value_name = "MINUTES")]
    minutes: f64,

    /// What is drawn by chance: blobs, clients and troubles; their moments are the machine's
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,

    /// How many nodes
    #[arg(long, default_value_t = 6, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(3..=32))]
    nodes: u16,

    /// How many blobs
    #[arg(long, default_value_t = 40, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(3..=1000))]
    blobs: u16,

    /// The largest blob; lengths are drawn up to it, and each node keeps a third of all
    #[arg(long, default_value = "32MiB", value_name = "SIZE")]
    largest: Size,

    /// How many clients each node has at a time
    #[arg(long, default_value_t = 2, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    clients: u16,

    /// What each node's link carries, each way
    #[arg(long, default_value = "200mbit", value_name = "RATE")]
    rate: Rate,

    /// Keep the folder with the daemons' logs, and name it
    #[arg(long)]
    keep: bool,

    /// Print one JSON object, and nothing else, on standard output
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    tools: Tools,
}

/// What a soak is made with.
struct Soak<'a> {
    args: &'a Args,
    lab: &'a Lab,
    stock: &'a Stock,
    cluster: Cluster,
    origin: Registry,
}

/// Makes the network, soaks, and takes it away again, also when it is interrupted.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    ensure!((0.1..=10_000.0).contains(&args.minutes), "`--minutes` takes 0.1 to 10000");
    ensure!(args.largest.0 >= 1 << 20, "`--largest` is {}: blobs of 1MiB at least are pulled", args.largest);
    let program = program::find(args.tools.shoal.as_deref())?;
    let stock = Stock::draw(args.seed, args.blobs.into(), args.largest.0);
    let needed = (stock.capacity() + BESIDE).saturating_mul(args.nodes.into());
    let folder = workshop::set_up_kept(&args.tools.dir, needed, args.keep)?;
    let lab = Lab::build(Plan::of(args.nodes.into(), args.rate))?;
    // Its threads are begun from this one, and are in the network as it is.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let soaking = async {
        let origin = stock.serve(lab.own_origin_address()).await?;
        let cluster = start(args, &program, &lab, &stock, &origin, folder.path()).await?;
        Soak { args, lab: &lab, stock: &stock, cluster, origin }.soak().await
    };
    runtime.block_on(Box::pin(workshop::unless_ended(soaking)))
}

async fn start(
    args: &Args,
    program: &Path,
    lab: &Lab,
    stock: &Stock,
    origin: &Registry,
    folder: &Path,
) -> anyhow::Result<Cluster> {
    let nodes = usize::from(args.nodes);
    let mut builder = Cluster::builder(program)
        .hosts((0..nodes).map(|node| lab.node(node)).collect())
        .dir(folder)
        .registry(&format!("{REGISTRY}={}", origin.url()))
        .flag("capacity", &stock.capacity().to_string())
        .flag("drain", DRAIN)
        .ready_within(READY_WITHIN);
    for node in 0..nodes {
        // Its clients are in this process, not in its namespace.
        builder = builder.flag_of(node, "mirror-listen", &format!("{}:5050", lab.node(node).address));
    }
    let cluster = builder.start().await?;
    cluster.wait_all_ready().await?;
    Ok(cluster)
}

impl Soak<'_> {
    async fn soak(mut self) -> anyhow::Result<Report> {
        let nodes = self.cluster.len();
        // All have met all when what they have is written down.
        self.pull_by_all(self.stock.first()).await?;
        let unquiet = quiet::wait(&self.cluster, &self.origin, QUIET_WITHIN).await;
        ensure!(unquiet.is_empty(), "something is left of one pull: {}", unquiet.join("; "));
        let before = self.look().await?;

        let clients = Clients::begin(self.args.seed, self.args.clients.into(), nodes, self.stock, |node, digest| {
            self.url(node, digest)
        });
        let end = Instant::now() + Duration::from_secs_f64(self.args.minutes * 60.0);
        let mut rng = StdRng::seed_from_u64(self.args.seed);
        let stormed = tokio::select! {
            stormed = storm::rage(self.lab, &mut self.cluster, &mut rng, end) => stormed,
            failed = clients.failed() => Err(failed),
        };
        let stormed = stormed.with_context(|| self.tails())?;
        self.cluster.wait_all_ready().await?;
        // Those who still pull have to come to their end now.
        let pulled = clients.end().await.with_context(|| self.tails())?;

        let mut wrong = Vec::new();
        for node in 0..nodes {
            wrong.extend(audit::resting(&self.cluster, node, |digest| self.url(node, digest)).await?);
        }
        let sent = |origin: &Registry| origin.counts().blob(&self.stock.last().digest()).bytes_sent;
        self.pull_by_all(self.stock.last()).await?;
        if sent(&self.origin) != self.stock.last().len() {
            wrong.push(format!("a blob of {} bytes was sent as {}", self.stock.last().len(), sent(&self.origin)));
        }
        wrong.extend(quiet::wait(&self.cluster, &self.origin, QUIET_WITHIN).await);
        let after = self.look().await?;
        for (node, (before, after)) in before.iter().zip(&after).enumerate() {
            wrong.extend(after.beyond(before).into_iter().map(|what| format!("node-{node}: {what}")));
            wrong.extend(audit::panics(&self.cluster, node)?);
        }
        let origin_bytes = self.origin.counts().blob_bytes_sent();
        self.cluster.shutdown().await?;
        Ok(Report::new(self.args, stormed, pulled, origin_bytes, before, after, wrong))
    }

    fn url(&self, node: usize, digest: &shoal_blob::Digest) -> String {
        let address = self.lab.node(node).address;
        format!("http://{address}:5050/v2/{}/blobs/{digest}?ns={REGISTRY}", stock::REPOSITORY)
    }

    async fn pull_by_all(&self, blob: &shoal_registry::Blob) -> anyhow::Result<()> {
        let urls = (0..self.cluster.len()).map(|node| self.url(node, &blob.digest()));
        try_join_all(urls.map(async |url| client::pull(&url, blob).await)).await.map(drop)
    }

    async fn look(&self) -> anyhow::Result<Vec<Seen>> {
        // What a scrape itself has open is gone by the next.
        sleep(Duration::from_secs(1)).await;
        try_join_all((0..self.cluster.len()).map(|node| Seen::of(&self.cluster, node))).await
    }

    fn tails(&self) -> String {
        let tails = (0..self.cluster.len()).map(|node| format!("node-{node}:\n{}", self.cluster.log_tail(node)));
        format!("the ends of the daemons' logs:\n{}", tails.collect::<Vec<_>>().join("\n"))
    }
}
