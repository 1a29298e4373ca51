//! The limit of what is read of blobs, over all of them, changed while they are read.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use shoal_blob::Reference;
use shoal_origin::{Origins, Policy, RunEvent, RunSettings, Runs};
use shoal_pace::Rate;
use shoal_registry::{Artifact, Registry};
use support::*;

const PIECE: u64 = 1 << 20;
/// How much of the rate's time may be caught up.
const SLACK: Duration = Duration::from_millis(50);
/// What the readers may have been given just before the bucket says no: a chunk each, of the HTTP client's largest buffer.
const CHUNKS: u64 = 2 * 4 * 450_000;

fn limited(rate: Option<u64>) -> Policy {
    Policy { limit: rate.and_then(Rate::of_bytes), ..policy() }
}

/// Two blobs, and the registry that has them.
async fn two_blobs(bytes: u64) -> (Registry, [Artifact; 2]) {
    let models = [1, 2].map(|seed| Artifact::synthetic(REPOSITORY, &format!("v{seed}"), bytes, seed));
    let registry = Registry::builder().artifact(models[0].clone()).listen("127.0.0.1:0").await.unwrap();
    registry.put(&models[1]).unwrap();
    (registry, models)
}

/// Reads a whole blob over several connections.
async fn read(origins: Origins, model: Artifact) {
    let digest = model.layer().digest();
    let pieces = u32::try_from(model.layer().len() / PIECE).unwrap();
    let settings = RunSettings { in_flight: 8 * PIECE, run_bytes: 2 * PIECE, ..RunSettings::default() };
    let mut runs = Runs::new(origins, repository(), digest, model.layer().len(), settings);
    for piece in 0..pieces {
        runs.want(piece, u64::from(piece) * PIECE..u64::from(piece + 1) * PIECE);
    }
    let mut done = 0;
    while let Some(event) = tokio::time::timeout(LONG, runs.next()).await.expect("the run goes on") {
        match event {
            RunEvent::Done { .. } => done += 1,
            RunEvent::Failed { error, .. } => panic!("{error}"),
            RunEvent::Chunk { .. } => {}
        }
    }
    assert_eq!(done, pieces);
}

fn allowed(rate: u64, since: Instant) -> u64 {
    (rate as f64 * (since.elapsed() + SLACK).as_secs_f64() * 1.05) as u64 + CHUNKS
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_keeps_to_the_limit_over_all_blobs() {
    let (slow, fast) = (6_000_000, 40_000_000);
    let (registry, models) = two_blobs(8 * PIECE).await;
    let start = Instant::now();
    let origins = Origins::new(vec![config(&registry.url())], limited(Some(slow))).unwrap();
    let counters = origins.counters();
    let readers = models.map(|model| tokio::spawn(read(origins.clone(), model)));
    while counters.blob_bytes() < 4 * PIECE {
        assert!(start.elapsed() < LONG, "nothing comes");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = Instant::now();
    let bytes = counters.blob_bytes();
    assert!(bytes <= allowed(slow, start), "{bytes} bytes after {:?} at {slow} a second", start.elapsed());

    origins.reload(vec![config(&registry.url())], limited(Some(fast))).unwrap();
    assert_eq!(origins.limit(), Rate::of_bytes(fast));
    for reader in readers {
        reader.await.unwrap();
    }
    let more = counters.blob_bytes() - bytes;
    assert!(more <= allowed(fast, before), "{more} bytes after {:?} at {fast} a second", before.elapsed());
    assert_eq!(counters.blob_bytes(), 16 * PIECE, "nothing was asked for twice");
}

/// The origin's patience is for the origin: what the limit makes slow is no stall, and is not asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_no_stall() {
    let (registry, [model, _]) = two_blobs(PIECE).await;
    let policy = Policy {
        patience: shoal_origin::Patience { stall: Duration::from_millis(50), ..patience() },
        ..limited(Some(1_000_000))
    };
    let origins = Origins::new(vec![config(&registry.url())], policy).unwrap();
    let stream = origins.open(&repository(), &model.layer().digest(), 0..PIECE, None).await.unwrap();
    assert_eq!(read_all(stream).await.unwrap(), bytes_of(model.layer()));
    assert_eq!(origins.counters().retries(), 0);
}

/// Manifests are small, and whoever waits for one waits for nothing else.
#[tokio::test]
async fn manifests_do_not_wait() {
    let (registry, [model, _]) = two_blobs(PIECE).await;
    let origins = Origins::new(vec![config(&registry.url())], limited(Some(1))).unwrap();
    let mut stream = origins.open(&repository(), &model.layer().digest(), 0..PIECE, None).await.unwrap();
    stream.chunk().await.unwrap();
    assert!(origins.held_back() > 2 * LONG, "the next of the blob waits long");
    let reference = model.manifest_digest().to_string().parse::<Reference>().unwrap();
    let repository = repository();
    let asked = origins.manifest(&repository, &reference, None);
    let manifest = tokio::time::timeout(LONG, asked).await.expect("a manifest does not wait").unwrap();
    assert!(!manifest.bytes.is_empty());
}
