//! Pieces in runs: few requests, few connections, a bound of bytes in flight.
#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;
use shoal_origin::{OriginError, Refusal, RunEvent, RunSettings, Runs};
use shoal_registry::{Faults, Refusal as Refuse, Registry, Target};
use support::*;

const PIECE: u64 = 1 << 20;

fn settings() -> RunSettings {
    let (run_bytes, overlap) = (4 * PIECE, PIECE / 2);
    // Nothing is slow but where a test says so: this machine may be busy.
    RunSettings { in_flight: 8 * PIECE, run_bytes, overlap, slow: 0, ..RunSettings::default() }
}

fn runs(registry: &Registry, digest: shoal_blob::Digest, pieces: u32, settings: RunSettings) -> Runs {
    Runs::new(origins(&registry.url()), repository(), digest, u64::from(pieces) * PIECE, settings)
}

fn want(runs: &mut Runs, pieces: impl IntoIterator<Item = u32>) {
    for piece in pieces {
        runs.want(piece, u64::from(piece) * PIECE..u64::from(piece + 1) * PIECE);
    }
}

/// Takes all events and checks what holds at all times.
async fn drain(runs: &mut Runs, most: u64) -> (BTreeMap<u32, Vec<u8>>, Vec<u32>, Vec<(u32, OriginError)>) {
    let (mut bytes, mut done, mut failed) = (BTreeMap::<u32, Vec<u8>>::new(), Vec::new(), Vec::new());
    while let Some(event) = tokio::time::timeout(LONG, runs.next()).await.expect("the run goes on") {
        assert!(runs.in_flight() <= most, "{} bytes in flight", runs.in_flight());
        match event {
            RunEvent::Chunk { piece, bytes: part } => bytes.entry(piece).or_default().extend_from_slice(&part),
            RunEvent::Done { piece } => done.push(piece),
            RunEvent::Failed { piece, error } => failed.push((piece, error)),
        }
    }
    assert!(runs.is_idle());
    (bytes, done, failed)
}

#[tokio::test]
async fn neighbours_share_a_request_and_arrive_in_order() {
    let (model, digest) = artifact(16 * PIECE);
    let registry = registry(&model).await;
    let mut runs = runs(&registry, digest, 16, settings());
    want(&mut runs, 0..16);
    want(&mut runs, 3..5);
    let (bytes, done, failed) = drain(&mut runs, settings().in_flight).await;
    let all = bytes_of(model.layer());
    assert!(failed.is_empty() && bytes.into_values().flatten().eq(all));
    assert_eq!(done.len(), 16);
    assert_eq!(done[0], 0, "the first piece is the first");
    let counts = registry.counts().blob(&digest);
    assert_eq!((counts.gets, counts.bytes_sent), (4, 16 * PIECE), "{:?}", counts.ranges);
    assert!(registry.counts().connections <= 2, "a fast origin needs no more than the next run's connection");
}

#[tokio::test]
async fn only_neighbours_share_a_request() {
    let (model, digest) = artifact(16 * PIECE);
    let registry = registry(&model).await;
    let mut runs = runs(&registry, digest, 16, settings());
    want(&mut runs, [9, 1, 2, 5]);
    let (bytes, done, _) = drain(&mut runs, settings().in_flight).await;
    assert_eq!(done.len(), 4);
    for (piece, bytes) in bytes {
        assert_eq!(bytes, model.layer().read(u64::from(piece) * PIECE, PIECE as usize), "piece {piece}");
    }
    let ranges = registry.counts().blob(&digest).ranges;
    assert_eq!(ranges, [9 * PIECE..10 * PIECE, PIECE..3 * PIECE, 5 * PIECE..6 * PIECE]);
}

#[tokio::test]
async fn pieces_survive_broken_connections() {
    let (model, digest) = artifact(16 * PIECE);
    let registry = registry(&model).await;
    registry.set_faults(Faults::none().break_after(1..2_000_000, 11));
    let mut runs = runs(&registry, digest, 16, settings());
    want(&mut runs, 0..16);
    let (bytes, done, failed) = drain(&mut runs, settings().in_flight).await;
    assert!(failed.is_empty(), "{failed:?}");
    assert!(bytes.into_values().flatten().eq(bytes_of(model.layer())));
    assert_eq!(done.len(), 16);
}

#[tokio::test]
async fn a_slow_origin_is_asked_over_several_connections() {
    let (model, digest) = artifact(64 * PIECE);
    let registry = registry(&model).await;
    registry.set_faults(Faults::none().rate_of_each(12_000_000));
    let watch = Duration::from_millis(20);
    let slow = RunSettings { slow: u64::MAX, watch, connections: 3, in_flight: 64 * PIECE, ..settings() };
    let mut runs = runs(&registry, digest, 64, slow);
    want(&mut runs, 0..64);
    let (bytes, done, _) = drain(&mut runs, slow.in_flight).await;
    assert!(bytes.into_values().flatten().eq(bytes_of(model.layer())));
    assert_eq!(done.len(), 64);
    assert_eq!(registry.counts().blob(&digest).bodies_peak, 3);
}

#[tokio::test]
async fn a_link_that_is_full_is_left_to_one_connection() {
    let (model, digest) = artifact(64 * PIECE);
    let registry = registry(&model).await;
    registry.set_faults(Faults::none().rate(24_000_000));
    let watch = Duration::from_millis(20);
    let slow = RunSettings { slow: u64::MAX, watch, connections: 4, in_flight: 64 * PIECE, overlap: 1, ..settings() };
    let mut runs = runs(&registry, digest, 64, slow);
    want(&mut runs, 0..64);
    let mut open = Vec::new();
    while let Some(event) = tokio::time::timeout(LONG, runs.next()).await.expect("the run goes on") {
        if matches!(event, RunEvent::Done { .. }) {
            open.push(runs.connections());
        }
    }
    assert_eq!(open.len(), 64);
    assert!(open.contains(&2), "a second one is tried: {open:?}");
    assert!(open[32..].iter().all(|count| *count <= 1), "and brings nothing: {open:?}");
}

#[tokio::test]
async fn one_connection_serves_while_it_is_not_slow() {
    let (model, digest) = artifact(8 * PIECE);
    let registry = registry(&model).await;
    registry.set_faults(Faults::none().rate(20_000_000));
    let one = RunSettings { overlap: 1, ..settings() };
    let mut runs = runs(&registry, digest, 8, one);
    want(&mut runs, 0..8);
    drain(&mut runs, one.in_flight).await;
    assert_eq!(registry.counts().blob(&digest).bodies_peak, 1);
}

#[tokio::test]
async fn a_cancelled_piece_is_not_heard_of_again() {
    let (model, digest) = artifact(8 * PIECE);
    let registry = registry(&model).await;
    registry.hold_at(&digest, PIECE / 2);
    let mut runs = runs(&registry, digest, 8, settings());
    want(&mut runs, 0..8);
    let Some(RunEvent::Chunk { piece: 0, .. }) = runs.next().await else { panic!("the first bytes are the first's") };
    for piece in [0, 2, 3, 6] {
        runs.cancel(piece);
        assert!(!runs.wants(piece));
    }
    registry.release(&digest);
    let (bytes, mut done, _) = drain(&mut runs, settings().in_flight).await;
    done.sort_unstable();
    assert_eq!(done, [1, 4, 5, 7]);
    for (piece, bytes) in bytes {
        assert_eq!(bytes, model.layer().read(u64::from(piece) * PIECE, PIECE as usize), "piece {piece}");
    }
    want(&mut runs, [2]);
    let Some(_) = runs.next().await else { panic!("a cancelled piece may be wanted again") };
    runs.cancel(2);
    assert_eq!(runs.next().await, None);
    assert_eq!(runs.in_flight(), 0);
}

#[tokio::test]
async fn a_refusal_reaches_every_piece_of_its_run() {
    let (model, digest) = artifact(8 * PIECE);
    let registry = registry(&model).await;
    registry.set_faults(Faults::none().refuse(Refuse::status(StatusCode::FORBIDDEN).of(Target::BlobGets)));
    let mut runs = runs(&registry, digest, 8, settings());
    want(&mut runs, 0..8);
    let (bytes, done, failed) = drain(&mut runs, settings().in_flight).await;
    assert!(bytes.is_empty() && done.is_empty());
    assert_eq!(failed.len(), 8);
    assert!(failed.iter().all(|(_, error)| error.refusal() == Some(Refusal::Forbidden)));
    registry.set_faults(Faults::none());
    want(&mut runs, [0]);
    assert_eq!(drain(&mut runs, settings().in_flight).await.1, [0], "a failed piece may be wanted again");
}

#[tokio::test]
async fn a_caller_who_does_not_take_holds_the_origin_back() {
    let (model, digest) = artifact(64 * PIECE);
    let registry = Registry::builder().artifact(model).send_buffer(64 << 10).listen("127.0.0.1:0").await.unwrap();
    let many = RunSettings { in_flight: 64 * PIECE, run_bytes: 64 * PIECE, ..settings() };
    let mut runs = runs(&registry, digest, 64, many);
    want(&mut runs, 0..64);
    let Some(RunEvent::Chunk { .. }) = runs.next().await else { panic!("bytes come") };
    // The buffers on the way fill up; there is no condition to wait for but that nothing more comes.
    let mut sent = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = registry.counts().blob(&digest).bytes_sent;
        if now == sent {
            break;
        }
        sent = now;
    }
    assert!(sent < 16 * PIECE, "{sent} bytes were sent to a caller who took one chunk");
}

#[tokio::test]
async fn next_may_be_dropped_at_any_time() {
    let (model, digest) = artifact(8 * PIECE);
    let registry = registry(&model).await;
    let mut runs = runs(&registry, digest, 8, settings());
    let mut all = Vec::new();
    let mut piece = 0;
    loop {
        let event = tokio::select! {
            biased;
            event = runs.next() => event,
            () = tokio::task::yield_now() => {
                // The caller's own events come in between.
                if piece < 8 {
                    want(&mut runs, [piece]);
                    piece += 1;
                }
                continue;
            }
        };
        match event {
            Some(RunEvent::Chunk { bytes, .. }) => all.extend_from_slice(&bytes),
            Some(RunEvent::Done { .. }) => {}
            Some(RunEvent::Failed { error, .. }) => panic!("{error}"),
            None if piece == 8 => break,
            None => {
                want(&mut runs, [piece]);
                piece += 1;
            }
        }
    }
    assert_eq!(all.len() as u64, 8 * PIECE);
}
