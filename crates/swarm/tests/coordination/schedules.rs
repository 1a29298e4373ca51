//! Random schedules of wishes, deaths and restarts: what must hold whatever happens.

use proptest::prelude::*;

use super::{
    SECOND,
    net::{Net, ms},
};

#[derive(Clone, Debug)]
enum Deed {
    Want(usize),
    Unwant(usize),
    Kill(usize),
    Restart(usize),
}

const NODES: usize = 7;

fn deed() -> impl Strategy<Value = Deed> {
    let node = 0..NODES;
    prop_oneof![
        6 => node.clone().prop_map(Deed::Want),
        1 => node.clone().prop_map(Deed::Unwant),
        1 => node.clone().prop_map(Deed::Kill),
        1 => node.prop_map(Deed::Restart),
    ]
}

/// Plays a schedule to its end, then lets everybody who can have what he wants.
fn play(net: &mut Net, seed: u64, deeds: &[(u64, Deed)]) {
    for (pause, deed) in deeds {
        match *deed {
            Deed::Want(node) if net.nodes[node].alive => net.want(node),
            Deed::Unwant(node) => net.unwant(node),
            Deed::Kill(node) if net.nodes[node].alive => net.kill(node, ms(300)),
            Deed::Restart(node) if !net.nodes[node].alive => {
                net.restart(node, seed);
                net.all_see_all();
            }
            _ => {}
        }
        net.run(ms(*pause));
    }
}

fn satisfied(net: &Net) -> bool {
    (0..NODES).all(|node| !net.nodes[node].alive || !net.nodes[node].wants || net.complete(node))
}

/// Schedules that once failed: a member that had everything but not the length in writing; a node that was back before
/// the word of its death had gone round; a coordinator that did not hear that its lease had been taken over.
#[test]
fn schedules_that_once_failed() {
    use Deed::{Kill, Restart, Unwant, Want};
    let forgotten_length: &[_] = &[
        (0, Kill(0)),
        (1200, Want(1)),
        (1660, Want(4)),
        (2692, Want(4)),
        (1374, Kill(2)),
        (1475, Want(0)),
        (3, Restart(0)),
        (3, Want(4)),
        (0, Want(0)),
    ];
    let early_return: &[_] = &[
        (248, Want(4)),
        (771, Want(5)),
        (169, Want(6)),
        (812, Want(0)),
        (57, Unwant(4)),
        (31, Want(3)),
        (77, Want(1)),
        (259, Kill(0)),
        (457, Restart(0)),
        (113, Want(1)),
        (62, Want(4)),
        (887, Want(1)),
        (504, Want(0)),
        (26, Unwant(5)),
        (0, Kill(2)),
    ];
    let lost_word: &[_] = &[
        (733, Unwant(0)),
        (2240, Want(5)),
        (1978, Restart(0)),
        (974, Want(2)),
        (1478, Want(5)),
        (1105, Want(4)),
        (2442, Want(2)),
        (0, Want(1)),
        (2195, Want(1)),
        (2193, Want(1)),
        (1982, Want(5)),
    ];
    for (seed, (loss, slowest, pause), deeds) in [
        (9_837_447, (0.0, 5, 2), forgotten_length),
        (2_010_149_531, (0.0, 5, 2), early_return),
        (1_361_305_622, (0.206_995_729_330_005_38, 542, 5), lost_word),
    ] {
        let mut net = Net::settled(NODES, seed);
        (net.loss, net.delay, net.pause) = (loss, (1, slowest), pause);
        play(&mut net, seed, deeds);
        (net.loss, net.delay, net.pause) = (0.0, (1, 20), 1);
        assert!(net.run_until(90 * SECOND, satisfied).is_some(), "somebody waits for ever");
        assert!(net.overlaps.is_empty(), "{:?}", net.overlaps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_two_nodes_ever_hold_the_lease(
        seed in 0u64..1 << 32,
        loss in 0.0..0.3,
        slowest in 5u64..1500,
        resets: bool,
        pause in 1u64..20,
        deeds in proptest::collection::vec((0u64..3000, deed()), 1..25),
    ) {
        let mut net = Net::settled(NODES, seed);
        (net.loss, net.delay, net.resets) = (loss, (1, slowest), resets);
        net.pause = pause;
        play(&mut net, seed, &deeds);
        prop_assert!(net.overlaps.is_empty(), "{:?}", net.overlaps);
        (net.loss, net.delay, net.pause) = (0.0, (1, 20), 1);
        prop_assert!(net.run_until(90 * SECOND, satisfied).is_some(), "somebody waits for ever");
        prop_assert!(net.overlaps.is_empty(), "{:?}", net.overlaps);
    }

    #[test]
    fn on_a_quiet_network_each_piece_is_read_once_for_each_death(
        seed in 0u64..1 << 32,
        pause in 1u64..20,
        deeds in proptest::collection::vec((0u64..1000, deed()), 1..25),
    ) {
        let mut net = Net::settled(NODES, seed);
        net.pause = pause;
        play(&mut net, seed, &deeds);
        prop_assert!(net.run_until(90 * SECOND, satisfied).is_some(), "somebody waits for ever");
        prop_assert!(net.overlaps.is_empty(), "{:?}", net.overlaps);
        let deaths = deeds.iter().filter(|(_, deed)| matches!(deed, Deed::Kill(_) | Deed::Unwant(_))).count();
        if deaths == 0 {
            prop_assert!(net.read.iter().all(|times| *times <= 1), "{:?}", net.read);
            prop_assert!(net.probes <= 1);
        }
    }
}
