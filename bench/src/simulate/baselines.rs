//! What others do, beside Shoal: the same crowd on the same network.

use anyhow::{anyhow, ensure};
use serde::Serialize;
use shoal_simulator::{
    Scenario,
    baseline::{self, Kind},
};

use super::Args;

/// All runs, as JSON has them.
#[derive(Serialize)]
struct Report {
    nodes: u32,
    pieces: u32,
    piece_bytes: u64,
    seed: u64,
    bound_seconds: f64,
    runs: Vec<Row>,
}

/// One of them.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    about: &'static str,
    seconds_max: f64,
    seconds_median: f64,
    ratio_max: f64,
    ratio_median: f64,
    origin_bytes_ratio: f64,
}

/// Runs all, and shows them in the order of their times.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut scenario = Scenario::flash(args.nodes.unwrap_or(512), args.pieces.unwrap_or(1024));
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    baseline::check(&scenario).map_err(|wrong| anyhow!("the comparison cannot be run: {wrong}"))?;
    let shoal = shoal_simulator::run(&scenario);
    if let Some(broken) = &shoal.broken {
        eprintln!("shoal: {broken}");
    }
    ensure!(shoal.broken.is_none(), "Shoal's own run has not come to its end");
    let bound_seconds = shoal.bound_seconds;
    let mut runs: Vec<Row> = Kind::ALL.into_iter().map(|kind| other(kind, &scenario)).collect();
    runs.push(Row {
        name: "shoal",
        about: "Shoal, with all that its nodes have to say to each other",
        seconds_max: shoal.ratio_max * bound_seconds,
        seconds_median: shoal.ratio_median * bound_seconds,
        ratio_max: shoal.ratio_max,
        ratio_median: shoal.ratio_median,
        origin_bytes_ratio: shoal.origin_bytes_ratio,
    });
    runs.sort_by(|one, other| other.seconds_max.total_cmp(&one.seconds_max));
    let Scenario { nodes, pieces, seed, .. } = scenario;
    let report = Report { nodes, pieces, piece_bytes: scenario.piece_bytes(), seed, bound_seconds, runs };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        show(&report);
    }
    Ok(())
}

fn other(kind: Kind, scenario: &Scenario) -> Row {
    let run = baseline::run(kind, scenario);
    Row {
        name: kind.name(),
        about: kind.about(),
        seconds_max: run.seconds_max,
        seconds_median: run.seconds_median,
        ratio_max: run.ratio_max,
        ratio_median: run.ratio_median,
        origin_bytes_ratio: run.origin_bytes_ratio,
    }
}

fn show(report: &Report) {
    let Report { nodes, pieces, piece_bytes, bound_seconds, .. } = report;
    println!("{nodes} nodes, {pieces} pieces of {} MiB; no protocol can beat {bound_seconds:.1} s", piece_bytes >> 20);
    println!();
    println!("{:<9} {:>9} {:>9} {:>8} {:>8} {:>8}", "", "slowest", "median", "ratio", "median", "origin");
    for row in &report.runs {
        println!(
            "{:<9} {:>7.1} s {:>7.1} s {:>8.3} {:>8.3} {:>8.2}  {}",
            row.name,
            row.seconds_max,
            row.seconds_median,
            row.ratio_max,
            row.ratio_median,
            row.origin_bytes_ratio,
            row.about
        );
    }
}
