//! What several fan-outs came to.

use std::fmt;

use anyhow::Context;
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use shoal_blob::Layout;
use shoal_simulator::bound::{Bound, Fleet};

use super::{
    plot,
    trial::{Bench, Mode, Trial},
};
use crate::median::median;

/// All trials of one network, and the bound that they are divided by.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    nodes: usize,
    bytes: u64,
    layers: usize,
    pieces: u32,
    piece_bytes: u32,
    rate: String,
    origin_rate: String,
    zones: usize,
    origin: &'static str,
    /// What the origin's interface counts.
    offload: String,
    bound: Bound,
    modes: Vec<Summary>,
    trials: Vec<Trial>,
}

/// The medians of one mode's trials; the highest of all for what has a limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) mode: Mode,
    pub(crate) trials: usize,
    pub(crate) last: f64,
    pub(crate) median: f64,
    pub(crate) first: f64,
    /// The last node's time by the bound for whole pieces.
    pub(crate) ratio: f64,
    pub(crate) origin_log: f64,
    pub(crate) origin_wire: f64,
    /// Bytes that came to the nodes' links, by the layers' own.
    pub(crate) wire: f64,
    /// Body bytes that came more than once, by those that were wanted.
    pub(crate) duplicates: f64,
    /// The daemons' seconds of CPU for each GiB that a client got.
    pub(crate) cpu_a_gibibyte: f64,
    pub(crate) peak_resident: u64,
    pub(crate) first_byte: f64,
    pub(crate) lost_packets: u64,
    /// The least of all trials.
    pub(crate) idle: f64,
}

/// Less idle time than this, and the processors were measured, not the links.
const LEAST_IDLE: f64 = 0.1;

impl Outcome {
    pub(super) fn of(bench: &Bench<'_>, trials: Vec<Trial>) -> anyhow::Result<Self> {
        let (plan, layers) = (&bench.lab.plan, bench.layers);
        let layouts = layers.blobs.iter().map(|blob| Layout::new(blob.len())).collect::<Result<Vec<_>, _>>()?;
        let piece_bytes = layouts.first().context("there is no layer")?.piece_bytes();
        let pieces = layouts.iter().map(Layout::count).sum();
        let rate = plan.rate.bytes_a_second();
        let fleet = Fleet {
            nodes: plan.nodes as u32,
            up: rate,
            slowest_down: rate,
            sum_up: rate * plan.nodes as f64,
            read: plan.origin_rate.bytes_a_second().min(rate),
        };
        let bound = fleet.bound(pieces, u64::from(piece_bytes));
        let mut modes: Vec<Mode> = Vec::new();
        trials.iter().for_each(|trial| {
            if !modes.contains(&trial.mode) {
                modes.push(trial.mode);
            }
        });
        let late = bench.stagger.as_secs_f64() * plan.nodes.saturating_sub(1) as f64;
        let summary = |&mode: &Mode| {
            let trials: Vec<&Trial> = trials.iter().filter(|trial| trial.mode == mode).collect();
            Summary::of(mode, &trials, layers.bytes, bound.whole_pieces.max(late + layers.bytes as f64 / rate))
        };
        Ok(Self {
            nodes: plan.nodes,
            bytes: layers.bytes,
            layers: layouts.len(),
            pieces,
            piece_bytes,
            rate: plan.rate.to_string(),
            origin_rate: plan.origin_rate.to_string(),
            zones: plan.zones,
            origin: layers.server(),
            offload: bench.lab.offload()?,
            bound,
            modes: modes.iter().map(summary).collect(),
            trials,
        })
    }

    /// The last trial of the first mode as an SVG image.
    pub(super) fn plot(&self) -> Option<String> {
        let mode = self.modes.first()?.mode;
        let trial = self.trials.iter().rev().find(|trial| trial.mode == mode)?;
        Some(plot::draw(trial, self.bytes, self.bound.whole_pieces))
    }
}

impl Summary {
    /// Whether the processors were measured rather than the links.
    pub(crate) fn is_marked(&self) -> bool {
        self.idle < LEAST_IDLE
    }

    fn of(mode: Mode, trials: &[&Trial], bytes: u64, bound: f64) -> Self {
        let each = |figure: &dyn Fn(&Trial) -> f64| median(trials.iter().map(|trial| figure(trial)).collect());
        let highest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        let all = |trial: &Trial| bytes as f64 * trial.nodes.len() as f64;
        let last = each(&|trial| highest(&trial.seconds));
        let came =
            |trial: &Trial| trial.nodes.iter().map(|node| node.from_origin + node.from_peers).sum::<u64>() as f64;
        let gibibytes = |trial: &Trial| all(trial) / f64::from(1 << 30);
        Self {
            mode,
            trials: trials.len(),
            last,
            median: each(&|trial| median(trial.seconds.clone())),
            first: each(&|trial| trial.seconds.iter().copied().fold(f64::INFINITY, f64::min)),
            ratio: last / bound,
            origin_log: each(&|trial| trial.origin_log_bytes as f64 / bytes as f64),
            origin_wire: each(&|trial| trial.origin_wire_bytes as f64 / bytes as f64),
            wire: each(&|trial| trial.nodes.iter().map(|node| node.wire_down).sum::<u64>() as f64 / all(trial)),
            duplicates: each(&|trial| (came(trial) / all(trial) - 1.0).max(0.0)),
            cpu_a_gibibyte: each(&|trial| {
                trial.nodes.iter().map(|node| node.cpu_seconds).sum::<f64>() / gibibytes(trial)
            }),
            peak_resident: trials
                .iter()
                .flat_map(|trial| &trial.nodes)
                .map(|node| node.peak_resident)
                .max()
                .unwrap_or(0),
            first_byte: each(&|trial| highest(&trial.first_byte)),
            lost_packets: each(&|trial| trial.lost_packets as f64) as u64,
            idle: trials.iter().map(|trial| trial.idle).fold(1.0, f64::min),
        }
    }
}

impl Mode {
    /// What did it, for people.
    pub(crate) const fn who(self) -> &'static str {
        match self {
            Self::Shoal => "Shoal",
            Self::Direct => "each from the origin",
            Self::Bittorrent => "libtorrent",
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Shoal => "shoal",
            Self::Direct => "direct",
            Self::Bittorrent => "torrent",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, pieces, rate, origin_rate, .. } = self;
        let (bytes, piece) = (shown(self.bytes), shown(self.piece_bytes.into()));
        writeln!(
            f,
            "{nodes} nodes pull {bytes} ({pieces} pieces of {piece}); links of {rate}, the origin's {origin_rate}"
        )?;
        writeln!(f, "origin: {}; {}", self.origin, self.offload)?;
        let Bound { whole_pieces, fluid } = self.bound;
        writeln!(
            f,
            "no protocol can do it in less than {fluid:.2} s, with whole pieces in less than {whole_pieces:.2} s\n"
        )?;
        write!(f, "{:<8}{:>9}{:>9}{:>9}{:>9}{:>12}", "mode", "last", "median", "first", "/ bound", "first byte")?;
        write!(f, "{:>8}{:>8}{:>7}{:>7}", "origin", "wire", "twice", "lost")?;
        writeln!(f, "{:>11}{:>12}{:>6}", "cpu s/GiB", "memory", "idle")?;
        for mode in &self.modes {
            write!(f, "{:<8}{:>7.2} s{:>7.2} s", mode.mode.name(), mode.last, mode.median)?;
            write!(f, "{:>7.2} s{:>9.3}{:>9.0} ms", mode.first, mode.ratio, mode.first_byte * 1e3)?;
            write!(f, "{:>8.3}{:>8.3}", mode.origin_log, mode.wire)?;
            write!(f, "{:>5.2} %{:>7}{:>11.2}", mode.duplicates * 100.0, mode.lost_packets, mode.cpu_a_gibibyte)?;
            let mark = if mode.is_marked() { " !" } else { "" };
            writeln!(f, "{:>12}{:>4.0} %{mark}", shown(mode.peak_resident), mode.idle * 100.0)?;
        }
        if self.modes.iter().any(Summary::is_marked) {
            writeln!(f, "\n! less than a tenth of the processors' time was idle: they were measured, not the links")?;
        }
        Ok(())
    }
}

fn shown(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}
