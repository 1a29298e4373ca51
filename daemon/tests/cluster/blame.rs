//! A peer that sends what is wrong is found out, and nobody is given it.

use futures::future::join_all;
use shoal::{cluster::Cluster, fetch};
use shoal_registry::Blob;

use crate::{
    support::{self, Copy, MIB, blob_url, figures, take},
    wrong_peer::{Lie, WrongPeer},
};

/// Pulls on some nodes at once; every part that a client gets is compared.
async fn pull_on(cluster: &Cluster, nodes: std::ops::Range<usize>, layer: &Blob) {
    join_all(nodes.map(async |node| {
        let answer = fetch::get(&blob_url(cluster, node, &layer.digest()), None).await.unwrap();
        take(answer, Copy::compared(layer)).await;
    }))
    .await;
}

/// How much these nodes refused of peers for that reason.
async fn refused(cluster: &Cluster, nodes: std::ops::Range<usize>, reason: &str) -> f64 {
    let mut refused = 0.0;
    for node in nodes {
        let metric = format!(r#"shoal_pieces_refused_total{{reason="{reason}"}}"#);
        refused += cluster.metric(node, &metric).await.unwrap();
    }
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_sends_wrong_bytes_is_blamed_and_the_pull_succeeds() {
    let _machine = support::whole_machine().await;
    let cluster = blamed(Lie::Bytes, 40).await;
    assert_eq!(refused(&cluster, 0..4, "chain").await, 0.0, "its midstates were right");
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_forges_midstates_is_blamed_and_the_pull_succeeds() {
    let _machine = support::whole_machine().await;
    let cluster = blamed(Lie::Midstates, 41).await;
    assert!(refused(&cluster, 0..4, "chain").await > 0.0, "no midstate was refused");
    cluster.shutdown().await.unwrap();
}

/// Pulls a model in a cluster where one member lies, and gives the cluster back.
async fn blamed(lie: Lie, seed: u64) -> Cluster {
    let model = support::model(64 * MIB, seed);
    let layer = model.layer();
    let origin = support::origin(&model).await;
    let mut cluster = support::ready(support::daemons(3, &origin)).await;
    let wrong = WrongPeer::join(&cluster, layer, lie).await;

    // It is the only one that says it has the blob.
    pull_on(&cluster, 0..3, layer).await;
    assert!(wrong.sent() > 0, "the wrong peer was never asked for a piece");
    let shut_out = refused(&cluster, 0..3, "wrong_bytes").await;
    assert!(shut_out > 0.0, "{} wrong pieces were sent and nobody shut it out", wrong.sent());
    let counts = origin.counts().blob(&layer.digest());
    assert_eq!(counts.bytes_sent, layer.len(), "what was wrong cost nothing at the origin");

    // Now it is one of four.
    let sent = wrong.sent();
    let newcomer = cluster.add().await.unwrap();
    cluster.wait_ready(newcomer).await.unwrap();
    pull_on(&cluster, newcomer..newcomer + 1, layer).await;
    assert_eq!(origin.counts().blob(&layer.digest()).bytes_sent, layer.len());
    let blob = figures(&cluster, newcomer, &layer.digest()).await.unwrap();
    assert!(blob.complete && blob.bytes_from_origin == 0, "{blob:?}");
    assert!(wrong.sent() - sent < 8, "{} wrong pieces were taken from a peer known to send them", wrong.sent() - sent);

    // What rests in the stores is right too: it is read from there now.
    pull_on(&cluster, 0..4, layer).await;
    cluster
}
