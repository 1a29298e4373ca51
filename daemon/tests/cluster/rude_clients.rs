//! Clients that come by the thousand, read nothing, or vanish: what they cost has a bound, and others are served.

use std::time::Duration;

use futures::future::join_all;
use shoal::{cluster::Cluster, descriptors};
use tokio::time::{Instant, timeout};

use crate::{
    conversation::Conversation,
    support::{self, MIB, blob_url, eventually, pull, soon},
};

const CONNECTIONS: usize = 400;
const READERS: usize = 80;
/// What a daemon may have beside a descriptor for each connection and each reader: those being refused, and the work itself.
const OTHER_FILES: usize = 64 + 100;
/// The most memory that a crowd may cost.
const MEMORY: u64 = 96 * MIB;

async fn node(origin: &shoal_registry::Registry) -> Cluster {
    let builder = support::daemons(1, origin)
        .flag("mirror-connections", &CONNECTIONS.to_string())
        .flag("mirror-readers", &READERS.to_string());
    support::ready(builder).await
}

fn files(cluster: &Cluster) -> usize {
    let pid = cluster.pid(0).unwrap();
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn memory(cluster: &Cluster) -> u64 {
    shoal::memory::resident(cluster.pid(0).unwrap()).unwrap()
}

/// Waits until nothing is left of a crowd: no connection, no reader, no descriptor that was not there before.
async fn recovered(cluster: &Cluster, files_before: usize) {
    for gauge in ["shoal_mirror_connections", "shoal_mirror_open_readers"] {
        eventually(gauge, async || (cluster.metric(0, gauge).await.unwrap() == 0.0).then_some(())).await;
    }
    // Asking for the figures needs one or two itself.
    eventually("the descriptors are closed", async || (files(cluster) <= files_before + 4).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_connections_are_served_or_told_503_and_cost_what_was_configured() {
    let _machine = support::whole_machine().await;
    descriptors::lift();
    let (stored, cold) = (support::model(32 * MIB, 440), support::model(16 * MIB, 441));
    let origin = support::origin(&stored).await;
    origin.put(&cold).unwrap();
    let cluster = node(&origin).await;
    let url = blob_url(&cluster, 0, &stored.layer().digest());
    pull(&url, stored.layer()).await;
    let (files_before, memory_before) = (files(&cluster), memory(&cluster));

    // They ask for a stored layer and read no more than the head: the sockets are full, and stay so.
    let crowd = join_all((0..2000).map(async |_| {
        let mut client = Conversation::get(&url, None).await.unwrap();
        let head = client.head().await.unwrap_or_else(|error| panic!("closed without a word: {error}"));
        (head.status, client)
    }));
    let crowd = soon("all of the crowd have an answer", crowd).await;
    let served = crowd.iter().filter(|(status, _)| *status == 200).count();
    let refused = crowd.iter().filter(|(status, _)| *status == 503).count();
    assert_eq!((served, served + refused), (READERS, 2000));
    let (files_now, memory_now) = (files(&cluster), memory(&cluster));
    println!(
        "2,000 connections: {} descriptors and {} KiB more",
        files_now - files_before,
        (memory_now - memory_before) >> 10
    );
    assert!(
        files_now <= files_before + CONNECTIONS + READERS + OTHER_FILES,
        "{files_now} descriptors, {files_before} before"
    );
    assert!(memory_now <= memory_before + MEMORY, "{memory_now} bytes resident, {memory_before} before");
    // Beyond the limit everybody is told so, and that is all that happens.
    let mut late = Conversation::get(&url, None).await.unwrap();
    assert_eq!(late.head().await.unwrap().status, 503);
    assert!(late.rest().await.expect("a clean end, not a reset").ends_with(b"]}"));

    drop((crowd, late));
    recovered(&cluster, files_before).await;
    pull(&blob_url(&cluster, 0, &cold.layer().digest()), cold.layer()).await;
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_read_a_byte_now_and_then_hold_up_nobody_else() {
    let _machine = support::half_machine().await;
    let (model, other) = (support::model(32 * MIB, 442), support::model(32 * MIB, 443));
    let origin = support::origin(&model).await;
    origin.put(&other).unwrap();
    let cluster = node(&origin).await;
    let url = blob_url(&cluster, 0, &model.layer().digest());
    pull(&url, model.layer()).await;
    let memory_before = memory(&cluster);

    let slow = join_all((0..READERS - 8).map(async |_| {
        let mut client = Conversation::get(&url, None).await.unwrap();
        assert_eq!(client.head().await.unwrap().status, 200);
        client
    }));
    let mut slow = slow.await;
    let trickle = async {
        loop {
            for client in &mut slow {
                client.take(1).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let pulls = async {
        // One that is stored, one that is cold, and the tag: as if the slow ones were not there.
        pull(&url, model.layer()).await;
        pull(&blob_url(&cluster, 0, &other.layer().digest()), other.layer()).await;
    };
    let begun = Instant::now();
    tokio::select! {
        () = trickle => unreachable!("it goes on for ever"),
        done = timeout(support::LIMIT, pulls) => done.unwrap(),
    }
    println!("64 MiB beside {} clients that read a byte now and then: {:?}", READERS - 8, begun.elapsed());
    let readers = cluster.metric(0, "shoal_mirror_open_readers").await.unwrap();
    assert_eq!(readers, (READERS - 8) as f64, "the slow ones are still there");
    let memory_now = memory(&cluster);
    // The cold blob's pieces on their way in are part of it.
    assert!(memory_now <= memory_before + MEMORY, "{memory_now} bytes resident, {memory_before} before");
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_vanish_by_the_hundred_leave_nothing_behind() {
    let _machine = support::half_machine().await;
    let model = support::model(48 * MIB, 444);
    let layer = model.layer();
    let origin = support::origin(&model).await;
    let cluster = node(&origin).await;
    let url = blob_url(&cluster, 0, &layer.digest());
    let files_before = files(&cluster);
    // Cold, and held by the origin: all of them wait somewhere in the blob.
    origin.hold_at(&layer.digest(), 6 * MIB);
    for round in 0..4 {
        let crowd = join_all((0..READERS as u64).map(async |number| {
            let range = format!("bytes={}-", (number % 3) * 100_000);
            let mut client = Conversation::get(&url, Some(&range)).await.unwrap();
            assert_eq!(client.head().await.unwrap().status, 206, "{round}");
            client.take(10_000).await.unwrap();
            client
        }));
        let crowd = soon("all of the crowd read", crowd).await;
        assert_eq!(cluster.metric(0, "shoal_mirror_open_readers").await.unwrap(), READERS as f64);
        // With bytes that they have not read: a reset.
        drop(crowd);
        for gauge in ["shoal_mirror_open_readers", "shoal_mirror_connections"] {
            eventually(gauge, async || (cluster.metric(0, gauge).await.unwrap() == 0.0).then_some(())).await;
        }
    }
    origin.release(&layer.digest());
    pull(&url, layer).await;
    recovered(&cluster, files_before + 8).await;
    assert_eq!(origin.counts().blob(&layer.digest()).bytes_sent, layer.len());
    cluster.shutdown().await.unwrap();
}
