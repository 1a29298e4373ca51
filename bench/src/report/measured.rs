//! One fan-out, run by this program as a user would, and what it said.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;
use tokio::process::Command;

use super::Args;
use crate::fanout::Summary;

/// What is to be run; rates in Mbit/s.
#[derive(Debug)]
pub(super) struct Fanout {
    pub(super) nodes: u16,
    pub(super) rate: u32,
    pub(super) origin_rate: u32,
    pub(super) plot: Option<PathBuf>,
}

/// What `shoal-bench fanout --json` says, as far as the report tells it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Measured {
    pub(super) nodes: usize,
    pub(super) bytes: u64,
    pub(super) rate: String,
    pub(super) origin_rate: String,
    pub(super) origin: String,
    pub(super) bound: Bound,
    pub(super) modes: Vec<Summary>,
}

/// What no protocol can beat, in seconds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Bound {
    pub(super) whole_pieces: f64,
    pub(super) fluid: f64,
}

impl Fanout {
    /// Runs it in a process of its own: it enters a network that this one is to stay out of.
    pub(super) async fn run(&self, args: &Args) -> anyhow::Result<Measured> {
        let program = std::env::current_exe().context("find this program")?;
        let Self { nodes, rate, origin_rate, plot } = self;
        let mut command = Command::new(program);
        command
            .args(["fanout", "--json", "--mode", if args.bittorrent { "shoal,bittorrent" } else { "shoal" }])
            .args(["--nodes", &nodes.to_string(), "--size", &args.size.0.to_string()])
            .args(["--rate", &format!("{rate}mbit"), "--origin-rate", &format!("{origin_rate}mbit")])
            .args(["--repeat", &args.repeat.to_string()])
            .arg("--dir")
            .arg(&args.tools.dir);
        for (name, path) in [("--plot", plot), ("--shoal", &args.tools.shoal)] {
            if let Some(path) = path {
                command.arg(name).arg(path);
            }
        }
        let said = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().await;
        let said = said.context("run this program")?;
        ensure!(said.status.success(), "a fan-out of {nodes} nodes failed: {}", said.status);
        serde_json::from_slice(&said.stdout).context("read what a fan-out came to")
    }
}
