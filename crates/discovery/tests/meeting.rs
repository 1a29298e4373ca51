//! Nodes find each other, talk, and notice who has gone.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cluster;

use std::{net::SocketAddr, time::Duration};

use cluster::{LIMIT, Member, config, eventually, key, keys, message, start};
use shoal_blob::Digest;
use shoal_discovery::{DiscoveryConfig, Event, Readiness, SendError, StartError};
use shoal_proto::{
    NodeId, Visibility,
    coordination::{Coordination, Holding, Probe, ToCoordinator},
};

async fn cluster(size: u8) -> Vec<Member> {
    let first = start(config(1, &[])).await;
    let bootstrap = first.bootstrap();
    let mut members = vec![first];
    for number in 2..=size {
        members.push(start(config(number, &bootstrap)).await);
    }
    members
}

fn others(members: &[Member], me: NodeId) -> Vec<NodeId> {
    members.iter().map(Member::id).filter(|id| *id != me).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_with_one_bootstrap_see_each_other_and_talk() {
    let mut members = cluster(5).await;
    let ids: Vec<_> = members.iter().map(Member::id).collect();
    for at in 0..members.len() {
        let rest = others(&members, ids[at]);
        members[at].sees(&rest).await;
    }
    for (from, member) in members.iter().enumerate() {
        for to in &ids {
            member.discovery.send(*to, message(from as u8)).unwrap();
        }
    }
    for member in &mut members {
        let mut heard = Vec::new();
        while heard.len() < ids.len() {
            heard.push(member.message().await);
        }
        heard.sort_unstable_by_key(|(from, _)| *from);
        let mut expected: Vec<_> = ids.iter().enumerate().map(|(at, id)| (*id, message(at as u8))).collect();
        expected.sort_unstable_by_key(|(from, _)| *from);
        assert_eq!(heard, expected, "one from each, my own among them");
    }

    let digest = Digest::Sha256([7; 32]);
    let mut expected = ids.clone();
    expected.sort_unstable_by_key(|id| id.distance(&digest));
    for member in &members {
        assert_eq!(member.discovery.closest(&digest).await, expected);
        for other in &members {
            let known = || member.discovery.addresses(other.id()) == [other.address()];
            eventually("the address is known", known).await;
        }
        let counts = member.discovery.counters().read();
        assert_eq!((counts.peers_connected, counts.messages_in), (4, 4));
        assert!(counts.bytes_in > 0 && counts.messages_failed == 0 && counts.admitted >= 4);
    }
}

/// All start in the same moment and each is ready only when it sees all that were ready before it; when the last is
/// ready, all see all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_are_ready_all_see_all() {
    const SIZE: u8 = 24;
    let mut first = start(config(1, &[])).await;
    assert_eq!(first.readiness().await, Readiness::NobodyThere);
    let bootstrap = first.bootstrap();
    let starting = (2..=SIZE).map(|number| tokio::spawn(start(config(number, &bootstrap))));
    let mut members = vec![first];
    for member in starting.collect::<Vec<_>>() {
        members.push(member.await.unwrap());
    }
    for member in &mut members[1..] {
        member.joined().await;
    }
    for member in &members {
        let mut expected = others(&members, member.id());
        expected.sort_unstable();
        assert_eq!(member.discovery.live(), expected);
    }
}

/// As behind a name that has the addresses of all: nobody is first, and one's own address is among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_all_have_the_same_bootstrap_list_join() {
    let listeners: Vec<_> = (0..4).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    drop(listeners);
    let bootstrap: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let starting = (1..).zip(&addresses).map(|(number, address)| {
        tokio::spawn(start(DiscoveryConfig { listen: vec![*address], ..config(number, &bootstrap) }))
    });
    let mut members = Vec::new();
    for member in starting.collect::<Vec<_>>() {
        members.push(member.await.unwrap());
    }
    for member in &mut members {
        member.joined().await;
    }
    for member in &members {
        let mut expected = others(&members, member.id());
        expected.sort_unstable();
        assert_eq!(member.discovery.live(), expected);
    }
}

#[tokio::test]
async fn a_name_is_a_bootstrap() {
    let first = start(config(1, &[])).await;
    let mut second = start(config(2, &[format!("localhost:{}", first.address().port())])).await;
    assert_eq!(second.joined().await, 1);
    second.sees(&[first.id()]).await;
}

#[tokio::test]
async fn without_a_bootstrap_there_is_nobody_to_join() {
    let mut alone = start(config(1, &[])).await;
    assert_eq!(alone.readiness().await, Readiness::NobodyThere);
    assert_eq!(alone.discovery.closest(&Digest::Sha256([1; 32])).await, [alone.id()]);
}

#[tokio::test]
async fn a_name_that_gives_only_my_own_address_means_nobody_is_there() {
    let port = free_port();
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], port))];
    let mut alone = start(DiscoveryConfig { listen, ..config(1, &[format!("localhost:{port}")]) }).await;
    assert_eq!(alone.readiness().await, Readiness::NobodyThere);
}

/// A host that hangs takes connections and says nothing. When it goes on it must not find one for each time it was asked.
#[tokio::test]
async fn an_address_that_does_not_answer_is_dialled_once_at_a_time() {
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    hung.set_nonblocking(true).unwrap();
    // Where nobody listens every dial fails at once: these tell how often the bootstrap was asked.
    let bootstrap = [hung.local_addr().unwrap(), SocketAddr::from(([127, 0, 0, 1], free_port()))];
    let bootstrap = bootstrap.map(|address| address.to_string());
    let patient = DiscoveryConfig { handshake_timeout: 3 * cluster::LIMIT, ..config(1, &bootstrap) };
    let member = start(patient).await;
    eventually("the bootstrap was asked four times", || member.discovery.counters().read().dial_failures >= 4).await;
    let waiting: Vec<_> = std::iter::from_fn(|| hung.accept().ok()).collect();
    assert_eq!(waiting.len(), 1);
}

#[tokio::test]
async fn a_silent_bootstrap_means_going_on_alone_and_joining_later() {
    let port = free_port();
    let waiting = DiscoveryConfig {
        alone_after: Duration::from_millis(700),
        ..config(1, &[SocketAddr::from(([127, 0, 0, 1], port)).to_string()])
    };
    let mut early = start(waiting).await;
    assert_eq!(early.readiness().await, Readiness::AloneAfterTimeout);
    assert_eq!(early.discovery.counters().read().alone, 1);

    let listen = vec![SocketAddr::from(([127, 0, 0, 1], port))];
    let late = start(DiscoveryConfig { listen, ..config(2, &[]) }).await;
    assert_eq!(early.joined().await, 1);
    early.sees(&[late.id()]).await;
    assert_eq!(early.discovery.counters().read().alone, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_went_leaves_the_views_and_is_found_again_at_its_address() {
    let mut members = cluster(3).await;
    let ids: Vec<_> = members.iter().map(Member::id).collect();
    for at in 0..members.len() {
        let rest = others(&members, ids[at]);
        members[at].sees(&rest).await;
    }
    // It is not a bootstrap, and knows none when it comes back: the others find it where it was.
    let gone = members.pop().unwrap();
    let listen = vec![gone.address()];
    gone.discovery.shutdown().await;
    assert!(matches!(gone.discovery.send(ids[0], message(1)), Err(SendError::Stopped)));
    members[0].sees(&ids[1..2]).await;
    members[1].sees(&ids[..1]).await;

    members[0].discovery.send(ids[2], message(1)).unwrap();
    let unreachable = |event: &Event| matches!(event, Event::Unreachable { node } if *node == ids[2]).then_some(());
    members[0].until("unreachable node", unreachable).await;

    let mut back = start(DiscoveryConfig { listen, ..config(3, &[]) }).await;
    back.sees(&ids[..2]).await;
    members[0].sees(&ids[1..]).await;
    members[0].discovery.send(ids[2], message(9)).unwrap();
    assert_eq!(back.message().await, (ids[0], message(9)));
}

/// A node whose connections stay open but that no longer runs: only pings can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_leaves_the_views() {
    let mut first = start(config(1, &[])).await;
    let bootstrap = first.bootstrap();
    let (send, receive) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut second = runtime.block_on(start(config(2, &bootstrap)));
        runtime.block_on(second.joined());
        // From here on nothing in this runtime moves until the test ends.
        receive.recv().ok();
    });
    first.sees(&[key(2).id()]).await;
    first.sees(&[]).await;
    assert_eq!(first.discovery.counters().read().peers_silent, 1);
    drop(send);
    thread.join().unwrap();
}

#[tokio::test]
async fn an_unknown_node_is_unreachable_and_too_long_a_message_is_refused() {
    let mut alone = start(config(1, &[])).await;
    let nobody = key(99).id();
    alone.discovery.send(nobody, message(1)).unwrap();
    let unreachable = |event: &Event| matches!(event, Event::Unreachable { node } if *node == nobody).then_some(());
    alone.until("unreachable node", unreachable).await;

    let holdings = vec![
        Holding {
            digest: Digest::Sha512([1; 64]),
            found: Probe { length: u64::MAX, visibility: Visibility::Public }
        };
        10_000
    ];
    let announce = ToCoordinator::Announce { holdings, addresses: vec![], zone: String::new() };
    let refused = alone.discovery.send(nobody, Coordination::ToCoordinator(announce));
    assert!(matches!(refused, Err(SendError::Encoding(_))));
}

#[tokio::test]
async fn many_messages_to_one_node_all_arrive() {
    let mut first = start(config(1, &[])).await;
    let mut second = start(config(2, &first.bootstrap())).await;
    second.joined().await;
    let total: usize = 2000;
    for number in 0..total {
        second.discovery.send(first.id(), message(number as u8)).unwrap();
    }
    for _ in 0..total {
        first.message().await;
    }
    let counters = second.discovery.clone();
    eventually("nothing failed", || counters.counters().read().messages_out == total as u64).await;
    assert_eq!(counters.counters().read().messages_failed, 0);
}

/// Beyond the mesh the answer comes from a walk, and all come to the same nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_large_cluster_all_agree_who_is_closest() {
    const SIZE: u8 = 12;
    let sparse = |number, bootstrap: &[String]| DiscoveryConfig { mesh: 4, ..config(number, bootstrap) };
    let first = start(sparse(1, &[])).await;
    let mut members = vec![first];
    for number in 2..=SIZE {
        let mut member = start(sparse(number, &members[0].bootstrap())).await;
        member.joined().await;
        members.push(member);
    }
    let digest = Digest::Sha256([5; 32]);
    let mut expected: Vec<_> = members.iter().map(Member::id).collect();
    expected.sort_unstable_by_key(|id| id.distance(&digest));
    for member in &members {
        assert_eq!(member.discovery.closest(&digest).await, expected);
    }
    assert!(members.iter().any(|member| member.discovery.counters().read().queries > 1));
}

#[tokio::test]
async fn what_cannot_work_is_an_error_at_the_start() {
    let start = |config| shoal_discovery::Discovery::start(config);
    let bad = start(config(1, &["localhost".into()])).await.unwrap_err();
    assert!(matches!(&bad, StartError::Bootstrap { entry } if entry == "localhost"), "{bad}");
    let none = start(DiscoveryConfig { listen: vec![], ..config(1, &[]) }).await.unwrap_err();
    assert!(matches!(none, StartError::NothingToListenOn));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = vec![taken.local_addr().unwrap()];
    let taken = start(DiscoveryConfig { listen, ..config(1, &[]) }).await.unwrap_err();
    assert!(matches!(taken, StartError::Listen { .. }), "{taken}");
}

#[tokio::test]
async fn all_interfaces_can_be_listened_on_and_something_else_advertised() {
    let listen = vec![SocketAddr::from(([0, 0, 0, 0], 0))];
    let everywhere = start(DiscoveryConfig { listen: listen.clone(), ..config(1, &[]) }).await;
    let port = everywhere.address().port();
    assert_ne!(port, 0);
    assert!(everywhere.discovery.listen_addrs().contains(&SocketAddr::from(([127, 0, 0, 1], port))));
    assert!(!everywhere.discovery.my_addresses().is_empty());

    let advertise = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let bootstrap = [format!("127.0.0.1:{port}")];
    let mut told = start(DiscoveryConfig { listen, advertise, ..config(2, &bootstrap) }).await;
    told.joined().await;
    let advertised = SocketAddr::from(([127, 0, 0, 1], told.address().port()));
    assert_eq!(told.discovery.my_addresses(), [advertised]);
}

#[tokio::test]
async fn withdrawn_keys_close_the_door_and_rotation_keeps_it_open() {
    let mut first = start(config(1, &[])).await;
    let mut second = start(config(2, &first.bootstrap())).await;
    second.joined().await;
    first.sees(&[second.id()]).await;
    let both = |a: char, b: char| {
        let lines = [a, b].map(|digit| digit.to_string().repeat(64)).join("\n");
        shoal_proto::ClusterKeys::parse(&lines).unwrap()
    };
    // The new key is accepted everywhere, then proves everywhere, then the old one goes.
    for keys in [both('a', 'b'), both('b', 'a'), keys('b')] {
        for member in [&first, &second] {
            member.discovery.set_keys(keys.clone());
        }
    }
    let counts = || (first.discovery.counters().read().admitted, second.discovery.counters().read().admitted);
    eventually("admitted anew", || counts().0 >= 2 && counts().1 >= 2).await;
    let mut third = start(DiscoveryConfig { keys: keys('b'), ..config(3, &first.bootstrap()) }).await;
    third.joined().await;
    third.sees(&[first.id(), second.id()]).await;

    // Without the rotation, a withdrawn key shuts a member out, although it is connected.
    first.discovery.set_keys(keys('c'));
    first.sees(&[]).await;
    let patience = tokio::time::timeout(LIMIT, async {
        while first.discovery.counters().read().refused_key == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    patience.await.unwrap();
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
