//! A fast part of the gates, and what every run must show.

#![allow(clippy::unwrap_used, reason = "a test that meets the impossible should stop there")]

use shoal_simulator::{Begin, Fault, Outcome, Scenario, What, When, Whom, catalog, run};

fn sound(outcome: &Outcome) {
    assert!(outcome.broken.is_none(), "{}", outcome.broken.as_ref().unwrap());
}

#[test]
fn one_seed_one_result() {
    let scenario = Scenario::flash(24, 64);
    let (one, other) = (run(&scenario), run(&scenario));
    assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&other).unwrap());
    assert_eq!(one.moments, other.moments);
    let elsewhere = run(&Scenario { seed: 2, ..scenario });
    assert_ne!(one.events, elsewhere.events);
}

#[test]
fn a_flash_crowd_reads_the_origin_once_and_is_near_the_bound() {
    let entry = catalog::find("flash-k256").unwrap();
    let outcome = run(&Scenario { nodes: 128, ..entry.scenario });
    sound(&outcome);
    assert_eq!((outcome.origin_bytes_ratio, outcome.probes), (1.0, 1));
    assert!(outcome.ratio_max >= 1.0, "{}", outcome.ratio_max);
    assert_eq!(entry.gate.misses(&outcome), Vec::<String>::new());
}

/// Found by a look at who traded with whom: a Hello that had crossed a Bye made neighbours of two that the coordinator had
/// told to part, and those that came first had eighty of them.
#[test]
fn a_node_trades_with_no_more_than_it_is_told_to() {
    let outcome = run(&Scenario::flash(256, 64));
    sound(&outcome);
    let most = shoal_swarm::coordination::Settings::default().most_neighbours as u32;
    assert!(outcome.neighbours_max <= most, "{} neighbours of at most {most}", outcome.neighbours_max);
}

#[test]
fn small_scenarios_keep_their_promises() {
    for name in ["restart-with-blob", "half-way-reader", "cold-start", "origin-refuses-two"] {
        let entry = catalog::find(name).unwrap();
        let (nodes, pieces) = (entry.scenario.nodes.min(64), entry.scenario.pieces.min(256));
        let outcome = run(&Scenario { nodes, pieces, ..entry.scenario });
        sound(&outcome);
        let length = outcome.piece_bytes * u64::from(outcome.pieces);
        let most = if entry.gate.origin_untouched { 0 } else { length + entry.gate.origin_extra };
        assert!(outcome.origin_bytes <= most, "{name}: {} bytes of {most}", outcome.origin_bytes);
        assert_eq!(outcome.failed, entry.gate.failed, "{name}");
    }
}

#[test]
fn a_seed_that_dies_costs_no_more_than_promised() {
    for percent in [30, 60, 90] {
        let what = What::Dies { silent: false, back: None };
        let faults = vec![Fault { when: When::Read(percent), whom: Whom::Seed, what }];
        let outcome = run(&Scenario { faults, ..Scenario::flash(48, 256) });
        sound(&outcome);
        assert_eq!(outcome.seed_deaths, 1);
    }
}

#[test]
fn pieces_come_into_a_zone_once() {
    let outcome = run(&Scenario { pieces: 256, nodes: 96, ..catalog::find("zones-8").unwrap().scenario });
    sound(&outcome);
    assert!((1.0..=1.02).contains(&outcome.cross_zone_ratio), "{}", outcome.cross_zone_ratio);
    assert!(outcome.ratio_max < 1.3, "{}", outcome.ratio_max);
}

#[test]
fn late_nodes_and_dead_coordinators_are_lived_with() {
    let begin = Begin::Late { percent: 50, within: 8000 };
    sound(&run(&Scenario { begin, ..Scenario::flash(48, 256) }));
    let what = What::Dies { silent: false, back: None };
    let faults = vec![Fault { when: When::Read(50), whom: Whom::Coordinator, what }];
    let outcome = run(&Scenario { faults, ..Scenario::flash(48, 256) });
    sound(&outcome);
    assert_eq!(outcome.origin_bytes_ratio, 1.0);
}
