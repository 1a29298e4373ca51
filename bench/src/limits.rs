//! Limits: what Shoal costs beside the raw parts that it is made of, all in one run on one machine.
//!
//! * a fetch between two daemons against raw QUIC between two processes, raw SHA-256 and raw positional writes;
//! * checking pieces against SHA-256 alone, on one thread and on two;
//! * the mirror serving a stored layer against a web server serving a file;
//! * one cold pull through a daemon that is alone against a plain read of the origin;
//! * one in parts, as containerd and Ollama read, against one reader.

mod client;
mod cold;
mod comparison;
mod cost;
mod fetch;
mod layer;
mod parts;
mod quic;
mod raw;
mod serving;

use std::{fmt, path::Path, time::Duration};

use anyhow::ensure;
use bytesize::ByteSize;
use clap::ValueEnum;
use serde::Serialize;
use shoal::{cluster::Cluster, config::Size};
use shoal_registry::Registry;
use tokio::task::spawn_blocking;

pub(crate) use self::quic::{End, run as end_of_raw_quic};

use self::{
    comparison::{Comparison, Goal},
    layer::Layer,
};
use crate::{
    program, verify,
    workshop::{self, Tools},
};

/// What lies on the disk at once: the layer as a file, in two daemons, and as it is written raw.
const COPIES: u64 = 4;
/// Threads that still wait for a server that is gone have so long to notice.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// The arguments of `shoal-bench limits`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How large the layer is; the disk needs room for four of it
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    size: Size,

    /// How many rounds; what is compared alternates within them, and the median of the ratios counts
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,

    /// Measure these alone
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::value_variants().to_vec())]
    only: Vec<Part>,

    /// Fail when a goal is missed
    #[arg(long)]
    pub(crate) check: bool,

    /// Print one JSON object, and nothing else, on standard output
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    tools: Tools,
}

/// One of the things that are held against something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A fetch between two daemons
    Fetch,
    /// Checking pieces
    Verify,
    /// The mirror serving a stored layer
    Mirror,
    /// A cold pull through a lone daemon
    Cold,
    /// A cold pull in parts
    Parts,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    bytes: u64,
    rounds: u16,
    comparisons: Vec<Comparison>,
}

/// Where a measurement works, and with what.
struct Setting<'a> {
    program: &'a Path,
    folder: &'a Path,
    layer: &'a Layer,
    rounds: u16,
}

impl Setting<'_> {
    /// A daemon that is alone before an origin, and ready.
    async fn lone_daemon(&self, folder: &Path, origin: &Registry) -> anyhow::Result<Cluster> {
        let builder = Cluster::builder(self.program).alone().dir(folder);
        let cluster = builder.registry(&format!("{}={}", origin.addr(), origin.url())).start().await?;
        cluster.wait_ready(0).await?;
        Ok(cluster)
    }
}

/// Measures. A signal that ends this program ends everything that it started, too.
pub(crate) fn run(args: &Args) -> anyhow::Result<Report> {
    let program = program::find(args.tools.shoal.as_deref())?;
    ensure!(args.size.0 >= 1 << 20, "`--size` is {}: a layer of 1MiB at least can be measured", args.size);
    let folder = workshop::set_up(&args.tools.dir, args.size.0.saturating_mul(COPIES))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(Box::pin(workshop::unless_ended(measure(args, &program, folder.path()))));
    runtime.shutdown_timeout(LAST_BREATH);
    outcome
}

async fn measure(args: &Args, program: &Path, folder: &Path) -> anyhow::Result<Report> {
    let layer = Layer::make(args.size.0, folder).await?;
    let setting = Setting { program, folder, layer: &layer, rounds: args.rounds };
    let mut comparisons = Vec::new();
    for part in Part::value_variants().iter().filter(|part| args.only.contains(part)) {
        eprintln!("measuring: {part:?}");
        comparisons.extend(match part {
            Part::Fetch => fetch::measure(&setting).await?,
            Part::Verify => verification(args.rounds).await?,
            Part::Mirror => serving::measure(&setting).await?,
            Part::Cold => cold::measure(&setting).await?,
            Part::Parts => parts::measure(&setting).await?,
        });
    }
    Ok(Report { bytes: args.size.0, rounds: args.rounds, comparisons })
}

async fn verification(rounds: u16) -> anyhow::Result<Vec<Comparison>> {
    let report = spawn_blocking(move || verify::measure(rounds)).await??;
    let raw = report.raw_bytes_per_second;
    let line = |threads, ratio| Comparison {
        what: format!("checking pieces, {threads}"),
        unit: comparison::Unit::BytesPerSecond,
        figure: raw * ratio,
        against: "SHA-256, one thread".to_owned(),
        other: raw,
        ratio,
        goal: Goal::None,
    };
    Ok(vec![line("one thread", report.one_thread), line("two threads", report.two_threads)])
}

impl Report {
    /// # Errors
    /// When a goal is missed.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let missed: Vec<_> = self.comparisons.iter().filter(|line| line.is_met() == Some(false)).collect();
        let named: Vec<_> = missed.iter().map(|line| format!("{} is {:.3}", line.what, line.ratio)).collect();
        ensure!(missed.is_empty(), "missed: {}", named.join("; "));
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = ByteSize(self.bytes).display().iec();
        writeln!(f, "A layer of {size}, the median of {} rounds\n", self.rounds)?;
        writeln!(f, "{}", Comparison::HEADING)?;
        self.comparisons.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
