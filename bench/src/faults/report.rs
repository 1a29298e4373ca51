//! What the faults came to.

use std::fmt;

use anyhow::ensure;
use bytesize::ByteSize;
use serde::Serialize;

use super::{Args, case::Case, parted::Parted, trial::Trial};

/// The most that the nodes that are well may take, by what they take without the bad one.
const MOST: f64 = 1.2;

/// All that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    nodes: u16,
    bytes: u64,
    rate: String,
    /// The seconds of the last node where none is bad.
    pub(super) without: Option<f64>,
    pub(super) bad: Vec<Bad>,
    pub(super) parted: Option<Parted>,
}

/// A pull beside a bad node.
#[derive(Debug, Serialize)]
pub(super) struct Bad {
    pub(super) case: Case,
    /// What it took, by what it takes without.
    pub(super) ratio: f64,
    pub(super) trial: Trial,
}

impl Report {
    pub(super) fn new(args: &Args, bytes: u64) -> Self {
        let rate = args.rate.to_string();
        Self { nodes: args.nodes, bytes, rate, without: None, bad: Vec::new(), parted: None }
    }

    /// # Errors
    /// When a bad node costs the others more than a fifth, or was none, or when the origin sent more than it should.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        for Bad { case, ratio, trial } in &self.bad {
            let what = case.what();
            ensure!(*ratio <= MOST, "a peer that {what}: the others took {ratio:.3} times as long; {MOST} is allowed");
            ensure!(
                trial.origin_bytes == self.bytes,
                "a peer that {what}: the origin sent {} of {} bytes",
                trial.origin_bytes,
                self.bytes
            );
            if let Some(met) = trial.met {
                ensure!(met.offered > 0, "the peer that {what} was sent nothing: nobody met it");
                ensure!(*case != Case::Mute || met.asked > 0, "the peer that {what} was asked for nothing");
            }
        }
        self.parted.as_ref().map_or(Ok(()), Parted::check)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = ByteSize(self.bytes).display().iec();
        writeln!(f, "{} nodes pull {bytes}; links of {}\n", self.nodes, self.rate)?;
        if let Some(without) = self.without {
            writeln!(
                f,
                "{:<24}{:>10}{:>8}{:>9}{:>10}{:>9}",
                "one peer", "last", "ratio", "origin", "sent it", "asked"
            )?;
            writeln!(f, "{:<24}{without:>8.2} s", "is not there")?;
        }
        for Bad { case, ratio, trial } in &self.bad {
            let origin = trial.origin_bytes as f64 / self.bytes as f64;
            write!(f, "{:<24}{:>8.2} s{ratio:>8.3}{origin:>9.3}", case.what(), trial.seconds)?;
            match trial.met {
                Some(met) => writeln!(f, "{:>10}{:>9}", met.offered, met.asked)?,
                None => writeln!(f)?,
            }
        }
        let Some(parted) = &self.parted else { return Ok(()) };
        let Parted { rate, seconds, origin, leases_parted, settled, origin_at_healing } = parted;
        writeln!(f, "\ncut in two for 20 s, links of {rate}: all had it after {seconds:.1} s")?;
        writeln!(
            f,
            "the origin sent {origin:.3} layers, {origin_at_healing:.3} of them before the halves came together"
        )?;
        writeln!(f, "{leases_parted} leases while they were apart; one again {settled:.1} s after")
    }
}
