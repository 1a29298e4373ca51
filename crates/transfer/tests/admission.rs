//! Who is let in, and what those learn who are not.

mod rogue;

use std::time::Duration;

use rogue::{bounded, closed, cluster, connected, endpoint, handshake, key, next, pass, refused, word};
use shoal_proto::codec::VERSION;
use shoal_transfer::{AdmissionError, DialError, Event, TransferConfig};

fn why(error: DialError) -> AdmissionError {
    match error {
        DialError::Refused { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_key_is_told_to_both_sides() {
    let (a, mut a_events, _) = endpoint(1, &[7], TransferConfig::default());
    let (b, mut b_events, b_addr) = endpoint(2, &[8], TransferConfig::default());
    let error = bounded(a.connect(b.node(), &[b_addr])).await.unwrap_err();
    assert!(error.to_string().contains("another cluster key"), "{error}");
    assert_eq!(why(error), AdmissionError::AnotherClusterKey);
    match next(&mut b_events).await {
        Event::Refused { node, why, .. } => {
            assert_eq!((node, why), (Some(a.node()), AdmissionError::AnotherClusterKey));
        }
        other => panic!("{other:?}"),
    }
    assert!(a_events.try_recv().is_err() && b_events.try_recv().is_err());
    assert_eq!((a.counts().connections, b.counts().connections, b.counts().refused_key), (0, 0, 1));
    assert!(a.peer(b.node()).is_none() && b.peer(a.node()).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_without_a_restart() {
    let (a, mut a_events, _) = endpoint(1, &[7], TransferConfig::default());
    let (b, mut b_events, b_addr) = endpoint(2, &[9], TransferConfig::default());
    assert!(bounded(a.connect(b.node(), &[b_addr])).await.is_err());
    refused(&mut b_events).await;

    // Both files hold both keys, in whatever order.
    a.set_keys(cluster(&[7, 9]));
    b.set_keys(cluster(&[9, 7]));
    let to_b = bounded(a.connect(b.node(), &[b_addr])).await.unwrap();
    connected(&mut a_events).await;
    connected(&mut b_events).await;
    // A connection that stands is kept.
    a.set_keys(cluster(&[9]));
    b.set_keys(cluster(&[9]));
    to_b.send(&pass(1)).unwrap();
    assert!(matches!(next(&mut b_events).await, Event::Message { .. }));
    to_b.close();
    for events in [&mut a_events, &mut b_events] {
        assert!(matches!(next(events).await, Event::Disconnected { .. }));
    }
    bounded(a.connect(b.node(), &[b_addr])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_hears_nothing_and_is_shown_out() {
    let config = TransferConfig { admission_timeout: Duration::from_millis(700), ..TransferConfig::default() };
    let (a, mut events, addr) = endpoint(1, &[7], config);

    // One that says nothing is closed in time.
    let (_silent, silent) = handshake(2, addr, b"shoal/1").await.unwrap();
    // One with a proof made with another key, which also tries to send a piece.
    let (_liar, liar) = handshake(3, addr, b"shoal/1").await.unwrap();
    let uni = tokio::spawn({
        let liar = liar.clone();
        async move { liar.open_uni().await.map(|_| ()) }
    });
    let (mut send, mut recv) = liar.open_bi().await.unwrap();
    send.write_all(&word(&liar, &cluster(&[8]), key(3).id(), a.node(), 1)).await.unwrap();
    assert!(bounded(recv.read_to_end(1000)).await.is_err());
    let (code, reason) = closed(&liar).await;
    assert_eq!(code, 1);
    assert!(reason.contains("another cluster key"), "{reason}");
    assert!(bounded(uni).await.unwrap().is_err());
    assert_eq!(refused(&mut events).await, AdmissionError::AnotherClusterKey);
    // One that says something else altogether, and one that claims a frame without end.
    let (another, endless) = (&b"GET / HTTP/1.1\r\n\r\n"[..], &[VERSION, 255, 255, 255, 255, 0][..]);
    for (nonsense, code) in [(another, 0x100 + u64::from(VERSION)), (endless, 3)] {
        let (_other, other) = handshake(4, addr, b"shoal/1").await.unwrap();
        let (mut send, mut recv) = other.open_bi().await.unwrap();
        send.write_all(nonsense).await.unwrap();
        assert!(bounded(recv.read_to_end(1000)).await.is_err());
        assert_eq!(closed(&other).await.0, code);
        refused(&mut events).await;
    }

    assert_eq!(closed(&silent).await.0, 2);
    assert_eq!(refused(&mut events).await, AdmissionError::TooLate);
    let counts = a.counts();
    assert_eq!((counts.refused_late, counts.refused_key, counts.refused_version), (1, 1, 1));
    assert_eq!((counts.refused_other, counts.connections), (1, 0));
    assert!(events.try_recv().is_err() && a.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_good_for_its_own_session_alone() {
    let (a, mut events, addr) = endpoint(1, &[7], TransferConfig::default());
    let (_one, one) = handshake(2, addr, b"shoal/1").await.unwrap();
    let (_two, two) = handshake(2, addr, b"shoal/1").await.unwrap();
    let (mut send, _recv) = two.open_bi().await.unwrap();
    send.write_all(&word(&one, &cluster(&[7]), key(2).id(), a.node(), 1)).await.unwrap();
    assert_eq!(closed(&two).await.0, 1);
    assert_eq!(refused(&mut events).await, AdmissionError::AnotherClusterKey);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_take_bounded_room() {
    let config = TransferConfig {
        max_half_admitted: 4,
        admission_timeout: Duration::from_millis(1500),
        ..TransferConfig::default()
    };
    let (a, _events, addr) = endpoint(1, &[7], config);
    let mut silent = Vec::new();
    for seed in 10..14 {
        silent.push(handshake(seed, addr, b"shoal/1").await.unwrap());
    }
    let fifth = bounded(handshake(14, addr, b"shoal/1")).await.unwrap_err();
    assert!(matches!(fifth, quinn::ConnectionError::ConnectionClosed(_)), "{fifth}");
    let (b, _b_events, _) = endpoint(2, &[7], TransferConfig::default());
    assert_eq!(why(bounded(b.connect(a.node(), &[addr])).await.unwrap_err()), AdmissionError::Full);
    for (_, connection) in &silent {
        assert_eq!(closed(connection).await.0, 2);
    }
    bounded(b.connect(a.node(), &[addr])).await.unwrap();
    assert_eq!(a.counts().refused_full, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_than_expected_is_an_error() {
    let (a, mut a_events, a_addr) = endpoint(1, &[7], TransferConfig::default());
    let (b, mut b_events, b_addr) = endpoint(2, &[7], TransferConfig::default());
    let expected = key(3).id();
    let error = bounded(a.connect(expected, &[b_addr])).await.unwrap_err();
    assert_eq!(error, DialError::WrongNode { expected, found: b.node(), addr: b_addr });
    let myself = bounded(a.connect(a.node(), &[a_addr])).await.unwrap_err();
    assert_eq!(why(myself), AdmissionError::Myself);
    assert_eq!(bounded(a.connect(expected, &[])).await.unwrap_err(), DialError::NoAddress { node: expected });
    assert!(a_events.try_recv().is_err() && b_events.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_refused_with_a_clear_word() {
    let (a, mut events, addr) = endpoint(1, &[7], TransferConfig::default());
    let (_newer, newer) = handshake(2, addr, b"shoal/1").await.unwrap();
    let (mut send, _recv) = newer.open_bi().await.unwrap();
    let mut frame = word(&newer, &cluster(&[7]), key(2).id(), a.node(), 1);
    frame[0] = VERSION + 1;
    send.write_all(&frame).await.unwrap();
    let (code, reason) = closed(&newer).await;
    assert_eq!(code, 0x100 + u64::from(VERSION), "the low byte is this daemon's version");
    let both = [VERSION, VERSION + 1].map(|version| reason.contains(&format!("version {version}")));
    assert_eq!(both, [true; 2], "{reason}");
    assert_eq!(refused(&mut events).await, AdmissionError::OtherVersion { theirs: VERSION + 1 });

    let other = handshake(2, addr, b"shoal/9").await.map(|_| ()).unwrap_err();
    assert!(matches!(other, quinn::ConnectionError::ConnectionClosed(_)), "{other}");
    assert_eq!(refused(&mut events).await, AdmissionError::OtherProtocol);
    assert_eq!(a.counts().refused_version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_connected_than_may_be() {
    let config = TransferConfig { max_connections: 1, ..TransferConfig::default() };
    let (a, mut events, addr) = endpoint(1, &[7], config);
    let (b, _b_events, b_addr) = endpoint(2, &[7], TransferConfig::default());
    let (c, _c_events, c_addr) = endpoint(3, &[7], TransferConfig::default());
    bounded(b.connect(a.node(), &[addr])).await.unwrap();
    connected(&mut events).await;
    assert_eq!(why(bounded(c.connect(a.node(), &[addr])).await.unwrap_err()), AdmissionError::Full);
    let error = bounded(a.connect(c.node(), &[c_addr])).await.unwrap_err();
    assert_eq!(error, DialError::Full { node: c.node() });
    assert!(bounded(a.connect(b.node(), &[b_addr])).await.is_ok());
}
