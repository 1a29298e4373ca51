//! Fan-out over real links: every node of a network of namespaces pulls the same layers at the same moment.
//!
//! * `origin`, `reader`, `torrent`: what stands at the ends of the network;
//! * `settle`: the machine before a measurement;
//! * `trial`: one fan-out in one mode; `outcome`: what several came to, and how near to the bound; `plot`: one as a picture.

mod origin;
mod outcome;
mod plot;
mod reader;
mod settle;
mod torrent;
mod trial;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use shoal::config::Size;

use self::{origin::Layers, outcome::Outcome, trial::Bench};
use crate::{
    lab::{Lab, Plan, Rate},
    program,
    workshop::{self, Tools},
};

pub(crate) use self::{
    origin::{OriginArgs, run as serve_origin},
    outcome::Summary,
    reader::Reader,
    reader::{ReaderArgs, run as read},
    trial::Mode,
};

/// What a node's index and log may take on disk beside the layers.
const BESIDE: u64 = 64 << 20;

/// The arguments of `shoal-bench fanout`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 8, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,

    /// How much every node pulls
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    size: Size,

    /// In how many layers, all asked for at once
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=64))]
    layers: u16,

    /// What each node's link carries, each way
    #[arg(long, default_value = "200mbit", value_name = "RATE")]
    rate: Rate,

    /// What the origin's link carries, each way [default: as a node's]
    #[arg(long, value_name = "RATE")]
    origin_rate: Option<Rate>,

    /// How long a packet takes over a node's link, each way, such as 5ms; needs netem in the kernel
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "0s")]
    latency: Duration,

    /// How the layers get to the nodes; several are compared in turn
    #[arg(long, value_enum, default_value = "shoal", value_delimiter = ',', value_name = "MODE")]
    mode: Vec<Mode>,

    /// How many zones the nodes are dealt out to
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=16))]
    zones: u16,

    /// What each zone's link to the others carries, each way [default: ten times a node's]
    #[arg(long, value_name = "RATE")]
    zone_rate: Option<Rate>,

    /// How many seconds after one node the next one asks
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    stagger: f64,

    /// How often; modes take turns
    #[arg(long, default_value_t = 1, value_name = "TIMES", value_parser = clap::value_parser!(u16).range(1..=100))]
    repeat: u16,

    /// A setting of all daemons, such as limit-up=100mbit. Repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    flag: Vec<(String, String)>,

    /// Draw the last trial of the first mode into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Keep the folder with the daemons' logs, and name it
    #[arg(long)]
    keep: bool,

    /// Print one JSON object, and nothing else, on standard output; it tells what each link carried in each 100 ms
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    tools: Tools,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Makes the network, runs all trials, and takes it away again, also when it is interrupted.
pub(crate) fn run(args: &Args) -> anyhow::Result<Outcome> {
    ensure!((0.0..=3600.0).contains(&args.stagger), "`--stagger` takes 0 to 3600 seconds");
    let program = program::find(args.tools.shoal.as_deref())?;
    let needed = args.size.0.saturating_add(BESIDE).saturating_mul(u64::from(args.nodes) + 1);
    let folder = workshop::set_up_kept(&args.tools.dir, needed, args.keep)?;
    let plan = Plan {
        nodes: args.nodes.into(),
        rate: args.rate,
        origin_rate: args.origin_rate.unwrap_or(args.rate),
        latency: args.latency,
        zones: args.zones.into(),
        zone_rate: args.zone_rate.unwrap_or_else(|| args.rate.times(10)),
    };
    let lab = Lab::build(plan)?;
    let layers = Layers::make(args.layers.into(), args.size.0, folder.path())?;
    let bench = Bench {
        lab: &lab,
        layers: &layers,
        program: &program,
        flags: &args.flag,
        stagger: Duration::from_secs_f64(args.stagger),
        dir: folder.path(),
        keep: args.keep,
    };
    // One thread: it is in the network, and so is all that it opens and starts.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let trials = runtime.block_on(workshop::unless_ended(all(args, &bench)));
    let outcome = Outcome::of(&bench, trials?)?;
    if let Some(path) = &args.plot {
        let picture = outcome.plot().context("there is no trial to draw")?;
        std::fs::write(path, picture).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(outcome)
}

async fn all(args: &Args, bench: &Bench<'_>) -> anyhow::Result<Vec<trial::Trial>> {
    let mut trials = Vec::new();
    for time in 1..=args.repeat {
        for &mode in &args.mode {
            if let Some(missing) = (mode == Mode::Bittorrent).then(torrent::missing).flatten() {
                eprintln!("{} is skipped: {missing}", mode.name());
                continue;
            }
            let trial = bench.run(mode).await?;
            if !args.json {
                let seconds = trial.seconds.iter().copied().fold(0.0, f64::max);
                eprintln!("{} {time} of {}: {seconds:.2} s", mode.name(), args.repeat);
            }
            trials.push(trial);
        }
    }
    Ok(trials)
}
