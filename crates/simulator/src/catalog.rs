//! The named scenarios, and what each must show.

use crate::{Begin, Fault, Outcome, Scenario, Slow, What, When, Whom};

/// A named scenario with its gate.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// What is run.
    pub scenario: Scenario,
    /// What must come of it.
    pub gate: Gate,
}

/// What must come of a run, beside all invariants. Ratios are to the bound of whole pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    /// The slowest node of those that the scenario is about.
    pub ratio: Option<f64>,
    /// What the origin may send beyond the blob, in bytes.
    pub origin_extra: u64,
    /// Nothing at all of the origin.
    pub origin_untouched: bool,
    /// What crosses zones, as a multiple of what must.
    pub cross_zone: Option<f64>,
    /// The median lag of a reader, in pieces.
    pub lag: Option<u32>,
    /// Nodes that are told that they cannot have the blob.
    pub failed: u32,
    /// That only few of the nodes take the blob: what all say to each other is then no measure of what it costs to take it.
    pub few_take: bool,
}

/// Control bytes as a part of the data, at most, wherever pieces are of 1 MiB and all nodes take them.
pub const CONTROL: f64 = 0.001;
const ALLOWANCE: u64 = 64 << 20;

impl Gate {
    const fn ratio(ratio: f64) -> Self {
        Self { ratio: Some(ratio), ..Self::invariants() }
    }

    /// Nothing but what must hold in every run.
    const fn invariants() -> Self {
        Self {
            ratio: None,
            origin_extra: 0,
            origin_untouched: false,
            cross_zone: None,
            lag: None,
            failed: 0,
            few_take: false,
        }
    }

    /// What does not hold; nothing when all does.
    #[must_use]
    pub fn misses(&self, outcome: &Outcome) -> Vec<String> {
        let mut misses = Vec::new();
        let mut hold = |holds: bool, what: String| {
            if !holds {
                misses.push(what);
            }
        };
        if let Some(broken) = &outcome.broken {
            hold(false, broken.what.clone());
        }
        if let Some(most) = self.ratio {
            hold(outcome.ratio_max <= most, format!("ratio {:.3} > {most}", outcome.ratio_max));
        }
        let length = outcome.piece_bytes * u64::from(outcome.pieces);
        let most = if self.origin_untouched { 0 } else { length + self.origin_extra };
        hold(outcome.origin_bytes <= most, format!("the origin sent {} bytes > {most}", outcome.origin_bytes));
        if let Some(most) = self.cross_zone {
            hold(outcome.cross_zone_ratio <= most, format!("across zones {:.3} > {most}", outcome.cross_zone_ratio));
        }
        if let Some(most) = self.lag {
            hold(outcome.reader_lag_p50 <= most, format!("median lag {} > {most}", outcome.reader_lag_p50));
        }
        if outcome.piece_bytes == 1 << 20 && !self.few_take {
            hold(outcome.control_ratio <= CONTROL, format!("control {:.5} > {CONTROL}", outcome.control_ratio));
        }
        hold(outcome.failed == self.failed, format!("{} nodes failed, not {}", outcome.failed, self.failed));
        misses
    }
}

/// All of them, in the order of the table.
#[must_use]
pub fn entries() -> Vec<Entry> {
    let base = || Scenario::flash(512, 1024);
    let dies = |silent| What::Dies { silent, back: None };
    let fault = |when, whom, what| Fault { when, whom, what };
    let of = |name, about, scenario, gate| Entry { name, about, scenario, gate };
    let seed_dies = |percent| Scenario { faults: vec![fault(When::Read(percent), Whom::Seed, dies(false))], ..base() };
    let shared = |nodes, latency_us| Scenario { shared_links: true, latency_us, ..Scenario::flash(nodes, 1024) };
    let death = Gate { origin_extra: ALLOWANCE, ..Gate::ratio(1.15) };
    vec![
        of("flash-512", "512 nodes ask in the same moment", base(), Gate::ratio(1.05)),
        of("flash-4096", "4,096 nodes", Scenario::flash(4096, 1024), Gate::ratio(1.05)),
        of("flash-10000", "10,000 nodes, 512 pieces", Scenario::flash(10_000, 512), Gate::ratio(1.08)),
        of("flash-k256", "256 pieces", Scenario::flash(512, 256), Gate::ratio(1.12)),
        of(
            "crash-10pct",
            "one node in ten crashes at some moment",
            Scenario { faults: vec![fault(When::At(0), Whom::Percent(10, 43_000), dies(false))], ..base() },
            Gate { origin_extra: ALLOWANCE, ..Gate::ratio(1.06) },
        ),
        of(
            "half-speed-5pct",
            "one node in twenty has half the rate",
            Scenario { slow: Some(Slow { percent: 5, speed: 50, known: false }), ..base() },
            Gate::ratio(1.08),
        ),
        of(
            "tenth-speed-2pct",
            "one node in fifty has a tenth of the rate",
            Scenario { slow: Some(Slow { percent: 2, speed: 10, known: false }), ..base() },
            Gate::ratio(1.15),
        ),
        of(
            "capped-10pct",
            "one node in ten is limited to half the rate, and knows",
            Scenario { slow: Some(Slow { percent: 10, speed: 50, known: true }), ..base() },
            Gate::ratio(1.08),
        ),
        of(
            "zones-8",
            "eight zones, the origin at nine tenths of a node's rate",
            Scenario { zones: 8, zone_rate: Some(200_000_000), origin_rate: 22_500_000, ..base() },
            Gate { cross_zone: Some(1.02), ..Gate::ratio(1.10) },
        ),
        of("links-8", "8 nodes whose pieces share the links", shared(8, 500), Gate::ratio(1.03)),
        of("links-16", "16 nodes whose pieces share the links", shared(16, 500), Gate::ratio(1.03)),
        of("queues-8", "8 such nodes, with full queues before all links", shared(8, 50_000), Gate::ratio(1.05)),
        of("seed-dies-30", "the seed's process dies at 30 %", seed_dies(30), death),
        of("seed-dies-60", "the seed's process dies at 60 %", seed_dies(60), death),
        of("seed-dies-90", "the seed's process dies at 90 %", seed_dies(90), death),
        of(
            "seed-dies-16mib",
            "the seed dies at 60 % of a blob in pieces of 16 MiB",
            Scenario { pieces: 2048, large_pieces: true, ..seed_dies(60) },
            death,
        ),
        of(
            "coordinator-dies",
            "the coordinator's process dies at 50 %",
            Scenario { faults: vec![fault(When::Read(50), Whom::Coordinator, dies(false))], ..base() },
            Gate::ratio(1.10),
        ),
        of(
            "late-joins",
            "half of the nodes come at some moment of the transfer",
            Scenario { begin: Begin::Late { percent: 50, within: 43_000 }, ..base() },
            Gate::ratio(1.15),
        ),
        of(
            "readers-in-order",
            "how far readers are behind the origin",
            base(),
            Gate { lag: Some(64), ..Gate::ratio(1.05) },
        ),
        of(
            "cold-start",
            "all nodes start, know nobody, and ask at once",
            Scenario { begin: Begin::Cold, ..base() },
            Gate { origin_extra: ALLOWANCE, ..Gate::invariants() },
        ),
        of(
            "restart-with-blob",
            "all have just started again with the blob, one without asks",
            Scenario { begin: Begin::Holding, ..base() },
            Gate { origin_untouched: true, few_take: true, ..Gate::invariants() },
        ),
        of(
            "origin-refuses-two",
            "the first two that ask the origin are answered 401",
            Scenario { refused: 2, ..base() },
            Gate { failed: 2, ..Gate::ratio(1.20) },
        ),
        of(
            "half-way-reader",
            "two nodes, of which one reads from the middle",
            Scenario { readers_at: vec![(1, 50)], ..Scenario::flash(2, 1024) },
            Gate::invariants(),
        ),
    ]
}

/// Those that take too long for the table, and are run by their names alone.
#[must_use]
pub fn long_entries() -> Vec<Entry> {
    const RATE: u64 = 1_250_000_000;
    let one_tb = Scenario { up: RATE, down: RATE, origin_rate: RATE, ..Scenario::flash(200, 65_536) };
    vec![Entry {
        name: "one-tb",
        about: "200 nodes of 10 Gbit/s, 1 TiB in pieces of 16 MiB; takes long",
        scenario: one_tb,
        gate: Gate::ratio(1.05),
    }]
}

/// The scenario of that name.
#[must_use]
pub fn find(name: &str) -> Option<Entry> {
    entries().into_iter().chain(long_entries()).find(|entry| entry.name == name)
}
