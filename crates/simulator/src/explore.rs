//! Search for trouble: small fleets with random troubles, and what broke made as small as it can be.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use serde::{Deserialize, Serialize};

use crate::{Begin, Fault, Scenario, Slow, What, When, Whom, run};

/// Shrinking stops after so many runs: what is left is small enough to be read.
const MOST_RUNS: u32 = 600;
/// Fleets of so many nodes at most may share links: to reckon that is dear.
const SHARED: u32 = 16;

/// A scenario that broke something, as it is kept in a file and replayed ever after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// What did not hold when it was found.
    pub broke: String,
    /// What shows it.
    pub scenario: Scenario,
}

/// Runs a scenario; what did not hold, if anything, with the last events before it. A panic counts.
#[must_use]
pub fn trouble(scenario: &Scenario) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| run(scenario))) {
        Ok(outcome) => outcome.broken.map(|broken| broken.to_string()),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
            Some(format!("panic: {said}"))
        }
    }
}

/// Runs one random scenario; what is found is made small.
#[must_use]
pub fn explore(seed: u64) -> Option<Found> {
    let scenario = random_scenario(seed);
    trouble(&scenario)?;
    let scenario = shrink(scenario);
    let broke = trouble(&scenario)?.lines().next().unwrap_or_default().to_owned();
    Some(Found { broke, scenario })
}

/// A small fleet with random rates, links, beginnings and faults: always the same for the same seed, and one that
/// [`Scenario::check`] lets pass. Each is one in which every node that lives can have the blob in the end.
#[must_use]
pub fn random_scenario(seed: u64) -> Scenario {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let chance = |rng: &mut Xoshiro256PlusPlus, percent: u32| rng.random_range(0..100) < percent;
    let nodes = rng.random_range(2..=40);
    let pieces = rng.random_range(8..=160);
    let up = rng.random_range(2_000_000..=100_000_000);
    let down = if chance(&mut rng, 70) { up } else { up * rng.random_range(50..=300) / 100 };
    let origin_rate = up * [25, 50, 100, 100, 150, 400][rng.random_range(0..6)] / 100;
    let mut scenario = Scenario {
        seed,
        up,
        down,
        origin_rate,
        latency_us: [100, 500, 2_000, 20_000][rng.random_range(0..4)],
        jitter_us: [0, 100, 1_000, 20_000][rng.random_range(0..4)],
        ..Scenario::flash(nodes, pieces)
    };
    if chance(&mut rng, 20) {
        scenario.origin_per_connection = Some((origin_rate / rng.random_range(2..=6), rng.random_range(1..=4)));
    }
    if chance(&mut rng, 30) {
        scenario.loss = f64::from(rng.random_range(1..=10)) / 100.0;
    }
    if chance(&mut rng, 30) {
        scenario.reordered = f64::from(rng.random_range(1..=30)) / 100.0;
    }
    if chance(&mut rng, 25) {
        scenario.zones = rng.random_range(1..=4.min(nodes as u16));
        let rate = up * u64::from(nodes) / u64::from(scenario.zones);
        scenario.zone_rate = chance(&mut rng, 50).then(|| (rate / rng.random_range(1..=4)).max(up));
    }
    // How long the transfer takes if all goes well, in milliseconds.
    let span = (scenario.length() * 1000 / scenario.reading_rate().min(up)).max(500);
    scenario.begin = match rng.random_range(0..10) {
        0..=4 => Begin::Together,
        5..=6 => Begin::Late { percent: rng.random_range(10..=90), within: rng.random_range(1..=2 * span) },
        7..=8 => Begin::Cold,
        _ => Begin::Holding,
    };
    for _ in 0..if chance(&mut rng, 30) { rng.random_range(1..=3) } else { 0 } {
        scenario.readers_at.push((rng.random_range(0..nodes), rng.random_range(0..100)));
    }
    if chance(&mut rng, 15) {
        scenario.refused = rng.random_range(1..=2);
    }
    if chance(&mut rng, 20) {
        scenario.slow =
            Some(Slow { percent: rng.random_range(5..=50), speed: rng.random_range(20..=90), known: false });
    }
    for _ in 0..rng.random_range(0..=4) {
        scenario.faults.push(random_fault(&mut rng, nodes, span));
    }
    scenario.shared_links = nodes <= SHARED && chance(&mut rng, 50);
    scenario
}

fn random_fault(rng: &mut Xoshiro256PlusPlus, nodes: u32, span: u64) -> Fault {
    let when = if rng.random_bool(0.5) {
        When::At(rng.random_range(0..=span * 3 / 2))
    } else {
        When::Read(rng.random_range(1..=100))
    };
    let whom = match rng.random_range(0..20) {
        0..=6 => Whom::Seed,
        7..=10 => Whom::Coordinator,
        11..=15 => Whom::Node(rng.random_range(0..nodes)),
        16..=18 => Whom::Percent(rng.random_range(5..=60), rng.random_range(0..=span)),
        _ => Whom::All,
    };
    let what = match rng.random_range(0..10) {
        0..=4 => What::Dies {
            silent: rng.random_bool(0.5),
            back: rng.random_bool(0.5).then(|| rng.random_range(0..=10_000)),
        },
        5..=6 => What::Hangs(rng.random_range(100..=15_000)),
        7 => What::Slows(rng.random_range(25..=90)),
        _ => What::Parted(rng.random_range(500..=40_000)),
    };
    Fault { when, whom, what }
}

/// The smallest scenario to be found, step by step, in which the same does not hold.
#[must_use]
pub fn shrink(scenario: Scenario) -> Scenario {
    let Some(kind) = trouble(&scenario).map(|what| kind(&what)) else { return scenario };
    shrink_while(scenario, |smaller| trouble(smaller).is_some_and(|what| self::kind(&what) == kind))
}

/// What broke, without the numbers of nodes and bytes in it.
fn kind(what: &str) -> String {
    let first = what.lines().next().unwrap_or_default();
    let first = first.split('(').next().unwrap_or_default().trim_end();
    first.chars().filter(|char| !char.is_ascii_digit()).collect()
}

fn shrink_while(mut scenario: Scenario, mut still: impl FnMut(&Scenario) -> bool) -> Scenario {
    let mut runs = 0;
    loop {
        let mut better = None;
        for smaller in simpler(&scenario) {
            if runs == MOST_RUNS {
                return scenario;
            }
            runs += 1;
            if smaller.check().is_ok() && still(&smaller) {
                better = Some(smaller);
                break;
            }
        }
        match better {
            Some(smaller) => scenario = smaller,
            None => return scenario,
        }
    }
}

/// Scenarios that are simpler by one thing, the boldest first; none of them is equal to this one.
fn simpler(scenario: &Scenario) -> Vec<Scenario> {
    let plain = Scenario::flash(scenario.nodes, scenario.pieces);
    let mut all = Vec::new();
    let mut change = |how: &dyn Fn(&mut Scenario)| {
        let mut other = scenario.clone();
        how(&mut other);
        other.readers_at.retain(|(node, _)| *node < other.nodes);
        other.zones = other.zones.min(other.nodes as u16);
        if other != *scenario {
            all.push(other);
        }
    };
    for at in 0..scenario.faults.len() {
        change(&|other| _ = other.faults.remove(at));
    }
    for (part, of) in [(1, 2), (3, 4), (9, 10)] {
        change(&|other| other.nodes = (other.nodes * part / of).max(1));
        change(&|other| other.pieces = (other.pieces * part / of).max(1));
    }
    change(&|other| other.nodes = (other.nodes - 1).max(1));
    change(&|other| other.begin = plain.begin);
    change(&|other| other.readers_at.clear());
    change(&|other| other.refused = 0);
    change(&|other| other.slow = None);
    change(&|other| (other.zones, other.zone_rate) = (1, None));
    change(&|other| other.zone_rate = None);
    change(&|other| other.shared_links = false);
    change(&|other| other.loss = 0.0);
    change(&|other| other.reordered = 0.0);
    change(&|other| other.origin_per_connection = None);
    change(&|other| (other.latency_us, other.jitter_us) = (plain.latency_us, plain.jitter_us));
    change(&|other| (other.up, other.down, other.origin_rate) = (plain.up, plain.down, plain.origin_rate));
    change(&|other| other.down = other.up);
    for at in 0..scenario.faults.len() {
        change(&|other| {
            if let What::Dies { silent, .. } = &mut other.faults[at].what {
                *silent = false;
            }
        });
        change(&|other| {
            if let What::Dies { back, .. } = &mut other.faults[at].what {
                *back = None;
            }
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_scenarios_can_be_run_and_are_the_same_for_the_same_seed() {
        for seed in 0..2000 {
            let scenario = random_scenario(seed);
            assert_eq!(scenario.check(), Ok(()), "seed {seed}");
            assert_eq!(scenario, random_scenario(seed));
        }
    }

    #[test]
    fn shrinking_keeps_what_matters_and_nothing_else() {
        let hangs = |fault: &Fault| matches!(fault.what, What::Hangs(_));
        let matters = |scenario: &Scenario| scenario.nodes >= 5 && scenario.faults.iter().any(hangs);
        let scenario = (0..).map(random_scenario).find(|one| matters(one) && one.faults.len() > 2).unwrap();
        let small = shrink_while(scenario, matters);
        assert!(small.faults.len() == 1 && small.nodes == 5 && small.pieces == 1, "{small:?}");
        assert_eq!(Scenario { faults: Vec::new(), seed: 1, ..small }, Scenario::flash(5, 1));
    }

    #[test]
    fn the_same_trouble_with_other_numbers_is_the_same_trouble() {
        assert_eq!(kind("nodes 3 and 4 both hold the lease (seed 1)\n  x"), kind("nodes 13 and 0 both hold the lease"));
        assert_ne!(kind("the fleet fell silent"), kind("node 3 reads the origin without a lease"));
    }
}
