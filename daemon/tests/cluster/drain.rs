//! SIGTERM: readers finish, or end short and clean, in bounded time.

use std::{io::ErrorKind, time::Duration};

use futures::future::join_all;
use shoal::fetch;
use shoal_registry::Faults;
use tokio::time::Instant;

use crate::support::{self, Copy, MIB, SEED_LOSS, blob_url, pull_resuming, seed, soon, take};

const LENGTH: u64 = 64 * MIB;
const DRAIN: Duration = Duration::from_secs(2);
/// What a drain may take beyond its limit: goodbyes and the index.
const BEYOND: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_cannot_finish_ends_short_and_clean() {
    let _machine = support::half_machine().await;
    let model = support::model(LENGTH, 100);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    origin.hold_at(&digest, LENGTH / 2);
    let mut cluster = support::ready(support::daemons(1, &origin).flag("drain", "2s")).await;
    let mut answer = fetch::get(&blob_url(&cluster, 0, &digest), None).await.unwrap();
    let mut copy = Copy::compared(layer);
    copy.push(&soon("the first bytes", answer.next()).await.unwrap().unwrap());

    let begun = Instant::now();
    let (ended, read) = tokio::join!(cluster.terminate(0), copy.read(&mut answer));
    assert!(ended.unwrap().success());
    let took = begun.elapsed();
    assert!(took < DRAIN + BEYOND, "the drain took {took:?}");
    let error = read.expect_err("a body that was not sent whole ended as if it were");
    let reset = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    assert!(
        reset.into_iter().all(|error| error.kind() != ErrorKind::ConnectionReset),
        "a reset, not an end: {error:#}"
    );
    assert!(copy.length > 0 && copy.length <= LENGTH / 2);

    // The client goes on at its offset with the next life of the daemon, which has what it had.
    origin.release(&digest);
    cluster.restart(0).await.unwrap();
    cluster.wait_ready(0).await.unwrap();
    let rest = fetch::get(&blob_url(&cluster, 0, &digest), Some(copy.length)).await.unwrap();
    assert_eq!(rest.status, 206);
    take(rest, copy).await;
    let sent = origin.counts().blob(&digest).bytes_sent;
    assert!(sent <= LENGTH + SEED_LOSS, "{} MiB were sent twice", (sent - LENGTH) / MIB);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_can_finish_does() {
    let _machine = support::half_machine().await;
    let model = support::model(LENGTH, 101);
    let layer = model.layer();
    let origin = support::faulty_origin(&model, Faults::none().rate(32_000_000)).await;
    let mut cluster = support::ready(support::daemons(1, &origin).flag("drain", "60s")).await;
    let mut answer = fetch::get(&blob_url(&cluster, 0, &layer.digest()), None).await.unwrap();
    let mut copy = Copy::of(layer);
    copy.push(&soon("the first bytes", answer.next()).await.unwrap().unwrap());
    let (ended, ()) = tokio::join!(cluster.terminate(0), take(answer, copy));
    assert!(ended.unwrap().success());
    // Nothing of it is asked for again.
    cluster.restart(0).await.unwrap();
    cluster.wait_ready(0).await.unwrap();
    support::pull(&blob_url(&cluster, 0, &layer.digest()), layer).await;
    assert_eq!(origin.counts().blob(&layer.digest()).bytes_sent, layer.len());
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_seed_drains_the_others_go_on() {
    let _machine = support::whole_machine().await;
    let model = support::model(128 * MIB, 102);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    origin.hold_at(&digest, 64 * MIB);
    let mut cluster = support::ready(support::daemons(3, &origin).flag("drain", "1s")).await;
    let mut clients: Vec<_> =
        (0..3).map(|node| tokio::spawn(pull_resuming(blob_url(&cluster, node, &digest), layer.clone()))).collect();
    let seed = seed(&cluster, &digest).await;
    soon("half is sent", origin.until(|counts| counts.blob(&digest).bytes_sent == 64 * MIB)).await;
    let orphan = clients.remove(seed);
    assert!(cluster.terminate(seed).await.unwrap().success());
    origin.release(&digest);
    for outcome in join_all(clients).await {
        outcome.unwrap().unwrap();
    }
    let sent = origin.counts().blob(&digest).bytes_sent;
    assert!(sent <= layer.len() + SEED_LOSS, "{} MiB were sent twice", (sent - layer.len()) / MIB);
    orphan.abort();
    cluster.shutdown().await.unwrap();
}
