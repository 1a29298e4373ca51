//! Each way to misbehave does what it says, and nothing else.

#![allow(clippy::unwrap_used)] // Functions beside the tests are tests as well, which the lint cannot see.

mod client;

use std::time::{Duration, Instant};

use client::{client, error_code, get, head, header, soon, start};
use reqwest::StatusCode;
use shoal_blob::Digest;
use shoal_registry::{Artifact, Faults, Refusal, Registry, RegistryBuilder, Target};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SIZE: u64 = 2_000_000;

fn model() -> Artifact {
    Artifact::synthetic("m", "v1", SIZE, 5)
}

fn with(faults: Faults) -> RegistryBuilder {
    Registry::builder().artifact(model()).faults(faults)
}

fn layer() -> (Digest, String) {
    let digest = model().layer().digest();
    (digest, format!("/v2/m/blobs/{digest}"))
}

/// GETs a path over a bare socket and returns the body's bytes and the error that ended it, if one did.
async fn raw(registry: &Registry, path: &str) -> (Vec<u8>, Option<std::io::Error>) {
    let mut socket = TcpStream::connect(registry.addr()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", registry.addr());
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let error = soon(socket.read_to_end(&mut bytes)).await.err();
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    (bytes.split_off(head), error)
}

#[tokio::test]
async fn the_rate_holds_for_all_bodies_together() {
    let (digest, path) = layer();
    let registry = start(with(Faults::none().rate(4_000_000))).await;
    let begun = Instant::now();
    let (one, two) = tokio::join!(get(&registry, &path, &[]), get(&registry, &path, &[]));
    let (one, two) = tokio::join!(one.bytes(), two.bytes());
    let took = begun.elapsed();
    assert_eq!(one.unwrap(), two.unwrap());
    assert!(took >= Duration::from_millis(900), "4 MB at 4 MB/s took {took:?}");
    assert_eq!(registry.counts().blob(&digest).bytes_sent, 2 * SIZE);
}

#[tokio::test]
async fn a_slow_rate_is_smooth_and_can_be_lifted() {
    let (digest, path) = layer();
    let registry = start(with(Faults::none().rate(100_000))).await;
    let mut answer = get(&registry, &path, &[]).await;
    let first = soon(answer.chunk()).await.unwrap().unwrap();
    assert!(first.len() <= 20_000, "{} bytes came at once at 100 kB/s", first.len());
    assert!(registry.counts().blob(&digest).bytes_sent < SIZE / 10);
    registry.set_faults(Faults::none());
    assert_eq!(first.len() + soon(answer.bytes()).await.unwrap().len(), SIZE as usize);
}

#[tokio::test]
async fn broken_bodies_are_reset_somewhere_in_the_range() {
    let (digest, path) = layer();
    let registry = start(with(Faults::none().break_after(100_000..200_000, 1))).await;
    let mut sent = 0;
    for _ in 0..5 {
        let (bytes, error) = raw(&registry, &path).await;
        assert_eq!(error.map(|error| error.kind()), Some(std::io::ErrorKind::ConnectionReset));
        assert_eq!(bytes, model().layer().read(0, bytes.len()));
        let before = std::mem::replace(&mut sent, registry.counts().blob(&digest).bytes_sent);
        assert!((100_000..200_000).contains(&(sent - before)), "{} bytes were sent", sent - before);
        assert!(bytes.len() as u64 <= sent - before);
    }
    let short = get(&registry, &path, &[("range", "bytes=0-99999")]).await;
    assert_eq!(short.bytes().await.unwrap().len(), 100_000);
}

#[tokio::test]
async fn a_broken_blob_can_be_pulled_by_resuming() {
    let (_, path) = layer();
    let registry = start(with(Faults::none().break_after(50_000..400_000, 9))).await;
    let mut got = Vec::new();
    let mut tries = 0;
    while (got.len() as u64) < SIZE {
        let mut answer = get(&registry, &path, &[("range", &format!("bytes={}-", got.len()))]).await;
        while let Ok(Some(chunk)) = soon(answer.chunk()).await {
            got.extend_from_slice(&chunk);
        }
        tries += 1;
        assert!(tries < 200, "only {} bytes came in 200 tries", got.len());
    }
    assert!(tries > 4);
    assert_eq!(got, model().layer().read(0, usize::MAX));
}

#[tokio::test]
async fn a_truncated_body_ends_in_order_after_exactly_its_bytes() {
    let (digest, path) = layer();
    let registry = start(with(Faults::none().truncate(1_234_567))).await;
    let (bytes, error) = raw(&registry, &path).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(bytes, model().layer().read(0, 1_234_567));
    let blob = registry.counts().blob(&digest);
    assert_eq!((blob.bytes_sent, blob.gets), (1_234_567, 1));
    let answer = get(&registry, &path, &[]).await;
    assert_eq!(header(&answer, "content-length"), SIZE.to_string());
    assert!(answer.bytes().await.is_err());
}

#[tokio::test]
async fn wrong_bytes_are_wrong_in_every_body_and_only_there() {
    let (digest, path) = layer();
    let registry = start(with(Faults::none().wrong_byte(digest, 10).wrong_byte(digest, 1_500_000))).await;
    let mut expected = model().layer().read(0, usize::MAX).to_vec();
    expected[10] ^= 0xff;
    expected[1_500_000] ^= 0xff;
    assert!(get(&registry, &path, &[]).await.bytes().await.unwrap() == expected, "other bytes are wrong");
    let window = get(&registry, &path, &[("range", "bytes=1499999-1500001")]).await.bytes().await.unwrap();
    assert_eq!(window, expected[1_499_999..=1_500_001]);
    registry.set_faults(Faults::none());
    let right = get(&registry, &path, &[("range", "bytes=10-10")]).await.bytes().await.unwrap();
    assert_eq!(right, model().layer().read(10, 1));
}

#[tokio::test]
async fn refusals_are_aimed_and_counted() {
    let (digest, path) = layer();
    let faults = Faults::none()
        .refuse(Refusal::status(StatusCode::NOT_FOUND).of(Target::Manifests).in_repository("m"))
        .refuse(Refusal::status(StatusCode::FORBIDDEN).in_repository("denied"))
        .refuse(
            Refusal::status(StatusCode::TOO_MANY_REQUESTS)
                .of(Target::Blobs)
                .first(2)
                .retry_after(Duration::from_millis(1500)),
        );
    let registry = start(with(faults).artifact(model().under("denied"))).await;
    assert_eq!(get(&registry, "/v2/m/manifests/v1", &[]).await.status(), 404);
    let denied = get(&registry, &format!("/v2/denied/blobs/{digest}"), &[]).await;
    assert_eq!(denied.status(), 403);
    assert_eq!(error_code(denied).await, "DENIED");
    let busy = get(&registry, &path, &[]).await;
    assert_eq!((busy.status().as_u16(), header(&busy, "retry-after")), (429, "2"));
    assert_eq!(head(&registry, &path).await.status(), 429);
    assert_eq!(get(&registry, &path, &[]).await.status(), 200);
    let counts = registry.counts();
    assert_eq!((counts.errors, counts.blob(&digest).refused, counts.blob(&digest).gets), (4, 3, 1));
    registry.set_faults(Faults::none().refuse(Refusal::status(StatusCode::UNAUTHORIZED).of(Target::BlobGets)));
    assert_eq!(head(&registry, &path).await.status(), 200);
    let refused = get(&registry, &path, &[]).await;
    assert_eq!(
        (refused.status().as_u16(), header(&refused, "www-authenticate")),
        (401, "Basic realm=\"shoal-registry\"")
    );
}

#[tokio::test]
async fn a_hung_request_gets_nothing_until_the_faults_change() {
    let (_, path) = layer();
    let registry = start(with(Faults::none().refuse(Refusal::hang().of(Target::Blobs)))).await;
    let asking = tokio::spawn(client().get(format!("{}{path}", registry.url())).send());
    soon(registry.until(|counts| counts.hung == 1)).await;
    assert!(!asking.is_finished());
    assert_eq!(get(&registry, "/v2/m/manifests/v1", &[]).await.status(), 200);
    registry.set_faults(Faults::none());
    assert!(soon(asking).await.unwrap().is_err(), "a hung request was answered");
    assert_eq!(get(&registry, &path, &[]).await.status(), 200);
}

#[tokio::test]
async fn a_gate_holds_bodies_at_exactly_its_bytes() {
    let (digest, path) = layer();
    let registry = start(with(Faults::none())).await;
    registry.hold_at(&digest, 777_777);
    let (lengths, mut told) = tokio::sync::mpsc::channel(16);
    for _ in 0..2 {
        let (mut answer, lengths) = (get(&registry, &path, &[]).await, lengths.clone());
        tokio::spawn(async move {
            while let Some(chunk) = answer.chunk().await.unwrap() {
                lengths.send(chunk.len() as u64).await.unwrap();
            }
        });
    }
    drop(lengths);
    let mut read = 0;
    while read < 777_777 {
        read += soon(told.recv()).await.unwrap();
    }
    assert_eq!(read, 777_777);
    let held = registry.counts().blob(&digest);
    assert_eq!((held.bodies_now, held.bytes_sent), (2, 777_777));
    registry.release(&digest);
    while let Some(length) = soon(told.recv()).await {
        read += length;
    }
    assert_eq!(read, 2 * SIZE);
    let counts = soon(registry.until(|counts| counts.blob(&digest).bodies_now == 0)).await;
    assert_eq!((counts.blob(&digest).bodies_peak, counts.blob(&digest).bodies_cut), (2, 0));
}

#[tokio::test]
async fn a_client_that_leaves_a_held_body_is_noticed() {
    let (digest, path) = layer();
    let registry = start(with(Faults::none())).await;
    registry.hold_at(&digest, 0);
    let held = get(&registry, &path, &[]).await;
    soon(registry.until(|counts| counts.blob(&digest).bodies_now == 1)).await;
    drop(held);
    let counts = soon(registry.until(|counts| counts.blob(&digest).bodies_now == 0)).await;
    assert_eq!((counts.blob(&digest).bodies_cut, counts.blob(&digest).bytes_sent), (1, 0));
}

#[tokio::test]
async fn delays_come_before_the_answer_or_before_the_first_byte() {
    let (_, path) = layer();
    let delay = Duration::from_millis(150);
    let registry = start(with(Faults::none().latency(delay))).await;
    let begun = Instant::now();
    assert_eq!(head(&registry, &path).await.status(), 200);
    assert!(begun.elapsed() >= delay);
    registry.set_faults(Faults::none().first_byte_delay(Duration::from_secs(3600)));
    let mut answer = soon(get(&registry, &path, &[])).await;
    assert_eq!(answer.status(), 200);
    assert!(tokio::time::timeout(delay, answer.chunk()).await.is_err(), "a byte came before its time");
}

#[tokio::test]
async fn blobs_can_be_elsewhere_and_ranges_be_ignored() {
    let (digest, path) = layer();
    let elsewhere = start(with(Faults::none().ignore_ranges())).await;
    let registry = start(with(Faults::none().redirect_blobs(&elsewhere.url()))).await;
    let answer = get(&registry, &path, &[("range", "bytes=5-9")]).await;
    assert_eq!((answer.status().as_u16(), answer.url().port()), (200, Some(elsewhere.addr().port())));
    assert_eq!(answer.bytes().await.unwrap().len() as u64, SIZE);
    let (here, there) = (registry.counts().blob(&digest), elsewhere.counts().blob(&digest));
    assert_eq!((here.redirected, here.gets, here.bytes_sent), (1, 0, 0));
    assert_eq!((there.gets, there.range_gets, there.bytes_sent), (1, 0, SIZE));
    assert_eq!(get(&registry, "/v2/m/manifests/v1", &[]).await.url().port(), Some(registry.addr().port()));
}
