//! When nothing more can be had, clients are told in the one way in which they go on elsewhere: a body ends short and clean,
//! and who comes back for the rest gets a status.

use std::time::Duration;

use http::StatusCode;
use shoal_registry::{Faults, Refusal, Registry, Target};
use tokio::time::Instant;

use crate::{
    conversation::Conversation,
    support::{self, MIB, blob_url, eventually, pull},
};

/// What is noticed within this was noticed in seconds.
const SECONDS: Duration = Duration::from_secs(25);
const LENGTH: u64 = 64 * MIB;
/// What the origin gives before it fails.
const GIVEN: u64 = 9 * MIB;

/// Reads until the body ends, which must be short and clean; returns how much came and how long nothing did.
async fn cut_off(url: &str, layer: &shoal_registry::Blob, fail: impl AsyncFnOnce()) -> (u64, Duration) {
    let mut client = Conversation::get(url, None).await.unwrap();
    let head = client.head().await.unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, LENGTH.to_string().as_str()));
    let first = client.take((4 * MIB) as usize).await.unwrap();
    fail().await;
    let since = Instant::now();
    let rest = client.rest().await.expect("a clean end, not a reset");
    let came = (first.len() + rest.len()) as u64;
    assert!(came < LENGTH && [first, rest].concat() == layer.read(0, came as usize), "{came} bytes");
    (came, since.elapsed())
}

/// Whoever comes back at once is told that there is no more, and never given a body without a byte: containerd goes to its next
/// host on a status, and gives up after three such bodies.
async fn resume_is_refused(url: &str, layer: &shoal_registry::Blob, from: u64, statuses: &[u16]) {
    for _ in 0..4 {
        let begun = Instant::now();
        let mut client = Conversation::get(url, Some(&format!("bytes={from}-"))).await.unwrap();
        let head = client.head().await.unwrap();
        assert!(statuses.contains(&head.status), "{head:?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    // What is here is served as ever.
    let mut client = Conversation::get(url, Some("bytes=1000-1999")).await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 206);
    assert!(client.take(1000).await.unwrap() == layer.read(1000, 1000));
}

async fn origin_of(model: &shoal_registry::Artifact) -> Registry {
    let origin = support::origin(model).await;
    origin.hold_at(&model.layer().digest(), GIVEN);
    origin
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_falls_silent_is_noticed_in_seconds() {
    let _machine = support::half_machine().await;
    let model = support::model(LENGTH, 400);
    let layer = model.layer();
    let origin = origin_of(&model).await;
    let cluster = support::ready(support::daemons(1, &origin)).await;
    let url = blob_url(&cluster, 0, &layer.digest());
    let (came, silence) = cut_off(&url, layer, async || ()).await;
    assert!(silence < SECONDS, "{silence:?}");
    resume_is_refused(&url, layer, came, &[504]).await;

    // It speaks again, and after a short rest so does the mirror.
    origin.release(&layer.digest());
    eventually("the rest is served", async || {
        let mut client = Conversation::get(&url, Some(&format!("bytes={came}-"))).await.unwrap();
        let head = client.head().await.unwrap();
        if head.status != 206 {
            return None;
        }
        assert!(client.take((LENGTH - came) as usize).await.unwrap() == layer.read(came, (LENGTH - came) as usize));
        Some(())
    })
    .await;
    assert_eq!(origin.counts().blob(&layer.digest()).bytes_sent, LENGTH, "nothing is read twice");
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_gone_is_noticed_on_every_node() {
    let _machine = support::half_machine().await;
    let model = support::model(LENGTH, 401);
    let layer = model.layer();
    let origin = origin_of(&model).await;
    let cluster = support::ready(support::daemons(2, &origin)).await;
    let urls = [0, 1].map(|node| blob_url(&cluster, node, &layer.digest()));
    let both = std::sync::Arc::new(tokio::sync::Barrier::new(3));
    let reading = urls.clone().map(|url| {
        let (layer, both) = (layer.clone(), both.clone());
        tokio::spawn(async move {
            cut_off(&url, &layer, async || {
                both.wait().await;
            })
            .await
        })
    });
    both.wait().await;
    origin.stop().await;
    for (url, reading) in urls.iter().zip(reading) {
        let (came, silence) = reading.await.unwrap();
        assert!(silence < SECONDS, "{silence:?}");
        resume_is_refused(url, layer, came, &[502, 504]).await;
    }
    cluster.shutdown().await.unwrap();
}

/// What was refused for a while is had as soon as the origin serves again, and each status is one on which clients go on.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_origin_answers_no_client_is_told_to_come_again() {
    let _machine = support::half_machine().await;
    let model = support::model(2 * MIB, 402);
    let layer = model.layer();
    let origin = support::origin(&model).await;
    let cluster = support::ready(support::daemons(1, &origin)).await;
    let url = blob_url(&cluster, 0, &layer.digest());
    for status in [408, 418, 429, 500, 502, 503, 504] {
        let refusal = Refusal::status(StatusCode::from_u16(status).unwrap()).of(Target::Blobs);
        origin.set_faults(Faults::none().refuse(refusal));
        let mut client = Conversation::get(&url, None).await.unwrap();
        let head = client.head().await.unwrap();
        assert!([500, 502, 503, 504].contains(&head.status), "{head:?} from {status}");
        assert_eq!(head.header("retry-after"), "");
    }
    origin.set_faults(Faults::none());
    eventually("the blob is served", async || {
        let mut client = Conversation::get(&url, None).await.unwrap();
        (client.head().await.unwrap().status == 200).then_some(())
    })
    .await;
    pull(&url, layer).await;
    cluster.shutdown().await.unwrap();
}
