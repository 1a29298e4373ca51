//! What two members do: messages in order, pieces whole.

mod rogue;

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use rogue::{any_port, bounded, connected, digest, disconnected, endpoint, header, key, next, pass, speak};
use shoal_blob::{Digest, Midstate};
use shoal_proto::{
    Authority, Epoch, PieceHeader, Segment,
    topics::MAX_TOPICS,
    trade::{Letter, Message},
};
use shoal_transfer::{
    Disconnect, Event, IncomingPiece, PieceError, PieceStream, Refusal, SendError, TransferConfig, UploadError,
};
use tokio::sync::mpsc::Receiver;

fn bytes(length: usize) -> Bytes {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn source(bytes: Bytes) -> impl FnMut(Range<u64>) -> std::io::Result<Bytes> + Send + 'static {
    move |range| Ok(bytes.slice(range.start as usize..range.end as usize))
}

async fn piece(events: &mut Receiver<Event>) -> IncomingPiece {
    match next(events).await {
        Event::Piece(piece) => piece,
        other => panic!("{other:?} instead of a piece"),
    }
}

async fn collect(mut stream: PieceStream) -> Result<Vec<u8>, PieceError> {
    let mut all = Vec::new();
    while let Some(chunk) = bounded(stream.read_chunk()).await? {
        assert!(!chunk.is_empty());
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_keep_their_order_and_pieces_are_whole() {
    let (a, mut a_events, _) = endpoint(1, &[7], TransferConfig::default());
    let (b, mut b_events, b_addr) = endpoint(2, &[7], TransferConfig::default());
    let to_b = bounded(a.connect(b.node(), &[b_addr])).await.unwrap();
    assert_eq!((to_b.node(), to_b.addr()), (b.node(), b_addr));
    let (_, to_a) = (connected(&mut a_events).await, connected(&mut b_events).await);
    assert_eq!(to_a.node(), a.node());
    assert!(a.rtt(b.node()).is_some());

    let talk = tokio::spawn({
        let (to_a, to_b) = (to_a.clone(), to_b.clone());
        async move {
            for slot in 0..2000 {
                to_b.send(&pass(slot)).unwrap();
                to_a.send(&pass(slot)).unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    for events in [&mut a_events, &mut b_events] {
        for slot in 0..2000 {
            let Event::Message { letter, .. } = next(events).await else { panic!("no message") };
            assert_eq!(letter, pass(slot));
        }
    }
    talk.await.unwrap();

    let whole = bytes(3 << 20);
    let uploads = [to_b.clone(), to_a.clone()].map(|peer| {
        let whole = whole.clone();
        tokio::spawn(async move { peer.upload(digest(), header(4), 3 << 20, source(whole)).await })
    });
    for events in [&mut b_events, &mut a_events] {
        let piece = piece(events).await;
        assert_eq!((piece.digest(), piece.header()), (digest(), &header(4)));
        assert_eq!(collect(piece.accept(3 << 20)).await.unwrap(), whole);
    }
    for upload in uploads {
        bounded(upload).await.unwrap().unwrap();
    }
    let counts = b.counts();
    assert_eq!((counts.pieces_sent, counts.pieces_received, counts.connections), (1, 1, 1));
    assert_eq!((counts.piece_bytes_sent, counts.piece_bytes_received), (3 << 20, 3 << 20));
    let (named, known) = (2 + 1 + 32, 1);
    let passes: usize = (0..2000).map(|slot| if slot < 128 { 2 } else { 3 }).sum();
    assert_eq!(counts.control_bytes_received, (2000 * (1 + known) + passes + named - known) as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_about_many_blobs_keep_what_they_are_about() {
    let (a, mut a_events, _) = endpoint(1, &[7], TransferConfig::default());
    let (b, mut b_events, b_addr) = endpoint(2, &[7], TransferConfig::default());
    let to_b = bounded(a.connect(b.node(), &[b_addr])).await.unwrap();
    connected(&mut a_events).await;
    connected(&mut b_events).await;
    // More blobs than there are numbers, twice around; and a letter that is too long for one frame.
    let letter = |blob: u32| {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&blob.to_be_bytes());
        let messages = vec![Message::Slot { slot: blob }, Message::Offer { slot: blob, piece: 9 }];
        Letter { digest: Digest::Sha256(digest), messages }
    };
    let blobs = || (0..u32::from(MAX_TOPICS) + 100).chain(0..200);
    let sending = tokio::spawn(async move {
        for blob in blobs() {
            to_b.send(&letter(blob)).unwrap();
            tokio::task::yield_now().await;
        }
        let messages = (0..600).map(|slot| Message::Slot { slot }).collect();
        to_b.send(&Letter { digest: letter(1).digest, messages }).unwrap();
    });
    for blob in blobs() {
        let Event::Message { letter: heard, .. } = next(&mut b_events).await else { panic!("no message") };
        assert_eq!(heard, letter(blob));
    }
    let mut heard = Vec::new();
    while heard.len() < 600 {
        let Event::Message { letter: part, .. } = next(&mut b_events).await else { panic!("no message") };
        assert_eq!(part.digest, letter(1).digest);
        heard.extend(part.messages);
    }
    assert!(heard.into_iter().eq((0..600).map(|slot| Message::Slot { slot })));
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pieces_share_a_connection() {
    let config = TransferConfig { piece_streams: 4, ..TransferConfig::default() };
    let (a, mut a_events, _) = endpoint(1, &[7], config.clone());
    let (b, mut b_events, b_addr) = endpoint(2, &[7], config);
    let to_b = bounded(a.connect(b.node(), &[b_addr])).await.unwrap();
    connected(&mut a_events).await;
    speak(&connected(&mut b_events).await, digest(), &mut a_events).await;
    let whole = bytes(300_001);
    let uploads: Vec<_> = (0..20)
        .map(|index| {
            let (to_b, whole) = (to_b.clone(), whole.clone());
            tokio::spawn(async move { to_b.upload(digest(), header(index), 300_001, source(whole)).await })
        })
        .collect();
    let mut receivers = Vec::new();
    for _ in 0..20 {
        let piece = piece(&mut b_events).await;
        let index = piece.header().piece;
        receivers.push(tokio::spawn(async move { (index, collect(piece.accept(300_001)).await.unwrap()) }));
    }
    let mut seen = Vec::new();
    for receiver in receivers {
        let (index, received) = bounded(receiver).await.unwrap();
        assert_eq!(received, whole);
        seen.push(index);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    for upload in uploads {
        bounded(upload).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_signed_segments_go_with_a_piece_and_no_more_than_a_head_holds() {
    let (a, mut a_events, _) = endpoint(1, &[7], TransferConfig::default());
    let (b, mut b_events, b_addr) = endpoint(2, &[7], TransferConfig::default());
    let to_b = bounded(a.connect(b.node(), &[b_addr])).await.unwrap();
    connected(&mut a_events).await;
    speak(&connected(&mut b_events).await, Digest::Sha512([9; 64]), &mut a_events).await;

    let digest = Digest::Sha512([9; 64]);
    let authority = Authority::Lease(Epoch { number: u64::MAX, coordinator: key(3).id() });
    let states = [Midstate::Sha512([5; 8]); 2];
    let segment = |first| Segment::new(digest, 1 << 44, authority, first, &states).sign(&key(3)).testimony();
    let head = PieceHeader { proof: vec![segment(4), segment(8)], ..header(5) };
    let sending = tokio::spawn({
        let (to_b, head) = (to_b.clone(), head.clone());
        async move { to_b.upload(digest, head, 1000, source(bytes(1000))).await }
    });
    let piece = piece(&mut b_events).await;
    assert_eq!((piece.digest(), piece.header()), (digest, &head));
    assert_eq!(collect(piece.accept(1000)).await.unwrap(), bytes(1000));
    bounded(sending).await.unwrap().unwrap();

    let head = PieceHeader { proof: (1..7).map(|piece| segment(4 * piece)).collect(), ..head };
    let error = bounded(to_b.upload(digest, head, 1000, source(bytes(1000)))).await.unwrap_err();
    assert!(matches!(error, UploadError::Head { .. }), "{error:?}");
    assert!(error.to_string().ends_with("where at most 1024 are allowed"), "{error}");
    // One of a blob that the other has not spoken of.
    let other = Digest::Sha256([8; 32]);
    let error = bounded(to_b.upload(other, header(0), 1000, source(bytes(1000)))).await.unwrap_err();
    assert!(matches!(error, UploadError::Unnamed { digest, .. } if digest == other), "{error:?}");
    // Nothing of them was sent, and the connection has taken no harm.
    to_b.send(&pass(1)).unwrap();
    assert!(matches!(next(&mut b_events).await, Event::Message { .. }));
    assert_eq!((a.counts().pieces_sent, b.counts().pieces_received), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_is_not_as_it_should_be_is_cut() {
    let (a, mut a_events, _) = endpoint(1, &[7], TransferConfig::default());
    let (b, mut b_events, b_addr) = endpoint(2, &[7], TransferConfig::default());
    let to_b = bounded(a.connect(b.node(), &[b_addr])).await.unwrap();
    connected(&mut a_events).await;
    speak(&connected(&mut b_events).await, digest(), &mut a_events).await;
    let upload = |length: usize| {
        let to_b = to_b.clone();
        tokio::spawn(async move { to_b.upload(digest(), header(0), length as u64, source(bytes(length))).await })
    };

    // Longer than the piece, by far more than the windows: the sender learns that it was cut.
    let sending = upload(16 << 20);
    let received = collect(piece(&mut b_events).await.accept(1 << 20)).await;
    assert_eq!(received, Err(PieceError::Overlong { node: a.node(), length: 1 << 20 }));
    let refused = bounded(sending).await.unwrap();
    assert!(matches!(refused, Err(UploadError::Refused { refusal: Refusal::Overlong, .. })), "{refused:?}");

    let sending = upload(1000);
    let received = collect(piece(&mut b_events).await.accept(1001)).await;
    assert_eq!(received, Err(PieceError::Short { node: a.node(), received: 1000, length: 1001 }));
    bounded(sending).await.unwrap().unwrap();

    // Refused, or merely dropped, before any of it was read.
    for refusal in [Refusal::NoMidstates, Refusal::Unwanted, Refusal::Cancelled] {
        let sending = upload(16 << 20);
        let piece = piece(&mut b_events).await;
        if refusal == Refusal::Cancelled {
            drop(piece);
        } else {
            piece.refuse(refusal);
        }
        match bounded(sending).await.unwrap() {
            Err(UploadError::Refused { node, refusal: told }) => assert_eq!((node, told), (b.node(), refusal)),
            other => panic!("{other:?}"),
        }
    }

    // A sender that gives up, and one whose source fails.
    let sending = upload(16 << 20);
    let incoming = piece(&mut b_events).await.accept(16 << 20);
    sending.abort();
    assert_eq!(collect(incoming).await, Err(PieceError::GivenUp { node: a.node() }));

    let (begun, wait) = std::sync::mpsc::channel::<()>();
    let failing = tokio::spawn({
        let to_b = to_b.clone();
        let mut good = source(bytes(1 << 20));
        let source = move |range: Range<u64>| match range.start {
            0 => good(range),
            _ => wait
                .recv_timeout(rogue::BOUND)
                .map_or_else(|_| panic!("the receiver never began"), |()| Err(std::io::Error::other("bad disk"))),
        };
        async move { to_b.upload(digest(), header(0), 1 << 20, source).await }
    });
    let incoming = piece(&mut b_events).await.accept(1 << 20);
    begun.send(()).unwrap();
    assert_eq!(collect(incoming).await, Err(PieceError::GivenUp { node: a.node() }));
    assert!(matches!(bounded(failing).await.unwrap(), Err(UploadError::Source { .. })));

    // The connection has taken no harm.
    to_b.send(&pass(1)).unwrap();
    assert!(matches!(next(&mut b_events).await, Event::Message { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_dial_at_once_share_one_connection() {
    for round in 0..20 {
        let (a, mut a_events, a_addr) = endpoint(1, &[7], TransferConfig::default());
        let (b, mut b_events, b_addr) = endpoint(2, &[7], TransferConfig::default());
        let (a_addrs, b_addrs) = ([a_addr], [b_addr]);
        let dials = async { tokio::join!(a.connect(b.node(), &b_addrs), b.connect(a.node(), &a_addrs)) };
        let (to_b, to_a) = bounded(dials).await;
        let (to_b, to_a) = (to_b.unwrap(), to_a.unwrap());
        connected(&mut a_events).await;
        connected(&mut b_events).await;
        to_b.send(&pass(round)).unwrap();
        to_a.send(&pass(round)).unwrap();
        for events in [&mut a_events, &mut b_events] {
            match next(events).await {
                Event::Message { letter, .. } => assert_eq!(letter, pass(round)),
                other => panic!("{other:?} in round {round}"),
            }
        }
        assert_eq!((a.counts().connections, b.counts().connections), (1, 1));
        assert_eq!((a.peers().len(), b.peers().len()), (1, 1));
        assert!(a_events.try_recv().is_err() && b_events.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_that_leads_nowhere_does_not_keep_the_other_out() {
    let config = TransferConfig { dial_timeout: Duration::from_millis(600), ..TransferConfig::default() };
    let (a, b) = (endpoint(1, &[7], config.clone()), endpoint(2, &[7], config));
    // The node with the smaller name dials a socket that never answers; its dial would go first.
    let ((here, mut here_events, here_addr), (there, mut there_events, _)) =
        if a.0.node() < b.0.node() { (a, b) } else { (b, a) };
    let dead = std::net::UdpSocket::bind(any_port()).unwrap();
    let (dead_addrs, here_addrs) = ([dead.local_addr().unwrap()], [here_addr]);
    let dials =
        async { tokio::join!(here.connect(there.node(), &dead_addrs), there.connect(here.node(), &here_addrs)) };
    let (to_there, to_here) = bounded(dials).await;
    let (to_there, to_here) = (to_there.unwrap(), to_here.unwrap());
    connected(&mut here_events).await;
    connected(&mut there_events).await;
    to_there.send(&pass(1)).unwrap();
    to_here.send(&pass(2)).unwrap();
    assert!(matches!(next(&mut here_events).await, Event::Message { .. }));
    assert!(matches!(next(&mut there_events).await, Event::Message { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_and_addresses_make_one_connection() {
    let (a, mut a_events, _) = endpoint(1, &[7], TransferConfig::default());
    let (b, mut b_events, b_addr) = endpoint(2, &[7], TransferConfig::default());
    // The first address is dead, the last is right.
    let dead = std::net::UdpSocket::bind(any_port()).unwrap();
    let addrs = [dead.local_addr().unwrap(), b_addr];
    let dials: Vec<_> = (0..8)
        .map(|_| {
            let (a, node) = (a.clone(), b.node());
            tokio::spawn(async move { a.connect(node, &addrs).await })
        })
        .collect();
    for dial in dials {
        assert_eq!(bounded(dial).await.unwrap().unwrap().addr(), b_addr);
    }
    connected(&mut a_events).await;
    connected(&mut b_events).await;
    assert_eq!(b.counts().connections, 1);
    assert!(a_events.try_recv().is_err() && b_events.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_started_anew_takes_its_own_place() {
    let (a, mut a_events, a_addr) = endpoint(1, &[7], TransferConfig::default());
    let first = rogue::rogue(2, &[7], 100, a.node(), a_addr).await;
    let old = connected(&mut a_events).await;
    // The same life once more is one too many; another life takes the place.
    let (_endpoint, again) = rogue::handshake(2, a_addr, b"shoal/1").await.unwrap();
    let (mut send, _recv) = again.open_bi().await.unwrap();
    send.write_all(&rogue::word(&again, &rogue::cluster(&[7]), key(2).id(), a.node(), 100)).await.unwrap();
    assert_eq!(rogue::closed(&again).await.0, 5);
    assert_eq!(a.counts().refused_duplicate, 1);

    let _second = rogue::rogue(2, &[7], 101, a.node(), a_addr).await;
    assert_eq!(disconnected(&mut a_events).await, Disconnect::Replaced);
    let new = connected(&mut a_events).await;
    assert_eq!(old.send(&pass(1)), Err(SendError::Gone(key(2).id())));
    new.send(&pass(1)).unwrap();
    assert_eq!(rogue::closed(&first.connection).await.0, 8);
    assert_eq!(a.counts().connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_drains_what_is_under_way() {
    let (a, mut a_events, _) = endpoint(1, &[7], TransferConfig::default());
    let (b, mut b_events, b_addr) = endpoint(2, &[7], TransferConfig::default());
    let to_b = bounded(a.connect(b.node(), &[b_addr])).await.unwrap();
    connected(&mut a_events).await;
    speak(&connected(&mut b_events).await, digest(), &mut a_events).await;
    let whole = bytes(2 << 20);
    let sending = tokio::spawn({
        let (to_b, whole) = (to_b.clone(), whole.clone());
        async move { to_b.upload(digest(), header(0), 2 << 20, source(whole)).await }
    });
    let incoming = piece(&mut b_events).await;
    (0..500).for_each(|slot| to_b.send(&pass(slot)).unwrap());
    let closing = tokio::spawn({
        let a = a.clone();
        async move { a.close(rogue::BOUND).await }
    });
    assert_eq!(collect(incoming.accept(2 << 20)).await.unwrap(), whole);
    for slot in 0..500 {
        let Event::Message { letter, .. } = next(&mut b_events).await else { panic!("no message") };
        assert_eq!(letter, pass(slot));
    }
    assert_eq!(disconnected(&mut b_events).await, Disconnect::PeerLeft);
    bounded(sending).await.unwrap().unwrap();
    bounded(closing).await.unwrap();
    disconnected(&mut a_events).await;
    assert!(to_b.send(&pass(0)).is_err());
    assert!(a.connect(b.node(), &[b_addr]).await.is_err());
}
