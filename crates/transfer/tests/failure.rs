//! Peers that break the rules, stop reading, or die.

mod rogue;

use std::time::Duration;

use rogue::{bounded, closed, connected, digest, disconnected, endpoint, header, key, next, pass, rogue, written};
use shoal_proto::{
    codec::{self, CodecError, MAX_PIECE_HEADER, MAX_TRADE_BODY},
    topics::{Topic, TopicError},
};
use shoal_transfer::{Disconnect, Event, Peer, PieceError, SendError, TransferConfig};

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_too_long_or_makes_no_sense_ends_its_peer() {
    let (a, mut events, addr) = endpoint(1, &[7], TransferConfig::default());
    let long = codec::body(&(MAX_TRADE_BODY + 1), 5).unwrap();
    let senseless = codec::brief(&[&[255; 4]], 4).unwrap();
    // The length of one byte in two, and none that ends.
    let (odd, endless) = (vec![0x81, 0, 11], vec![255; 5]);
    let (unknown, skipped) = (written(Topic::Known(1), 5), written(Topic::New(2, digest()), 5));
    let broken = [long, senseless, odd, unknown, skipped, endless];
    for (life, bytes) in (1..).zip(broken) {
        let mut peer = rogue(2, &[7], life, a.node(), addr).await;
        connected(&mut events).await;
        // What is good before it is still heard.
        peer.send.write_all(&written(Topic::New(0, digest()), 5)).await.unwrap();
        peer.send.write_all(&written(Topic::Known(0), 6)).await.unwrap();
        for slot in [5, 6] {
            let Event::Message { letter, .. } = next(&mut events).await else { panic!("no message") };
            assert_eq!(letter, pass(slot));
        }
        peer.send.write_all(&bytes).await.unwrap();
        match (life, disconnected(&mut events).await) {
            (1, Disconnect::Broken(error)) => assert!(matches!(error, CodecError::TooLong { .. }), "{error}"),
            (2 | 3 | 6, Disconnect::Broken(error)) => assert!(matches!(error, CodecError::Malformed(_)), "{error}"),
            (4, Disconnect::Broken(error)) => assert_eq!(error, CodecError::Topic(TopicError::Unknown(1))),
            (5, Disconnect::Broken(error)) => {
                assert_eq!(error, CodecError::Topic(TopicError::OutOfTurn { number: 2, next: 1 }));
            }
            (life, why) => panic!("{why:?} of life {life}"),
        }
        let (code, reason) = closed(&peer.connection).await;
        assert_eq!((code, reason.is_empty()), (3, false));
        assert!(life != 4 || reason.ends_with("number 1 stands for no blob"), "{reason}");
    }
    assert_eq!(a.counts().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_without_a_head_ends_its_peer_and_a_late_one_its_stream() {
    let config = TransferConfig { header_timeout: Duration::from_millis(200), ..TransferConfig::default() };
    let (a, mut events, addr) = endpoint(1, &[7], config);
    let peer = rogue(2, &[7], 1, a.node(), addr).await;
    connected(&mut events).await;
    let mut late = peer.connection.open_uni().await.unwrap();
    late.write_all(&[9]).await.unwrap();
    assert!(bounded(late.stopped()).await.unwrap().is_some());

    let mut stream = peer.connection.open_uni().await.unwrap();
    stream.write_all(&codec::body(&(MAX_PIECE_HEADER + 1), 5).unwrap()).await.unwrap();
    let why = disconnected(&mut events).await;
    assert_eq!(why, Disconnect::Broken(CodecError::TooLong { length: 1025, limit: MAX_PIECE_HEADER }));
    assert_eq!(closed(&peer.connection).await.0, 3);
}

/// An honest node speaks of the blob, which has number 0 on its side then.
async fn spoken_of(to_peer: &Peer, peer: &mut rogue::Rogue) {
    to_peer.send(&pass(1)).expect("the link is up");
    bounded(peer.recv.read_exact(&mut [0])).await.expect("a frame");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_of_no_blob_that_was_spoken_of_is_not_taken() {
    let (a, mut events, addr) = endpoint(1, &[7], TransferConfig::default());
    let mut peer = rogue(2, &[7], 1, a.node(), addr).await;
    let to_peer = connected(&mut events).await;
    let head = |number: u16| codec::encode_brief(&(number, header(3)), MAX_PIECE_HEADER).unwrap();
    // What the sender itself calls the blob is nothing to the receiver.
    peer.send.write_all(&written(Topic::New(0, digest()), 5)).await.unwrap();
    assert!(matches!(next(&mut events).await, Event::Message { .. }));
    for (number, spoken) in [(0, false), (1, true), (u16::MAX, true)] {
        if spoken {
            spoken_of(&to_peer, &mut peer).await;
        }
        let mut stream = peer.connection.open_uni().await.unwrap();
        stream.write_all(&head(number)).await.unwrap();
        let code = bounded(stream.stopped()).await.unwrap().map(quinn::VarInt::into_inner);
        assert_eq!(code, Some(1), "unwanted, number {number}");
    }
    // The connection has taken no harm.
    let mut stream = peer.connection.open_uni().await.unwrap();
    stream.write_all(&head(0)).await.unwrap();
    let Event::Piece(piece) = next(&mut events).await else { panic!("no piece") };
    assert_eq!(piece.digest(), digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_stalls_is_given_up() {
    let config = TransferConfig { stall_timeout: Duration::from_millis(300), ..TransferConfig::default() };
    let (a, mut events, addr) = endpoint(1, &[7], config);
    let mut peer = rogue(2, &[7], 1, a.node(), addr).await;
    let to_peer = connected(&mut events).await;
    spoken_of(&to_peer, &mut peer).await;
    let mut stream = peer.connection.open_uni().await.unwrap();
    stream.write_all(&codec::encode_brief(&(0, header(3)), MAX_PIECE_HEADER).unwrap()).await.unwrap();
    stream.write_all(b"some").await.unwrap();
    let Event::Piece(piece) = next(&mut events).await else { panic!("no piece") };
    assert_eq!((piece.digest(), piece.header()), (digest(), &header(3)));
    let mut piece = piece.accept(100);
    assert_eq!(bounded(piece.read_chunk()).await.unwrap().unwrap(), "some");
    assert_eq!(bounded(piece.read_chunk()).await, Err(PieceError::Stalled { node: key(2).id() }));
    drop(piece);
    assert!(bounded(stream.stopped()).await.unwrap().is_some());

    // A receiver that does not read.
    peer.send.write_all(&written(Topic::New(0, digest()), 5)).await.unwrap();
    assert!(matches!(next(&mut events).await, Event::Message { .. }));
    let zeros = |range: std::ops::Range<u64>| Ok(bytes::Bytes::from(vec![0; (range.end - range.start) as usize]));
    let stalled = bounded(to_peer.upload(digest(), header(0), 64 << 20, zeros)).await.unwrap_err();
    assert!(matches!(stalled, shoal_transfer::UploadError::Stalled { .. }), "{stalled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_no_messages_is_disconnected() {
    let config = TransferConfig { control_queue: 100_000, ..TransferConfig::default() };
    let (a, mut events, addr) = endpoint(1, &[7], config);
    let peer = rogue(2, &[7], 1, a.node(), addr).await;
    let to_peer = connected(&mut events).await;
    let overflow = bounded(async {
        loop {
            if let Err(error) = to_peer.send(&pass(1)) {
                return error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(overflow, SendError::TooSlow(key(2).id()));
    assert_eq!(disconnected(&mut events).await, Disconnect::TooSlow);
    assert_eq!(closed(&peer.connection).await.0, 6);
    assert_eq!(to_peer.send(&pass(1)), Err(SendError::Gone(key(2).id())));
}

#[test]
fn a_peer_that_dies_is_noticed() {
    let config = TransferConfig {
        idle_timeout: Duration::from_secs(1),
        keep_alive: Duration::from_millis(200),
        ..TransferConfig::default()
    };
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    let (a, mut events, addr) = {
        let _here = here.enter();
        endpoint(1, &[7], config.clone())
    };
    let b = {
        let _there = there.enter();
        endpoint(2, &[7], config)
    };
    let (b, _b_events) = (b.0, b.1);
    let node = a.node();
    there.block_on(async { bounded(b.connect(node, &[addr])).await.unwrap() });
    here.block_on(async {
        let peer = connected(&mut events).await;
        // Its tasks and its socket vanish without a word.
        there.shutdown_background();
        assert_eq!(disconnected(&mut events).await, Disconnect::TimedOut);
        assert!(!peer.is_connected() && a.peers().is_empty());
    });
}
