//! What a coordinator and a member do with too much, and with lies.

use std::time::Duration;

use shoal_blob::{Digest, PieceSet};
use shoal_proto::{
    Epoch, Grant, NodeId, NodeKey, SignedGrant, Visibility,
    coordination::{Holding, Join, Probe, ToCoordinator, ToMember},
};
use shoal_swarm::{
    Time,
    coordination::{
        Coordinator, Doubt, Input, Member, MemberInput, MemberOutput, Note, Output, Own, Settings, Stopped,
    },
};

fn key(n: u8) -> NodeKey {
    NodeKey::from_seed(&[n; 32])
}

fn node(n: u16) -> NodeId {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    NodeId::from_bytes(bytes)
}

fn digest(n: u16) -> Digest {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    Digest::Sha256(bytes)
}

fn join(digest: Digest, highest: Option<SignedGrant>) -> ToCoordinator {
    let (held, addresses, zone) = (PieceSet::empty(0), vec!["10.0.0.1:1".parse().unwrap(); 100], "é".repeat(500));
    let (wants, can_seed) = (true, true);
    ToCoordinator::Join(Join { digest, length: None, wants, can_seed, held, addresses, zone, highest, neighbours: 0 })
}

fn grant(key: &NodeKey, digest: Digest, number: u64, seed: NodeId) -> SignedGrant {
    let epoch = Epoch { number, coordinator: key.id() };
    let (length, duration) = (1 << 20, Duration::from_secs(3));
    Grant { digest, length, epoch, seed, duration, visibility: Visibility::Public }.sign(key)
}

/// A coordinator that has run for long and that `node`s are not known to, so that it is always the closest.
fn coordinator(settings: Settings) -> (Coordinator, Time) {
    (Coordinator::new(key(1), Time::ZERO, 1, settings), Time::ZERO + Duration::from_secs(100))
}

fn drain(coordinator: &mut Coordinator) -> Vec<Output> {
    std::iter::from_fn(|| coordinator.poll()).collect()
}

/// Names that are farther from the digest than the coordinator, so that it keeps the digest.
fn farther(digest: Digest) -> impl Iterator<Item = NodeId> {
    let mine = key(1).id().distance(&digest);
    (0..=u16::MAX).map(node).filter(move |node| node.distance(&digest) > mine)
}

#[test]
fn a_swarm_has_a_limit_and_what_is_told_on_is_cut() {
    let (mut coordinator, now) = coordinator(Settings { most_members: 3, ..Settings::default() });
    for from in farther(digest(0)).take(4) {
        coordinator.handle(now, Input::Told { from, message: join(digest(0), None) });
    }
    let out = drain(&mut coordinator);
    assert!(out.iter().any(|output| matches!(output, Output::Note(Note::Full { .. }))));
    let neighbours = out.iter().filter_map(|output| match output {
        Output::Tell { message: ToMember::Joined { neighbours, .. }, .. } => Some(neighbours),
        _ => None,
    });
    let neighbours: Vec<_> = neighbours.flatten().flatten().collect();
    assert!(!neighbours.is_empty());
    assert!(neighbours.iter().all(|one| one.addresses.len() == 8));
}

#[test]
fn a_crowd_is_answered_once_and_comes_again_more_rarely() {
    let settings = Settings { few: 2, crowd: 5, notice_delay: Duration::from_millis(100), ..Settings::default() };
    let (mut coordinator, start) = coordinator(settings.clone());
    let newcomers: Vec<NodeId> = farther(digest(0)).take(10).collect();
    let mut answers = Vec::new();
    let hear = |output| match output {
        Output::Tell { to, message: ToMember::Joined { neighbours, members, .. } } => {
            Some((to, neighbours.map_or(0, |list| list.len()), members))
        }
        _ => None,
    };
    let mut now = start;
    for &from in &newcomers {
        coordinator.handle(now, Input::Told { from, message: join(digest(0), None) });
        answers.extend(drain(&mut coordinator).into_iter().filter_map(hear));
        now = now + Duration::from_millis(20);
    }
    assert_eq!(answers.iter().map(|(to, ..)| *to).collect::<Vec<_>>(), newcomers[..2], "the first few, at once");
    while now < start + Duration::from_secs(1) {
        now = coordinator.poll_timeout().unwrap().0.max(now);
        coordinator.handle(now, Input::TimeOut);
        let said: Vec<_> = drain(&mut coordinator).into_iter().filter_map(hear).collect();
        if !said.is_empty() {
            answers = said;
            break;
        }
    }
    assert!(now <= start + Duration::from_millis(20) + 4 * settings.notice_delay, "they wait no longer");
    assert_eq!(answers.len(), 10, "all in one go, with nobody twice");
    for (place, newcomer) in newcomers.iter().enumerate() {
        let answer =
            answers.iter().find(|(to, ..)| to == newcomer).map(|(_, neighbours, members)| (*neighbours, *members));
        let before = if place < 2 { 9 } else { place };
        assert_eq!(answer, Some((before, 10)), "those before it, or all where it was told of some already");
    }

    // Twice as many as a crowd has: nobody is forgotten before it had to come again.
    let mut member = Member::new(newcomers[0], digest(0), settings.clone());
    member.handle(start, MemberInput::Wanted { can_seed: true });
    member.handle(start, MemberInput::CoordinatorsFound { closest: vec![key(1).id()] });
    let joined = |members| ToMember::Joined {
        digest: digest(0),
        found: None,
        neighbours: None,
        grant: None,
        importers: None,
        members,
    };
    let held = PieceSet::empty(0);
    let own = Own { held: &held, addresses: &[], zone: "" };
    while member.poll(start, own).is_some() {}
    for (members, times) in [(10, 2), (9, 1), (10_000, 16)] {
        let told = MemberInput::Told { from: key(1).id(), message: joined(members) };
        member.handle(start + Duration::from_millis(members.into()) / 10, told);
        let again = member.poll_timeout().map(|(at, _)| at);
        assert_eq!(again, Some(start + times * settings.join_every), "counted from its last Join, {members} members");
    }
    coordinator.handle(now + settings.seat_lifetime, Input::TimeOut);
    assert_eq!(coordinator.load().0, 1, "its members are there still");
    coordinator.handle(now + 2 * settings.seat_lifetime + Duration::from_secs(1), Input::TimeOut);
    assert_eq!(coordinator.load().0, 0);
}

#[test]
fn a_seed_does_not_wait_until_a_crowd_has_been_told_of_its_lease() {
    let settings = Settings { few: 2, restless: Duration::ZERO, ..Settings::default() };
    let (mut coordinator, now) = coordinator(settings);
    let members: Vec<NodeId> = farther(digest(0)).take(10).collect();
    for &from in &members {
        coordinator.handle(now, Input::Told { from, message: join(digest(0), None) });
    }
    drain(&mut coordinator);
    let outcome = Ok(Probe { length: 1 << 20, visibility: Visibility::Public });
    let mut tell = |from, message| {
        coordinator.handle(now, Input::Told { from, message });
        drain(&mut coordinator).into_iter().filter_map(|output| match output {
            Output::Tell { to, message } => Some((to, message)),
            _ => None,
        })
    };
    let mut granted = tell(members[0], ToCoordinator::Probed { digest: digest(0), outcome }).collect::<Vec<_>>();
    while let Some((standby, ToMember::Keep { grant })) = granted.pop() {
        let epoch = grant.grant().epoch;
        granted.extend(tell(standby, ToCoordinator::Kept { digest: digest(0), epoch }));
        if let [(_, ToMember::Granted { .. })] = granted[..] {
            break;
        }
    }
    let Some((seed, ToMember::Granted { grant, .. })) = granted.pop() else { panic!("{granted:?}") };
    assert!(granted.is_empty(), "nobody else is told yet: {granted:?}");
    let epoch = grant.grant().epoch;
    let told = tell(seed, ToCoordinator::Renew { digest: digest(0), epoch, held: 0, round: 1 });
    let told: Vec<_> = told.filter(|(_, message)| !matches!(message, ToMember::Keep { .. })).collect();
    assert!(matches!(&told[0], (to, ToMember::Renewed { .. }) if *to == seed), "first the seed");
    let crowd = told.iter().filter(|(_, message)| matches!(message, ToMember::Joined { grant: Some(_), .. }));
    assert_eq!(crowd.map(|(to, _)| *to).collect::<Vec<_>>(), members, "then all, once");
}

#[test]
fn digests_and_holders_have_limits_and_the_oldest_go_first() {
    let settings = Settings { most_digests: 50, most_holders: 2, most_holdings: 60, ..Settings::default() };
    let (mut coordinator, now) = coordinator(settings);
    for round in 0..5u16 {
        let holdings = (0..200)
            .map(|n| Holding { digest: digest(n), found: Probe { length: 5, visibility: Visibility::Private } })
            .collect();
        let message = ToCoordinator::Announce { holdings, addresses: vec![], zone: String::new() };
        coordinator.handle(now, Input::Told { from: node(round), message });
    }
    // Who announced has been silent since: it counts as live no longer, or it might be closer.
    let now = now + Duration::from_secs(10);
    coordinator.handle(now, Input::TimeOut);
    // The last fifty are left, at most; who asks for one of them is told of at most two holders.
    let asks = |coordinator: &mut Coordinator, n: u16| {
        let from = farther(digest(n)).nth(7).unwrap();
        coordinator.handle(now, Input::Told { from, message: join(digest(n), None) });
        let out = drain(coordinator);
        out.into_iter().find_map(|output| match output {
            Output::Tell { message: ToMember::Joined { neighbours, .. }, .. } => neighbours.map(|list| list.len()),
            _ => None,
        })
    };
    assert_eq!(asks(&mut coordinator, 199), Some(2));
    assert_eq!(asks(&mut coordinator, 3), Some(0));
    assert!(coordinator.load().0 <= 2);
}

#[test]
fn nothing_is_kept_for_ever() {
    let (mut coordinator, mut now) = coordinator(Settings::default());
    let (from, holder) = (farther(digest(0)).next().unwrap(), farther(digest(0)).nth(1).unwrap());
    let holdings = vec![Holding { digest: digest(0), found: Probe { length: 5, visibility: Visibility::Private } }];
    let message = ToCoordinator::Announce { holdings, addresses: vec![], zone: String::new() };
    coordinator.handle(now, Input::Told { from: holder, message });
    coordinator.handle(now, Input::Told { from, message: join(digest(0), None) });
    assert_eq!(coordinator.load().0, 1);
    let mut steps = 0;
    while let Some((at, _)) = coordinator.poll_timeout() {
        now = now.max(at);
        coordinator.handle(now, Input::TimeOut);
        steps += 1;
        assert!(steps < 1000, "it must come to rest");
    }
    assert_eq!(coordinator.load(), (0, 0));
    let took = now.since(Time::ZERO + Duration::from_secs(100));
    assert!(took < Duration::from_secs(17 * 60), "{took:?}");
}

#[test]
fn a_coordinator_believes_no_grant_that_is_not_signed_or_makes_no_sense() {
    let (mut coordinator, now) = coordinator(Settings::default());
    let from = farther(digest(0)).next().unwrap();
    let stolen = {
        // The words of one epoch under the signature of another.
        let low = grant(&key(2), digest(0), 1, from);
        let mut bytes = shoal_proto::codec::body(&low, 1000).unwrap();
        let at = bytes.iter().position(|byte| *byte == 1).expect("the number");
        bytes[at] = 9;
        shoal_proto::codec::decode::<SignedGrant>(&bytes)
    };
    let endless = grant(&key(2), digest(0), u64::MAX, from);
    for lie in stolen.into_iter().chain([endless]) {
        coordinator.handle(now, Input::Told { from, message: join(digest(0), Some(lie)) });
    }
    let out = drain(&mut coordinator);
    assert!(!out.iter().any(|output| matches!(output, Output::Note(Note::TookOver { .. }))), "{out:?}");
    assert!(coordinator.highest(&digest(0)).is_none());
}

/// A member that has joined the coordinator of `key(1)`.
fn member() -> (Member, Time) {
    let me = key(3).id();
    let mut member = Member::new(me, digest(0), Settings::default());
    let now = Time::ZERO + Duration::from_secs(1);
    member.handle(now, MemberInput::Wanted { can_seed: true });
    member.handle(now, MemberInput::CoordinatorsFound { closest: vec![key(1).id()] });
    member.handle(
        now,
        MemberInput::Told {
            from: key(1).id(),
            message: ToMember::Joined {
                digest: digest(0),
                found: None,
                neighbours: Some(vec![]),
                grant: None,
                importers: None,
                members: 1,
            },
        },
    );
    told(&mut member, now);
    (member, now)
}

fn told(member: &mut Member, now: Time) -> Vec<MemberOutput> {
    let held = PieceSet::empty(1);
    std::iter::from_fn(|| member.poll(now, Own { held: &held, addresses: &[], zone: "" })).collect()
}

#[test]
fn a_member_believes_only_its_coordinator() {
    let (mut member, now) = member();
    let me = key(3).id();
    let cases = [
        // From a node that coordinates nothing.
        (key(7), grant(&key(7), digest(0), 5, me)),
        // Of another's making.
        (key(1), grant(&key(7), digest(0), 5, me)),
        // For another blob, for another seed.
        (key(1), grant(&key(1), digest(1), 5, me)),
        (key(1), grant(&key(1), digest(0), 5, node(9))),
    ];
    for (from, grant) in cases {
        let message = ToMember::Granted { grant, elsewhere: PieceSet::empty(1) };
        member.handle(now, MemberInput::Told { from: from.id(), message });
        let out = told(&mut member, now);
        assert!(matches!(out[..], [MemberOutput::Doubted { .. }]), "{out:?}");
    }
    let seen = grant(&key(7), digest(0), 5, key(7).id());
    member.handle(now, MemberInput::GrantSeen(seen));
    let doubt = Doubt::Stranger { coordinator: key(7).id() };
    assert_eq!(told(&mut member, now), vec![MemberOutput::Doubted { from: me, doubt }]);
}

#[test]
fn a_seed_counts_from_sending_what_was_answered() {
    let (mut member, start) = member();
    let (from, grant) = (key(1).id(), grant(&key(1), digest(0), 1, key(3).id()));
    let granted = ToMember::Granted { grant: grant.clone(), elsewhere: PieceSet::empty(1) };
    member.handle(start, MemberInput::Told { from, message: granted });
    let out = told(&mut member, start);
    assert!(!out.iter().any(|output| matches!(output, MemberOutput::BecomeSeed { .. })), "not before an answer");

    // Two requests; the answer to the first comes late, and twice; one that answers nothing changes nothing.
    let ms = |n| start + Duration::from_millis(n);
    member.handle(ms(500), MemberInput::TimeOut);
    told(&mut member, ms(500));
    let answer = |round| MemberInput::Told { from, message: ToMember::Renewed { grant: grant.clone(), round } };
    member.handle(ms(900), answer(1));
    let until = told(&mut member, ms(900)).into_iter().find_map(|output| match output {
        MemberOutput::BecomeSeed { until, .. } => Some(until),
        _ => None,
    });
    assert_eq!(until, Some(ms(2500)));
    member.handle(ms(1000), answer(1));
    member.handle(ms(1000), answer(77));
    assert_eq!(member.seeds_until(), Some(ms(2500)));
    member.handle(ms(1100), answer(2));
    assert_eq!(member.seeds_until(), Some(ms(3000)));
    told(&mut member, ms(1100));

    member.handle(ms(3000), MemberInput::TimeOut);
    let out = told(&mut member, ms(3000));
    assert!(out.contains(&MemberOutput::StopSeeding(Stopped::Expired)), "{out:?}");
    assert_eq!(member.seeds_until(), None);
}
