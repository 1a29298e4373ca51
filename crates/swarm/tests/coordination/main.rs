//! How nodes coordinate, on a pretended network in virtual time.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod bounds;
mod net;
mod schedules;
mod traffic;

use std::time::Duration;

use net::{Net, PIECES, ms, refused};
use shoal_blob::PieceSet;
use shoal_proto::{NodeId, coordination::Refusal};
use shoal_swarm::coordination::Note;

const SECOND: Duration = Duration::from_secs(1);

fn grants(net: &Net) -> usize {
    net.notes.iter().filter(|(_, note)| matches!(note, Note::Granted { .. })).count()
}

fn all_complete(net: &Net, nodes: std::ops::Range<usize>) -> bool {
    nodes.into_iter().all(|node| net.complete(node))
}

#[track_caller]
fn read_once(net: &Net) {
    assert!(net.read.iter().all(|times| *times == 1), "read from the origin: {:?}", net.read);
    assert!(net.overlaps.is_empty(), "{:?}", net.overlaps);
}

#[test]
fn many_joins_in_one_instant_cost_one_probe_and_one_lease() {
    for count in [1, 2, 3, 8, 40] {
        let mut net = Net::settled(count, 1);
        (0..count).for_each(|node| net.want(node));
        let took = net.run_until(30 * SECOND, |net| all_complete(net, 0..count));
        assert!(took.is_some(), "{count} nodes did not finish");
        assert_eq!((net.probes, grants(&net)), (1, 1), "{count} nodes");
        read_once(&net);
    }
}

#[test]
fn nodes_that_start_together_with_different_views_have_one_seed() {
    for seed in 0..10 {
        let count = 12;
        let mut net = Net::new(count, seed);
        // Everyone sees a few others, some of them not the closest; the views grow together over a second.
        for node in 0..count {
            let some = (0..3).map(|k| (node * 5 + k * 7 + seed as usize) % count).chain([node]).collect();
            net.see(node, some);
        }
        (0..count).for_each(|node| net.want(node));
        net.run(ms(400));
        net.all_see_all();
        assert!(net.run_until(30 * SECOND, |net| all_complete(net, 0..count)).is_some(), "seed {seed}");
        assert_eq!(net.probes, 1, "seed {seed}");
        read_once(&net);
    }
}

#[test]
fn nodes_that_start_together_and_know_nobody_have_one_seed() {
    for seed in 0..10 {
        let count = 12;
        let mut net = Net::new(count, seed);
        (0..count).for_each(|node| net.want(node));
        // They meet one by one, within less than half a second of each other.
        for node in 0..count {
            net.run(ms(20));
            net.see((node * 7) % count, (0..count).collect());
        }
        assert!(net.run_until(30 * SECOND, |net| all_complete(net, 0..count)).is_some(), "seed {seed}");
        assert_eq!(net.probes, 1, "seed {seed}");
        read_once(&net);
    }
}

#[test]
fn two_that_do_not_know_each_other_meet_through_a_third() {
    let mut net = Net::new(3, 18);
    net.see(0, [0, 2].into());
    net.see(1, [1, 2].into());
    net.see(2, [0, 1, 2].into());
    net.want(0);
    net.want(1);
    assert!(net.run_until(30 * SECOND, |net| all_complete(net, 0..2)).is_some());
    assert_eq!((net.probes, grants(&net)), (1, 1));
    read_once(&net);
}

#[test]
fn messages_may_be_lost() {
    for seed in 0..20 {
        let mut net = Net::settled(10, seed);
        net.loss = 0.1;
        (0..10).for_each(|node| net.want(node));
        assert!(net.run_until(120 * SECOND, |net| all_complete(net, 0..10)).is_some(), "seed {seed}");
        assert!(net.overlaps.is_empty(), "seed {seed}: {:?}", net.overlaps);
        assert_eq!(net.probes, 1, "seed {seed}");
    }
}

#[test]
fn a_seed_that_dies_is_followed_by_one_that_reads_only_the_rest() {
    let mut net = Net::settled(8, 3);
    (0..8).for_each(|node| net.want(node));
    net.run_until(10 * SECOND, |net| net.nodes.iter().any(|node| node.held.held() > 20)).unwrap();
    let [seed] = net.seeds()[..] else { panic!("one seed") };
    net.run(ms(300));
    let others = |net: &Net| {
        let mut all = PieceSet::empty(PIECES);
        net.nodes.iter().filter(|node| node.alive && node.held.size() > 0).for_each(|node| all.union_with(&node.held));
        all
    };
    net.kill(seed, ms(500));
    let before = net.read.iter().filter(|times| **times > 0).count();
    let took = net.run_until(10 * SECOND, |net| !net.seeds().is_empty()).unwrap();
    assert!(took <= 5 * SECOND, "{took:?}");
    let [next] = net.seeds()[..] else { panic!("one seed") };
    let elsewhere = &net.nodes[next].seeding.as_ref().unwrap().1;
    assert_eq!(*elsewhere, others(&net));
    assert!(before as u32 - elsewhere.held() <= 2, "only what the dead seed had not shared is lost");
    assert!(net.run_until(30 * SECOND, |net| (0..8).all(|n| n == seed || net.complete(n))).is_some());
    assert!(net.read.iter().sum::<u32>() <= PIECES + 2, "{:?}", net.read);
    assert!(net.overlaps.is_empty());
    assert_eq!(net.probes, 1, "the length is known");
}

#[test]
fn when_the_coordinator_dies_the_same_seed_goes_on() {
    for (resets, notice) in [(true, ms(200)), (false, ms(300))] {
        let mut net = Net::settled(8, 4);
        net.resets = resets;
        // The coordinator is not in the swarm.
        (1..8).for_each(|node| net.want(node));
        net.run_until(10 * SECOND, |net| net.nodes.iter().any(|node| node.held.held() > 10)).unwrap();
        let [seed] = net.seeds()[..] else { panic!("one seed") };
        net.kill(0, notice);
        assert!(net.run_until(30 * SECOND, |net| all_complete(net, 1..8)).is_some());
        assert_eq!(net.nodes.iter().map(|node| node.became_seed).sum::<u32>(), 1, "no second seed, no pause");
        assert_eq!(net.nodes[seed].became_seed, 1);
        assert!(net.notes.iter().any(|(node, note)| *node == 1 && matches!(note, Note::TookOver { .. })));
        assert_eq!(net.probes, 1);
        read_once(&net);
    }
}

#[test]
fn when_a_closer_node_comes_the_same_seed_goes_on() {
    let mut net = Net::settled(8, 5);
    net.sides[0] = 1;
    net.all_see_all();
    net.run(20 * SECOND);
    (1..8).for_each(|node| net.want(node));
    net.run_until(10 * SECOND, |net| net.nodes.iter().any(|node| node.held.held() > 10)).unwrap();
    net.sides[0] = 0;
    net.restart(0, 5);
    net.all_see_all();
    net.want(0);
    assert!(net.run_until(30 * SECOND, |net| all_complete(net, 0..8)).is_some());
    assert_eq!(net.nodes.iter().map(|node| node.became_seed).sum::<u32>(), 1);
    assert!(net.notes.iter().any(|(node, note)| *node == 0 && matches!(note, Note::TookOver { .. })));
    assert_eq!(net.probes, 1);
    read_once(&net);
}

#[test]
fn nodes_that_may_not_read_the_origin_fail_alone() {
    let mut net = Net::settled(6, 6);
    // The order of joining is the order of trying: these two are first.
    net.nodes[4].origin = Err(Refusal::Unauthorized);
    net.nodes[5].origin = Err(Refusal::NotFound);
    net.want(4);
    net.want(5);
    net.run(ms(12));
    (0..4).for_each(|node| net.want(node));
    assert!(net.run_until(30 * SECOND, |net| all_complete(net, 0..4)).is_some());
    assert_eq!(net.nodes[4].failed, vec![Refusal::Unauthorized]);
    assert_eq!(net.nodes[5].failed, vec![Refusal::NotFound]);
    assert!((0..4).all(|node| net.nodes[node].failed.is_empty()));
    assert_eq!(net.probes, 3);
    read_once(&net);
}

/// The node that was refused was its zone's importer, and has no seat when the importers get their links abroad.
#[test]
fn an_importer_that_may_not_read_the_origin_is_none_any_longer() {
    let mut net = Net::settled(3, 20);
    for node in 0..3 {
        net.nodes[node].zone = format!("zone-{}", node % 2);
    }
    net.nodes[1].origin = Err(Refusal::Unauthorized);
    net.want(1);
    net.run(ms(8));
    net.want(0);
    net.want(2);
    assert!(net.run_until(30 * SECOND, |net| net.complete(0) && net.complete(2)).is_some());
    assert_eq!(net.nodes[1].failed, vec![Refusal::Unauthorized]);
    read_once(&net);
}

#[test]
fn when_nobody_can_read_the_origin_everybody_is_told_and_the_digest_rests() {
    let mut net = Net::settled(6, 7);
    for node in 0..6 {
        net.nodes[node].origin = Err(Refusal::Forbidden);
        net.want(node);
    }
    net.run(SECOND);
    assert!(net.nodes.iter().all(|node| node.failed == vec![Refusal::Forbidden]));
    assert_eq!(net.probes, 3);
    // In the rest, an error at once; after it, a fresh beginning.
    net.want(0);
    net.run(ms(100));
    assert_eq!((net.nodes[0].failed.len(), net.probes), (2, 3));
    net.run(2 * SECOND);
    net.nodes.iter_mut().for_each(|node| node.origin = Ok(()));
    net.want(0);
    assert!(net.run_until(30 * SECOND, |net| net.complete(0)).is_some());
    read_once(&net);
}

#[test]
fn one_misconfigured_node_that_asks_again_and_again_spoils_nothing() {
    let mut net = Net::settled(3, 8);
    net.nodes[1].origin = Err(Refusal::Unauthorized);
    for _ in 0..6 {
        net.want(1);
        net.run(SECOND);
    }
    assert_eq!(net.nodes[1].failed.len(), 6);
    net.want(1);
    net.run(ms(1));
    net.want(2);
    assert!(net.run_until(30 * SECOND, |net| net.complete(2)).is_some());
    assert!(net.nodes[2].failed.is_empty());
    read_once(&net);
}

#[test]
fn a_seed_that_stalls_hands_on_and_keeps_its_readers() {
    let mut net = Net::settled(4, 9);
    (0..4).for_each(|node| net.want(node));
    net.run_until(10 * SECOND, |net| net.nodes.iter().any(|node| node.held.held() > 10)).unwrap();
    let [seed] = net.seeds()[..] else { panic!("one seed") };
    net.nodes[seed].seeding = None;
    net.tell_member(seed, refused(Refusal::Stalled));
    let took = net.run_until(5 * SECOND, |net| !net.seeds().is_empty()).unwrap();
    assert!(took < SECOND && net.seeds()[0] != seed);
    assert!(net.run_until(30 * SECOND, |net| all_complete(net, 0..4)).is_some());
    assert!(net.nodes.iter().all(|node| node.failed.is_empty()));
    read_once(&net);
}

#[test]
fn wrong_bytes_twice_are_an_error() {
    let mut net = Net::settled(5, 10);
    (0..5).for_each(|node| net.want(node));
    for _ in 0..2 {
        net.run_until(10 * SECOND, |net| !net.seeds().is_empty()).unwrap();
        let seed = net.seeds()[0];
        net.nodes[seed].seeding = None;
        net.tell_member(seed, refused(Refusal::WrongBytes));
    }
    net.run(SECOND);
    assert!(net.nodes.iter().all(|node| node.failed == vec![Refusal::WrongBytes]));

    // What the origin said of the blob may have been as wrong: once the digest has rested it is asked anew.
    assert_eq!(net.probes, 1);
    net.nodes.iter_mut().for_each(|node| node.member = None);
    net.run(60 * SECOND);
    net.want(0);
    assert!(net.run_until(10 * SECOND, |net| net.probes == 2).is_some());
}

#[test]
fn a_finished_swarm_serves_newcomers_without_the_origin() {
    let mut net = Net::settled(9, 11);
    (0..8).for_each(|node| net.want(node));
    net.run_until(30 * SECOND, |net| all_complete(net, 0..8)).unwrap();
    net.run(20 * SECOND);
    assert!(net.nodes.iter().all(|node| node.member.is_none()), "all have left");
    net.want(8);
    assert!(net.run_until(10 * SECOND, |net| net.complete(8)).is_some());
    assert_eq!((net.probes, grants(&net)), (1, 1));
    read_once(&net);
}

#[test]
fn after_a_restart_of_all_holders_are_found_by_asking_or_announcing() {
    for announces in [true, false] {
        for (wanting, pause) in [(0, 600), (8, 600), (0, 20_000), (8, 20_000)] {
            let mut net = Net::new(9, 12);
            (0..9).filter(|node| *node != wanting).for_each(|node| net.holds_all(node));
            net.all_see_all();
            if announces {
                (0..9).filter(|node| *node != wanting).for_each(|node| net.announce(node, 0));
            }
            net.run(ms(pause));
            net.want(wanting);
            let took = net.run_until(10 * SECOND, |net| net.complete(wanting)).unwrap();
            assert!(took < 2 * SECOND, "{took:?}");
            assert_eq!((net.probes, grants(&net), net.read.iter().sum::<u32>()), (0, 0, 0));
        }
    }
}

#[test]
fn a_holder_that_gives_nothing_does_not_keep_the_origin_from_being_read() {
    let mut net = Net::settled(4, 19);
    net.holds_all(3);
    net.nodes[3].gives = false;
    (0..4).for_each(|node| net.announce(3, node));
    net.run(SECOND);
    (0..3).for_each(|node| net.want(node));
    let took = net.run_until(30 * SECOND, |net| all_complete(net, 0..3)).unwrap();
    assert!(took > 2 * SECOND, "the holder was believed at first");
    assert_eq!(net.probes, 0, "its word about the length is taken");
    read_once(&net);
}

#[test]
fn members_that_resume_do_not_read_again_what_they_have_together() {
    let mut net = Net::settled(4, 13);
    for node in 0..4 {
        net.nodes[node].held = PieceSet::empty(PIECES);
        (node as u32 * 15..node as u32 * 15 + 15).for_each(|piece| {
            net.nodes[node].held.insert(piece);
        });
        net.want(node);
    }
    assert!(net.run_until(30 * SECOND, |net| all_complete(net, 0..4)).is_some());
    let read: Vec<u32> = (0..PIECES).filter(|piece| net.read[*piece as usize] > 0).collect();
    assert!(read.iter().filter(|piece| **piece < 60).count() <= 15, "at most what came a moment late: {read:?}");
    assert_eq!(net.probes, 1);
}

#[test]
fn a_lost_piece_is_read_again_and_nothing_else() {
    let mut net = Net::settled(4, 14);
    for node in 0..3 {
        net.want(node);
    }
    net.run_until(30 * SECOND, |net| all_complete(net, 0..3)).unwrap();
    // All of them evict one piece while a fourth is being served.
    net.rate.1 = 0;
    net.want(3);
    net.run(ms(100));
    for node in 0..3 {
        net.nodes[node].held.remove(33);
    }
    net.rate.1 = 4;
    net.run(8 * SECOND);
    assert!(net.complete(3), "{:?}", net.nodes[3].held.missing_runs().collect::<Vec<_>>());
    assert_eq!((net.read[33], net.read.iter().sum::<u32>()), (2, PIECES + 1));
}

#[test]
fn two_halves_that_meet_come_down_to_one_lease() {
    let mut net = Net::settled(10, 15);
    net.rate = (1, 1);
    net.sides = (0..10).map(|node| (node % 2) as u8).collect();
    net.all_see_all();
    net.run(10 * SECOND);
    (0..10).for_each(|node| net.want(node));
    net.run_until(10 * SECOND, |net| net.seeds().len() == 2).expect("each side reads for itself");
    net.run(ms(300));
    net.sides = vec![0; 10];
    net.all_see_all();
    let took = net.run_until(10 * SECOND, |net| net.seeds().len() == 1).unwrap();
    assert!(took <= 4 * SECOND, "{took:?}");
    net.overlaps.clear();
    assert!(net.run_until(30 * SECOND, |net| all_complete(net, 0..10)).is_some());
    assert!(net.overlaps.is_empty(), "{:?}", net.overlaps);
    assert!(net.probes <= 2);
}

#[test]
fn who_loses_interest_in_seeding_hands_on() {
    let mut net = Net::settled(4, 16);
    (0..4).for_each(|node| net.want(node));
    net.run_until(10 * SECOND, |net| net.nodes.iter().any(|node| node.held.held() > 10)).unwrap();
    let [seed] = net.seeds()[..] else { panic!("one seed") };
    net.unwant(seed);
    let took = net.run_until(5 * SECOND, |net| !net.seeds().is_empty()).unwrap();
    assert!(took < SECOND);
    assert!(net.run_until(30 * SECOND, |net| (0..4).all(|n| n == seed || net.complete(n))).is_some());
    read_once(&net);
}

#[test]
fn whoever_brings_pieces_into_a_zone_has_links_there() {
    for seed in 0..8 {
        let count = 128;
        let mut net = Net::settled(count, seed);
        net.rate = (0, 0);
        for node in 0..count {
            net.nodes[node].zone = format!("zone-{}", node % 8);
            net.want(node);
        }
        net.run(ms(1500));
        for node in &net.nodes {
            let zone = |id: &NodeId| &net.nodes.iter().find(|other| other.id == *id).unwrap().zone;
            let home = node.neighbours.iter().filter(|id| *zone(id) == node.zone).count();
            assert!(home >= 4, "seed {seed}: {home} links at home, {} in all", node.neighbours.len());
        }
    }
}

#[test]
fn a_thousand_joins_in_one_instant_are_cheap_and_nobody_is_cut_off() {
    let count = 1000;
    let mut net = Net::settled(count, 17);
    net.rate = (0, 0);
    for node in 0..count {
        net.nodes[node].zone = format!("zone-{}", node % 4);
        net.want(node);
    }
    let before = net.messages;
    net.run(ms(1500));
    let each = (net.messages - before) / count as u64;
    assert!(each <= 8, "{each} messages a node");
    assert_eq!((net.probes, grants(&net)), (1, 1));
    let named: usize = net.nodes.iter().map(|node| node.neighbours.len()).sum();
    // Each link is told to the one that came later, until both join again.
    assert!(named < 16 * count, "{named} names");
    net.run(ms(1500));
    let index = |id| net.nodes.iter().position(|node| node.id == id).unwrap();
    let (mut seen, mut next) = (vec![false; count], vec![0]);
    while let Some(node) = next.pop() {
        if !std::mem::replace(&mut seen[node], true) {
            next.extend(net.nodes[node].neighbours.iter().map(|id| index(*id)));
        }
    }
    assert!(seen.iter().all(|seen| *seen), "the graph is in one piece");
    let mut all_abroad = 0;
    for (at, node) in net.nodes.iter().enumerate() {
        assert!((12..=24).contains(&node.neighbours.len()), "{} neighbours", node.neighbours.len());
        let abroad = node.neighbours.iter().filter(|id| net.nodes[index(**id)].zone != node.zone).count();
        assert!(abroad >= 2, "{abroad} abroad");
        all_abroad += abroad;
        assert!(node.neighbours.iter().all(|id| net.nodes[index(*id)].neighbours.contains(&node.id)), "mutual: {at}");
    }
    assert!(all_abroad / count <= 5, "{all_abroad} in all");
}
