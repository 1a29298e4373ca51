//! What a soak came to.

use std::fmt;

use anyhow::bail;
use bytesize::ByteSize;
use serde::Serialize;

use super::{
    Args,
    audit::Seen,
    clients::Pulled,
    storm::{SPARED, Stormed},
};

/// What was done, and what was found after it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    seed: u64,
    minutes: f64,
    nodes: u16,
    blobs: u16,
    stormed: Stormed,
    pulled: Pulled,
    origin_bytes: u64,
    before: Vec<Seen>,
    after: Vec<Seen>,
    /// What is not as it has to be.
    wrong: Vec<String>,
}

impl Report {
    pub(super) const fn new(
        args: &Args,
        stormed: Stormed,
        pulled: Pulled,
        origin_bytes: u64,
        before: Vec<Seen>,
        after: Vec<Seen>,
        wrong: Vec<String>,
    ) -> Self {
        let Args { seed, minutes, nodes, blobs, .. } = *args;
        Self { seed, minutes, nodes, blobs, stormed, pulled, origin_bytes, before, after, wrong }
    }

    /// # Errors
    /// When anything was wrong or left; the message has all of it.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.wrong.is_empty() {
            return Ok(());
        }
        bail!("the soak of seed {} left something:\n{}", self.seed, self.wrong.join("\n"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, minutes, nodes, blobs, stormed, pulled, .. } = self;
        writeln!(f, "A soak of {minutes} min with seed {seed}: {nodes} nodes, {blobs} blobs")?;
        let Stormed { killed, ended, stopped, cut } = stormed;
        writeln!(f, "daemons killed {killed} times, ended {ended}, stopped {stopped}; ways cut {cut} times")?;
        let Pulled { whole, parts, given_up, bytes, broken, errors } = pulled;
        let (bytes, sent) = (shown(*bytes), shown(self.origin_bytes));
        writeln!(
            f,
            "{whole} blobs and {parts} parts were read, {bytes}, each byte compared; {given_up} were given up"
        )?;
        writeln!(f, "{broken} bodies ended early, {errors} errors were answered; the origin sent {sent}\n")?;
        write!(f, "{:<9}{:>13}{:>13}{:>13}", "node", "descriptors", "tasks", "threads")?;
        writeln!(f, "{:>12}{:>12}{:>12}", "memory", "peak", "capacity")?;
        for (node, (before, after)) in self.before.iter().zip(&self.after).enumerate() {
            let grown = |before: u64, after: u64| format!("{before} > {after}");
            let name = if node < SPARED { format!("node-{node} *") } else { format!("node-{node}") };
            write!(f, "{name:<9}{:>13}", grown(before.descriptors, after.descriptors))?;
            write!(f, "{:>13}{:>13}", grown(before.tasks, after.tasks), grown(before.threads, after.threads))?;
            let used = format!("{:.0} %", after.used as f64 * 100.0 / after.capacity as f64);
            writeln!(f, "{:>12}{:>12}{used:>12}", shown(after.resident), shown(after.peak_resident))?;
        }
        writeln!(f, "* never killed; before > after")
    }
}

fn shown(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}
