//! Nodes that may not read the blob at the origin do not spoil it for those that may.

use futures::future::join_all;
use http::StatusCode;
use shoal::fetch;
use shoal_registry::{Faults, Refusal, Registry, Target};

use crate::support::{self, Copy, MIB, ask, eventually, take, url};

const LENGTH: u64 = 24 * MIB;
const GOOD: &str = "models/good";

/// An origin with the same blob in several repositories, of which some refuse.
async fn origin(refusing: &[(&str, StatusCode)], target: Target) -> (Registry, shoal_registry::Blob) {
    let model = support::model(LENGTH, 50);
    let mut faults = Faults::none();
    let mut origin = Registry::builder().artifact(model.clone().under(GOOD));
    for (repository, status) in refusing {
        origin = origin.artifact(model.clone().under(repository));
        faults = faults.refuse(Refusal::status(*status).of(target).in_repository(repository));
    }
    let origin = origin.faults(faults).listen("127.0.0.1:0").await.unwrap();
    (origin, model.layer().clone())
}

/// What clients are told of an origin's status.
fn told(status: StatusCode) -> (u16, &'static str) {
    match status {
        StatusCode::NOT_FOUND => (404, "BLOB_UNKNOWN"),
        _ => (403, "DENIED"),
    }
}

/// Two nodes fail one after the other, each with its own error; then the third asks.
async fn one_after_the_other(first: StatusCode, second: StatusCode, target: Target) {
    let _machine = support::half_machine().await;
    let refusing = [("models/first", first), ("models/second", second)];
    let (origin, layer) = origin(&refusing, target).await;
    let digest = layer.digest();
    let what = format!("blobs/{digest}");
    let cluster = support::ready(support::daemons(3, &origin)).await;
    for (node, (repository, status)) in refusing.into_iter().enumerate() {
        let reply = ask(http::Method::GET, &url(&cluster, node, repository, &what), &[]).await;
        assert_eq!((reply.status, reply.code().as_str()), told(status), "{repository}");
    }
    let answer = fetch::get(&url(&cluster, 2, GOOD, &what), None).await.unwrap();
    take(answer, Copy::of(&layer)).await;
    let counts = origin.counts().blob(&digest);
    assert_eq!(counts.bytes_sent, layer.len());
    assert!(counts.refused >= 2, "{counts:?}");
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_without_the_blob_or_the_right_to_it_do_not_spoil_it_for_the_third() {
    one_after_the_other(StatusCode::NOT_FOUND, StatusCode::FORBIDDEN, Target::Blobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_do_nodes_that_have_no_credential() {
    one_after_the_other(StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND, Target::Blobs).await;
}

/// The HEAD is answered, so that the node becomes the seed and has to give its lease back.
#[tokio::test(flavor = "multi_thread")]
async fn nor_do_seeds_that_are_refused_when_they_begin_to_read() {
    one_after_the_other(StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED, Target::BlobGets).await;
}

/// All ask at once: whoever is tried first, the one that may read does, and the others get the blob from it or their own
/// error, never each other's.
async fn all_at_once(target: Target) {
    let _machine = support::whole_machine().await;
    let refusing = [("models/first", StatusCode::NOT_FOUND), ("models/second", StatusCode::FORBIDDEN)];
    let (origin, layer) = origin(&refusing, target).await;
    let digest = layer.digest();
    let what = format!("blobs/{digest}");
    let cluster = support::ready(support::daemons(4, &origin)).await;
    let repositories = ["models/first", "models/second", GOOD, GOOD];
    join_all(repositories.into_iter().enumerate().map(async |(node, repository)| {
        let answer = fetch::get(&url(&cluster, node, repository, &what), None).await.unwrap();
        let own = refusing.iter().find(|(refused, _)| *refused == repository);
        match own {
            Some((_, status)) if !answer.status.is_success() => {
                assert_eq!(answer.status.as_u16(), told(*status).0, "{repository}");
            }
            _ => take(answer, Copy::of(&layer)).await,
        }
    }))
    .await;
    assert_eq!(origin.counts().blob(&digest).bytes_sent, layer.len());
    // Those who were refused may ask again, now that the blob is in the cluster.
    for (node, (repository, _)) in refusing.iter().enumerate() {
        eventually("a node that was refused has the blob from its peers", async || {
            let mut answer = fetch::get(&url(&cluster, node, repository, &what), None).await.unwrap();
            let mut copy = Copy::of(&layer);
            let whole = answer.status.is_success() && copy.read(&mut answer).await.is_ok();
            whole.then(|| copy.check())
        })
        .await;
    }
    assert_eq!(origin.counts().blob(&digest).bytes_sent, layer.len());
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_ask_at_once_the_node_that_may_read_is_found() {
    all_at_once(Target::Blobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_ask_at_once_the_seed_that_may_read_is_found() {
    all_at_once(Target::BlobGets).await;
}
