//! What others do, for comparison alone: the same crowd on the same network, without Shoal.
//!
//! Each is idealized to its own good: nothing goes wrong, nodes know at once what others have, and what they say to each
//! other takes neither bytes nor time. Only pieces take both. Node 0 is the seed, and reads the origin in order, as fast as
//! it can; pieces are passed on whole. Chance follows from the scenario's seed.

mod binomial;
mod crowd;
mod direct;
mod random;
mod tree;

use serde::Serialize;
use shoal_swarm::Time;

use crate::{Begin, Scenario, bound};
use crowd::Crowd;

/// A way to bring a blob to many nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Every node pulls the whole blob from the origin.
    Direct,
    /// A static tree, as in Dragonfly: up to three parents a node.
    Tree,
    /// Random pieces of random neighbours, as in Kraken.
    Random,
    /// The binomial pipeline, in rounds (Ganesan and Seshadri 2005).
    Binomial,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Run {
    /// What was run.
    pub kind: Kind,
    /// When the slowest node had the blob.
    pub seconds_max: f64,
    /// When half of them had.
    pub seconds_median: f64,
    /// The slowest node's time, as a multiple of `T_LB`.
    pub ratio_max: f64,
    /// The median's.
    pub ratio_median: f64,
    /// `T_LB`: what no protocol can beat that reads the blob once and passes on whole pieces.
    pub bound_seconds: f64,
    /// What the origin sent, in blobs.
    pub origin_bytes_ratio: f64,
    /// How many nodes have the blob: all of them, as nothing goes wrong.
    pub complete: u32,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Random, Self::Tree, Self::Binomial];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Tree => "tree",
            Self::Random => "random",
            Self::Binomial => "binomial",
        }
    }

    /// What it is about.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Direct => "every node pulls from the origin",
            Self::Tree => "a static tree with three parents a node, as in Dragonfly",
            Self::Random => "random pieces of ten neighbours, as in Kraken",
            Self::Binomial => "the binomial pipeline on a hypercube, in rounds",
        }
    }
}

/// Whether a baseline can be run on it: a crowd of equals that come together, in one zone, with no faults and no losses.
///
/// # Errors
/// What is wrong with it.
pub fn check(scenario: &Scenario) -> Result<(), String> {
    scenario.check()?;
    let plain = scenario.begin == Begin::Together
        && scenario.slow.is_none()
        && scenario.faults.is_empty()
        && scenario.refused == 0
        && scenario.readers_at.is_empty()
        && (scenario.zones, scenario.zone_rate) == (1, None)
        && (scenario.loss, scenario.reordered) == (0.0, 0.0);
    if plain { Ok(()) } else { Err("baselines are for a flash crowd of equals alone".to_owned()) }
}

/// Runs a baseline to its end.
///
/// # Panics
/// When the scenario does not pass [`check`].
#[must_use]
pub fn run(kind: Kind, scenario: &Scenario) -> Run {
    if let Err(wrong) = check(scenario) {
        panic!("{wrong}");
    }
    let mut crowd = Crowd::new(scenario);
    let (done, sent) = match kind {
        Kind::Direct => direct::times(scenario),
        Kind::Tree => crowd.run(&mut tree::Tree::new(scenario)),
        Kind::Random => crowd.run(&mut random::Mesh::new(scenario)),
        Kind::Binomial => crowd.run(&mut binomial::Pipeline::new(scenario)),
    };
    Run::of(kind, scenario, done, sent)
}

impl Run {
    /// `done`: when each node had the blob that has it; `sent`: what the origin sent, in bytes.
    fn of(kind: Kind, scenario: &Scenario, mut done: Vec<Time>, sent: u64) -> Self {
        let up = scenario.up as f64;
        let bound = bound::Fleet {
            nodes: scenario.nodes,
            up,
            slowest_down: scenario.down as f64,
            sum_up: up * f64::from(scenario.nodes),
            read: scenario.reading_rate() as f64,
        }
        .bound(scenario.pieces, scenario.piece_bytes())
        .whole_pieces;
        done.sort_unstable();
        let seconds = |at: Option<&Time>| at.map_or(0.0, |at| at.since(Time::ZERO).as_secs_f64());
        let (max, median) = (seconds(done.last()), seconds(done.get(done.len() / 2)));
        Self {
            kind,
            seconds_max: max,
            seconds_median: median,
            ratio_max: max / bound,
            ratio_median: median / bound,
            bound_seconds: bound,
            origin_bytes_ratio: sent as f64 / scenario.length() as f64,
            complete: done.len() as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_the_blob_and_nobody_beats_the_bound() {
        for (nodes, pieces) in [(1, 5), (2, 1), (3, 40), (7, 64), (32, 100), (100, 128)] {
            let scenario = Scenario::flash(nodes, pieces);
            for kind in Kind::ALL {
                let run = run(kind, &scenario);
                assert_eq!(run.complete, nodes, "{run:?}");
                assert!(run.ratio_max >= 1.0 - 1e-6, "{nodes} nodes, {pieces} pieces: {run:?}");
                assert!(run.seconds_median <= run.seconds_max);
                let blobs = if kind == Kind::Direct { f64::from(nodes) } else { 1.0 };
                assert!((run.origin_bytes_ratio - blobs).abs() < 1e-9, "{run:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let scenario = Scenario::flash(60, 64);
        for kind in Kind::ALL {
            assert_eq!(run(kind, &scenario), run(kind, &scenario));
        }
        let other = Scenario { seed: 2, ..scenario.clone() };
        assert_ne!(run(Kind::Random, &scenario).seconds_max, run(Kind::Random, &other).seconds_max);
    }

    #[test]
    fn a_pipeline_is_near_the_bound_and_the_origin_is_not() {
        let scenario = Scenario::flash(64, 256);
        assert!(run(Kind::Binomial, &scenario).ratio_max < 1.02);
        assert!(run(Kind::Direct, &scenario).ratio_max > 60.0);
    }

    #[test]
    #[should_panic(expected = "flash crowd")]
    fn only_a_crowd_of_equals_is_compared() {
        let _ = run(Kind::Tree, &Scenario { loss: 0.1, ..Scenario::flash(8, 8) });
    }
}
