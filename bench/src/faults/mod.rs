//! Faults: what one bad peer costs the others, and what a cluster does that is cut in two; real daemons behind real links.
//!
//! * `case`: what there is to be survived; `trial`: one pull in which it happens; `parted`: one that is cut in two;
//! * `bad_peer`: a member that takes pieces and sends none, or does not even read them; `report`: what it came to.

mod bad_peer;
mod case;
mod parted;
mod report;
mod trial;

use std::{path::Path, time::Duration};

use anyhow::ensure;
use clap::ValueEnum;
use shoal::{
    cluster::{Builder, Cluster},
    config::Size,
};
use shoal_registry::{Artifact, Blob, Faults, Registry};

pub(crate) use self::bad_peer::{BadPeerArgs, run as be_bad};

use self::{
    case::Case,
    report::{Bad, Report},
};
use crate::{
    lab::{Lab, Plan, Rate},
    program,
    workshop::{self, Tools},
};

const REPOSITORY: &str = "models/faults";
/// The origin's name, as the clients use it.
const REGISTRY: &str = "faults.test";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The seed of the layer's bytes.
const SEED: u64 = 268_435_456;
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long the daemons have known each other when they are asked.
const ACQUAINTED: Duration = Duration::from_secs(6);
/// What a node's index and log may take on disk beside the layer.
const BESIDE: u64 = 64 << 20;

/// The arguments of `shoal-bench faults`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How many nodes, the bad one among them
    #[arg(long, default_value_t = 8, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(4..=32))]
    nodes: u16,

    /// How long the layer is that all of them pull
    #[arg(long, default_value = "256MiB", value_name = "SIZE")]
    size: Size,

    /// What each node's link carries, each way
    #[arg(long, default_value = "200mbit", value_name = "RATE")]
    rate: Rate,

    /// Measure these alone
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Case::value_variants().to_vec())]
    only: Vec<Case>,

    /// Keep the folder with the daemons' logs, and name it
    #[arg(long)]
    keep: bool,

    /// Print one JSON object, and nothing else, on standard output
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    tools: Tools,
}

/// What a trial is made with.
struct Bench<'a> {
    lab: &'a Lab,
    program: &'a Path,
    folder: &'a Path,
    layer: &'a Blob,
    /// Of all links, unless the trial says otherwise.
    rate: Rate,
}

/// Makes the network, has everything happen, and takes it away again, also when it is interrupted.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    ensure!(args.size.0 >= 16 << 20, "`--size` is {}: a layer of 16MiB at least is pulled", args.size);
    let program = program::find(args.tools.shoal.as_deref())?;
    let needed = args.size.0.saturating_add(BESIDE).saturating_mul(args.nodes.into());
    let folder = workshop::set_up_kept(&args.tools.dir, needed, args.keep)?;
    let lab = Lab::build(Plan::of(args.nodes.into(), args.rate))?;
    let layer = Blob::synthetic(args.size.0, SEED, |_| ());
    let bench = Bench { lab: &lab, program: &program, folder: folder.path(), layer: &layer, rate: args.rate };
    // Its threads are begun from this one, and are in the network as it is.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(Box::pin(workshop::unless_ended(all(args, &bench))))
}

async fn all(args: &Args, bench: &Bench<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new(args, bench.layer.len());
    let bad: Vec<Case> = args.only.iter().copied().filter(|case| *case != Case::Parted).collect();
    if !bad.is_empty() {
        let without = bench.trial(None).await?;
        report.without = Some(without.seconds);
        for case in bad {
            let with = bench.trial(Some(case)).await?;
            report.bad.push(Bad { case, ratio: with.seconds / without.seconds, trial: with });
        }
    }
    if args.only.contains(&Case::Parted) {
        report.parted = Some(bench.parted().await?);
    }
    Ok(report)
}

impl Bench<'_> {
    /// An origin in this process that sends no faster than a node's link carries.
    async fn origin(&self, rate: Rate) -> anyhow::Result<Registry> {
        let artifact = Artifact::new(REPOSITORY, MANIFEST_TYPE, "{}").blob(self.layer.clone());
        let faults = Faults::none().rate(rate.bits() / 8);
        Ok(Registry::builder().artifact(artifact).faults(faults).listen((self.lab.own_origin_address(), 0)).await?)
    }

    /// Daemons on the first `nodes` hosts that have known each other for a while.
    async fn daemons(&self, nodes: usize, origin: &Registry, folder: &Path) -> anyhow::Result<Cluster> {
        let builder: Builder = Cluster::builder(self.program)
            .hosts((0..nodes).map(|node| self.lab.node(node)).collect())
            .dir(folder)
            .registry(&format!("{REGISTRY}={}", origin.url()))
            .ready_within(READY_WITHIN);
        let cluster = builder.start().await?;
        cluster.wait_all_ready().await?;
        tokio::time::sleep(ACQUAINTED).await;
        Ok(cluster)
    }

    /// Where a node's own client asks its daemon for the layer.
    fn url(&self, cluster: &Cluster, node: usize) -> String {
        format!("{}/v2/{REPOSITORY}/blobs/{}?ns={REGISTRY}", cluster.mirror_url(node), self.layer.digest())
    }
}
