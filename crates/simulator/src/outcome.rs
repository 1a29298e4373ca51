//! What came of a run.

use serde::Serialize;

use crate::{
    bound::{self, Bound},
    curve::Moment,
    fleet::Fleet,
    node::Node,
    scenario::Begin,
    watch::Broken,
};

/// What came of a run; times in seconds, ratios to the bound.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// How large a piece was.
    pub piece_bytes: u64,
    /// Bytes a second.
    pub up: u64,
    /// Bytes a second.
    pub down: u64,
    /// Bytes a second, as one seed could read them.
    pub origin_rate: u64,
    /// One way, in seconds.
    pub latency: f64,
    /// Nodes.
    pub nodes: u32,
    /// Pieces.
    pub pieces: u32,
    /// The seed of all chance.
    pub seed: u64,
    /// The slowest node of those that the scenario is about: late ones, by their own bound, where there are any; else all that
    /// are neither slow nor hit by a fault.
    pub ratio_max: f64,
    /// Their median.
    pub ratio_median: f64,
    /// The slowest of each class of nodes.
    pub classes: Classes,
    /// `T_LB`.
    pub bound_seconds: f64,
    /// `T_fluid`.
    pub fluid_seconds: f64,
    /// What the origin sent, in blobs.
    pub origin_bytes_ratio: f64,
    /// What the origin sent, in bytes.
    pub origin_bytes: u64,
    /// What left a zone, as a multiple of what must; 0 where there is one zone.
    pub cross_zone_ratio: f64,
    /// Control bytes as a part of the data.
    pub control_ratio: f64,
    /// Pieces that came twice, as a part of all.
    pub duplicate_ratio: f64,
    /// How far readers were behind the origin, in pieces: half of their moments, and all but one in a hundred.
    pub reader_lag_p50: u32,
    /// See there.
    pub reader_lag_p99: u32,
    /// The most neighbours that a node had at the end.
    pub neighbours_max: u32,
    /// Nodes that were told that they cannot have the blob.
    pub failed: u32,
    /// Requests for the length that the origin has seen.
    pub probes: u32,
    /// Seeds that died, or did nothing for so long that they may have been taken for dead.
    pub seed_deaths: u32,
    /// Events of the simulation.
    pub events: u64,
    /// The run, moment by moment.
    #[serde(skip)]
    pub moments: Vec<Moment>,
    /// What did not hold.
    #[serde(skip)]
    pub broken: Option<Broken>,
}

/// The slowest node of each class, where the class has any.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Classes {
    /// Not slow, where some are, and not late, where some are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<f64>,
    /// Hit by no fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub survivors: Option<f64>,
    /// Came later, each by its own bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<f64>,
    /// Slow from the start or from some moment on, each by its own bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<f64>,
}

impl Fleet<'_> {
    /// The bound of those nodes that are not slow: what is slow is not waited for.
    pub(crate) fn bound(&self) -> Bound {
        let sum_up = (0..self.scenario.nodes).map(|node| self.network.rates(node).0 as f64).sum();
        let holding = self.scenario.begin == Begin::Holding;
        let down = self.scenario.down as f64;
        let fleet = bound::Fleet {
            nodes: if holding { 1 } else { self.scenario.nodes },
            up: self.scenario.up as f64,
            slowest_down: down,
            sum_up,
            read: if holding { down } else { self.scenario.reading_rate() as f64 },
        };
        fleet.bound(self.layout.count(), self.layout.piece_bytes().into())
    }
}

impl Outcome {
    pub(crate) fn of(fleet: &Fleet<'_>) -> Self {
        let scenario = fleet.scenario;
        let bound = fleet.bound();
        let length = fleet.layout.length() as f64;
        let mut ratios = Vec::new();
        let mut classes = Classes::default();
        let raise = |class: &mut Option<f64>, ratio: f64| *class = Some(class.map_or(ratio, |most| most.max(ratio)));
        let any_slow = fleet.nodes.iter().any(|node| node.slow);
        let any_hit = fleet.nodes.iter().any(|node| node.hit);
        let any_late = fleet.nodes.iter().any(|node| node.late);
        for (node, index) in fleet.nodes.iter().zip(0..) {
            let (Some(asked), Some(done)) = (node.asked_at, node.done_at) else { continue };
            let took = done.since(asked).as_secs_f64();
            if node.slow {
                let own = bound.whole_pieces.max(length / fleet.network.rates(index).1 as f64);
                raise(&mut classes.slow, took / own);
            } else if node.hit {
            } else if node.late {
                // It needs its own downlink's time, and nobody has the blob before the bound.
                let rest = bound.whole_pieces - asked.since(fleet.begun).as_secs_f64();
                let own = (length / scenario.down as f64 + f64::from(fleet.layout.piece_bytes()) / scenario.up as f64)
                    .max(rest);
                raise(&mut classes.late, took / own);
                ratios.push(took / own);
            } else {
                let ratio = done.since(fleet.begun).as_secs_f64() / bound.whole_pieces;
                if !any_late {
                    ratios.push(ratio);
                }
                if any_slow || any_late {
                    raise(&mut classes.healthy, ratio);
                }
                if any_hit {
                    raise(&mut classes.survivors, ratio);
                }
            }
        }
        ratios.sort_by(f64::total_cmp);
        let (control, across) = fleet.network.totals();
        let moved: u64 = (0..scenario.nodes).map(|node| fleet.network.moved(node).1).sum();
        let pieces = (moved / u64::from(fleet.layout.piece_bytes())).max(1);
        Self {
            piece_bytes: scenario.piece_bytes(),
            up: scenario.up,
            down: scenario.down,
            origin_rate: scenario.reading_rate(),
            latency: scenario.latency_us as f64 / 1e6,
            nodes: scenario.nodes,
            pieces: scenario.pieces,
            seed: scenario.seed,
            ratio_max: ratios.last().copied().unwrap_or(0.0),
            ratio_median: ratios.get(ratios.len() / 2).copied().unwrap_or(0.0),
            classes,
            bound_seconds: bound.whole_pieces,
            fluid_seconds: bound.fluid,
            origin_bytes_ratio: fleet.origin.sent as f64 / length,
            origin_bytes: fleet.origin.sent,
            cross_zone_ratio: if scenario.zones > 1 {
                across as f64 / (length * f64::from(scenario.zones - 1))
            } else {
                0.0
            },
            control_ratio: control as f64 / (moved.max(1)) as f64,
            duplicate_ratio: fleet.curve.duplicates as f64 / pieces as f64,
            reader_lag_p50: fleet.curve.lag(50),
            reader_lag_p99: fleet.curve.lag(99),
            neighbours_max: fleet.nodes.iter().map(Node::neighbours).max().unwrap_or(0),
            failed: fleet.nodes.iter().filter(|node| node.failed).count() as u32,
            probes: fleet.origin.probes,
            seed_deaths: fleet.deaths[0],
            events: fleet.events,
            moments: fleet.curve.moments.clone(),
            broken: fleet.watch.broken().cloned(),
        }
    }
}
