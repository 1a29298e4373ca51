//! Limits of what comes and goes, over all connections, set and changed while pieces are on their way.

#![allow(clippy::unwrap_used)] // Functions beside the tests are tests as well, which the lint cannot see.

mod rogue;

use std::time::{Duration, Instant};

use bytes::Bytes;
use rogue::{bounded, connected, digest, endpoint, header, next, speak};
use shoal_pace::Rate;
use shoal_transfer::{Endpoint, Event, Peer, Rates, TransferConfig};
use tokio::{sync::mpsc::Receiver, task::JoinHandle};

const PIECE: u64 = 2 << 20;
/// How much of the rate's time may be caught up, and what may be on its way beside it: some batches, and the windows.
const SLACK: Duration = Duration::from_millis(50);
const BATCHES: u64 = 4 * 15_000;

fn rate(bytes: u64) -> Option<Rate> {
    Rate::of_bytes(bytes)
}

fn up(bytes: u64) -> Rates {
    Rates { up: rate(bytes), down: None }
}

fn down(bytes: u64) -> Rates {
    Rates { up: None, down: rate(bytes) }
}

fn with(rates: Rates) -> TransferConfig {
    TransferConfig { rates, ..TransferConfig::default() }
}

/// Connects one to another that has spoken of the blob.
async fn join(
    from: &Endpoint,
    from_events: &mut Receiver<Event>,
    to: &Endpoint,
    to_events: &mut Receiver<Event>,
) -> Peer {
    let addr = to.local_addr().unwrap();
    let peer = bounded(from.connect(to.node(), &[addr])).await.unwrap();
    connected(from_events).await;
    speak(&connected(to_events).await, digest(), from_events).await;
    peer
}

fn send(peer: &Peer) -> JoinHandle<()> {
    let peer = peer.clone();
    let source = |range: std::ops::Range<u64>| Ok(Bytes::from(vec![7; (range.end - range.start) as usize]));
    tokio::spawn(async move { peer.upload(digest(), header(0), PIECE, source).await.unwrap() })
}

/// Reads the next piece to its end.
async fn read(events: &mut Receiver<Event>) -> JoinHandle<u64> {
    let Event::Piece(piece) = next(events).await else { panic!("no piece") };
    tokio::spawn(async move {
        let mut stream = piece.accept(PIECE);
        while bounded(stream.read_chunk()).await.unwrap().is_some() {}
        stream.received()
    })
}

/// Waits until so many bytes have passed.
async fn reach(count: impl Fn() -> u64, bytes: u64) {
    bounded(async {
        while count() < bytes {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// What passed since the last look, held against what the bucket allows in that time.
struct Meter {
    since: Instant,
    bytes: u64,
}

impl Meter {
    fn allows(&mut self, count: impl Fn() -> u64, rate: u64, beside: u64) {
        // The clock is read before and after, so that a test that is late only allows more.
        let (before, bytes) = (Instant::now(), count());
        let passed = bytes - self.bytes;
        let span = (self.since.elapsed() + SLACK).as_secs_f64();
        let most = (rate as f64 * span * 1.05) as u64 + beside;
        assert!(passed <= most, "{passed} bytes at {rate} a second in {span} s, where {most} are allowed");
        *self = Self { since: before, bytes };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_out_keeps_to_the_limit_over_all_connections() {
    let (slow, fast) = (4_000_000, 16_000_000);
    let mut meter = Meter { since: Instant::now(), bytes: 0 };
    let (a, mut a_events, _) = endpoint(1, &[7], with(up(slow)));
    let (b, mut b_events, _) = endpoint(2, &[7], TransferConfig::default());
    let (c, mut c_events, _) = endpoint(3, &[7], TransferConfig::default());
    let to_b = join(&a, &mut a_events, &b, &mut b_events).await;
    let to_c = join(&a, &mut a_events, &c, &mut c_events).await;
    assert_eq!(a.rates(), up(slow));
    // Those who receive count: what the sender says of itself proves nothing.
    let arrived = || b.counts().udp_bytes_received + c.counts().udp_bytes_received;

    let uploads = [send(&to_b), send(&to_c)];
    let readers = [read(&mut b_events).await, read(&mut c_events).await];
    reach(arrived, PIECE / 2).await;
    meter.allows(arrived, slow, BATCHES);
    a.set_rates(up(fast));
    for reader in readers {
        assert_eq!(reader.await.unwrap(), PIECE);
    }
    meter.allows(arrived, fast, BATCHES);
    for upload in uploads {
        bounded(upload).await.unwrap();
    }
    // Lifted, it leaves nothing behind that anybody waits for.
    a.set_rates(Rates::default());
    let upload = send(&to_b);
    assert_eq!(read(&mut b_events).await.await.unwrap(), PIECE);
    bounded(upload).await.unwrap();
    assert!(a.counts().udp_bytes_sent > 3 * PIECE, "headers count");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_keeps_to_the_limit_over_all_connections() {
    let (slow, fast) = (4_000_000, 16_000_000);
    let mut meter = Meter { since: Instant::now(), bytes: 0 };
    let (a, mut a_events, _) = endpoint(1, &[7], TransferConfig::default());
    let (b, mut b_events, _) = endpoint(2, &[7], TransferConfig::default());
    let (c, mut c_events, _) = endpoint(3, &[7], with(down(slow)));
    let from_a = join(&a, &mut a_events, &c, &mut c_events).await;
    let from_b = join(&b, &mut b_events, &c, &mut c_events).await;
    // What its peers could send ahead of it, at either rate.
    let windows = |rate: u64| 2 * (rate / 10);
    let arrived = || c.counts().udp_bytes_received;

    let uploads = [send(&from_a), send(&from_b)];
    let readers = [read(&mut c_events).await, read(&mut c_events).await];
    reach(arrived, PIECE).await;
    meter.allows(arrived, slow, windows(slow));
    c.set_rates(down(fast));
    for reader in readers {
        assert_eq!(reader.await.unwrap(), PIECE);
    }
    meter.allows(arrived, fast, windows(fast));
    for upload in uploads {
        bounded(upload).await.unwrap();
    }
    c.set_rates(Rates::default());
    let upload = send(&from_a);
    assert_eq!(read(&mut c_events).await.await.unwrap(), PIECE);
    bounded(upload).await.unwrap();
}
