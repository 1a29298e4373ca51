//! Whole fleets in virtual time: the swarm that the daemon drives, on a pretended network.

use std::{
    collections::BTreeMap,
    num::NonZero,
    path::PathBuf,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use shoal_simulator::{
    Outcome,
    catalog::{self, Entry},
};

mod baselines;
mod explore;
mod plot;

/// The arguments of `shoal-bench simulate`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Name the scenarios
    #[arg(long, conflicts_with_all = ["scenario", "all", "baselines"])]
    list: bool,

    /// Run this one
    #[arg(long, value_name = "NAME", required_unless_present_any = ["list", "all", "baselines", "explore"])]
    scenario: Option<String>,

    /// Run all of them but those that take long
    #[arg(long, conflicts_with = "scenario")]
    all: bool,

    /// Run a flash crowd of 512 nodes and 1,024 pieces, and what others do on the same network beside it
    #[arg(long, conflicts_with_all = ["scenario", "all"])]
    baselines: bool,

    /// Run random scenarios for so long instead; what breaks is made small and kept
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["list", "scenario", "all", "baselines", "json"])]
    explore: Option<f64>,

    /// Where to keep it
    #[arg(long, value_name = "DIR", requires = "explore", default_value = "crates/simulator/seeds")]
    keep: PathBuf,

    /// So many nodes instead of the scenario's; its gate is still applied
    #[arg(long, value_name = "N", conflicts_with_all = ["list", "all"])]
    nodes: Option<u32>,

    /// So many pieces instead of the scenario's
    #[arg(long, value_name = "K", conflicts_with_all = ["list", "all"])]
    pieces: Option<u32>,

    /// Other chances; of the first one, when exploring
    #[arg(long, value_name = "X")]
    seed: Option<u64>,

    /// With --all: leave this one out; may be given several times
    #[arg(long, value_name = "NAME", requires = "all")]
    skip: Vec<String>,

    /// With --all: so many side by side, instead of one for each core
    #[arg(long, value_name = "N", requires = "all")]
    jobs: Option<NonZero<usize>>,

    /// Print one JSON object, or with --all an array, and nothing else, on standard output
    #[arg(long)]
    json: bool,

    /// Draw the nodes that are complete and the copies of a piece over time
    #[arg(long, value_name = "FILE.svg", requires = "scenario")]
    plot: Option<PathBuf>,
}

/// One run, as JSON has it.
#[derive(Serialize)]
struct Report {
    scenario: &'static str,
    pass: bool,
    misses: Vec<String>,
    #[serde(flatten)]
    outcome: Outcome,
    wall_seconds: f64,
}

/// Runs what is asked for.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.list {
        for entry in catalog::entries().into_iter().chain(catalog::long_entries()) {
            println!("{:<20} {}", entry.name, entry.about);
        }
        return Ok(());
    }
    if args.baselines {
        return baselines::run(args);
    }
    if let Some(minutes) = args.explore {
        return explore::run(minutes, args.seed.unwrap_or(1), &args.keep);
    }
    let entries = match &args.scenario {
        Some(name) => vec![catalog::find(name).with_context(|| {
            format!("there is no scenario \"{name}\": `shoal-bench simulate --list` names those that there are")
        })?],
        None => table(&args.skip)?,
    };
    if !args.json {
        println!(
            "{:<20} {:>7} {:>7} {:>7} {:>8} {:>8} {:>9} {:>7}",
            "scenario", "ratio", "median", "origin", "control", "lag", "events", "wall"
        );
    }
    let reports = run_each(&entries, args)?;
    if args.json && args.all {
        println!("{}", serde_json::to_string(&reports)?);
    } else if let (true, Some(report)) = (args.json, reports.first()) {
        println!("{}", serde_json::to_string(report)?);
    }
    let missed = reports.iter().filter(|report| !report.pass).count();
    ensure!(missed == 0, "{missed} of {} scenarios miss their gates", reports.len());
    Ok(())
}

/// All of them but those.
fn table(skip: &[String]) -> anyhow::Result<Vec<Entry>> {
    let mut entries = catalog::entries();
    for name in skip {
        let at = entries.iter().position(|entry| entry.name == name);
        entries.remove(at.with_context(|| format!("--skip {name}: there is no such scenario"))?);
    }
    Ok(entries)
}

/// Runs them side by side, and shows each as soon as those before it have been shown.
fn run_each(entries: &[Entry], args: &Args) -> anyhow::Result<Vec<Report>> {
    let cores = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let jobs = args.jobs.unwrap_or(cores).get().min(entries.len());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (done, reports) = mpsc::channel();
        for _ in 0..jobs {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(entry) = entries.get(index) else { return };
                    if done.send((index, run_one(entry.clone(), args))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let (mut early, mut shown) = (BTreeMap::new(), Vec::new());
        for (index, report) in reports {
            early.insert(index, report?);
            while let Some(report) = early.remove(&shown.len()) {
                if !args.json {
                    show(&report);
                }
                shown.push(report);
            }
        }
        Ok(shown)
    })
}

fn run_one(mut entry: Entry, args: &Args) -> anyhow::Result<Report> {
    let scenario = &mut entry.scenario;
    scenario.nodes = args.nodes.unwrap_or(scenario.nodes);
    scenario.pieces = args.pieces.unwrap_or(scenario.pieces);
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    if let Err(wrong) = scenario.check() {
        bail!("{} cannot be run: {wrong}", entry.name);
    }
    let began = Instant::now();
    let outcome = shoal_simulator::run(scenario);
    let wall_seconds = began.elapsed().as_secs_f64();
    if let Some(broken) = &outcome.broken {
        eprintln!("{}: {broken}", entry.name);
    }
    if let Some(file) = &args.plot {
        std::fs::write(file, plot::draw(entry.name, &outcome))
            .with_context(|| format!("the plot could not be written to {}", file.display()))?;
    }
    let misses = entry.gate.misses(&outcome);
    Ok(Report { scenario: entry.name, pass: misses.is_empty(), misses, outcome, wall_seconds })
}

fn show(report: &Report) {
    let Report { scenario, outcome, misses, wall_seconds, .. } = report;
    let verdict = if misses.is_empty() { "pass".to_owned() } else { format!("MISSED: {}", misses.join("; ")) };
    println!(
        "{scenario:<20} {:>7.3} {:>7.3} {:>7.3} {:>7.3}% {:>8} {:>9} {wall_seconds:>5.1} s  {verdict}",
        outcome.ratio_max,
        outcome.ratio_median,
        outcome.origin_bytes_ratio,
        outcome.control_ratio * 100.0,
        outcome.reader_lag_p50,
        outcome.events,
    );
}
