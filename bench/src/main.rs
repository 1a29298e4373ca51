//! `shoal-bench`: measurements of Shoal on this machine.
//!
//! * `fanout`: real daemons on real, shaped links, beside what else one could do;
//! * `faults`: what one bad peer costs the others, and what a cluster does that is cut in two;
//! * `report`: such fan-outs of several sizes, as the page in `docs/` shows them;
//! * `simulate`: whole fleets in virtual time, and how near they come to what no protocol can beat;
//! * `limits`: a fetch, the mirror, the verifier and a cold pull beside the raw parts that they are made of;
//! * `load`: many clients that read ranges of stored layers, from the mirror and from nginx;
//! * `memory`: real daemons pull and serve a very large layer; the most memory that each has had is held against a limit;
//! * `soak`: random pulls while daemons are killed and links are cut, and what is left of it;
//! * `verify`: what it costs to check pieces against their chain, beside the hash function alone.

mod blob_file;
mod cpu;
mod fanout;
mod faults;
mod lab;
mod limits;
mod load;
mod median;
mod memory;
mod program;
mod report;
mod simulate;
mod soak;
mod verify;
mod web_server;
mod workshop;

use std::{fmt::Display, process::ExitCode};

use clap::{Parser, Subcommand};
use serde::Serialize;

/// Measurements of Shoal on this machine.
#[derive(Debug, Parser)]
#[command(name = "shoal-bench", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every node of a network of shaped links pulls the same layers at the same moment (root, Linux)
    Fanout(fanout::Args),
    #[command(hide = true)]
    FanoutOrigin(fanout::OriginArgs),
    #[command(hide = true)]
    FanoutReader(fanout::ReaderArgs),
    /// What one bad peer costs the others, and a cluster that is cut in two; fails when a promise is missed (root, Linux)
    Faults(faults::Args),
    #[command(hide = true)]
    BadPeer(faults::BadPeerArgs),
    /// What Shoal costs beside the raw parts that it is made of, as ratios, each against its goal
    Limits(limits::Args),
    /// Many clients that read ranges of stored layers, beside nginx; fails when a single answer is wrong
    Load(load::Args),
    /// The most resident memory of daemons that pull and serve a large layer; fails when it is over the limit
    Memory(memory::Args),
    /// Fan-outs of 1 to 16 nodes, written into `docs/benchmarks.md` (root, Linux)
    Report(report::Args),
    /// Whole fleets in virtual time, held against the bound; fails when a gate is missed
    Simulate(simulate::Args),
    /// Random pulls while daemons are killed and links are cut; fails when a byte is wrong or anything is left (root, Linux)
    Soak(soak::Args),
    /// The speed of checking pieces against their chain, as a ratio to SHA-256 alone
    Verify(verify::Args),
    /// One end of a raw QUIC connection, for `limits`
    #[command(subcommand, hide = true)]
    RawQuic(limits::End),
    /// A plain file server, for `limits`
    #[command(hide = true)]
    ServeFile(web_server::Plain),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Fanout(args) => fanout::run(&args).and_then(|outcome| show(&outcome, args.json)),
        Command::FanoutOrigin(args) => fanout::serve_origin(&args),
        Command::FanoutReader(args) => fanout::read(&args),
        Command::Faults(args) => faults::run(&args).and_then(|report| {
            show(&report, args.json)?;
            report.check()
        }),
        Command::BadPeer(args) => faults::be_bad(&args),
        Command::Limits(args) => limits::run(&args).and_then(|report| {
            show(&report, args.json)?;
            if args.check { report.check() } else { Ok(()) }
        }),
        Command::Load(args) => load::run(&args).and_then(|report| show(&report, args.json)),
        Command::Memory(args) => memory::run(&args).and_then(|report| {
            show(&report, args.json)?;
            report.check()
        }),
        Command::Report(args) => report::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Soak(args) => soak::run(&args).and_then(|report| {
            show(&report, args.json)?;
            report.check()
        }),
        Command::Verify(args) => verify::run(&args).and_then(|report| show(&report, args.json)),
        Command::RawQuic(end) => limits::end_of_raw_quic(&end),
        Command::ServeFile(plain) => web_server::serve(&plain),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show<R: Serialize + Display>(report: &R, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}
