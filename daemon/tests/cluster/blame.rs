//! A peer that sends wrong bytes is found out, and nobody is given them.

use futures::future::join_all;
use shoal::{cluster::Cluster, fetch};
use shoal_registry::Blob;

use crate::{
    support::{self, Copy, MIB, blob_url, figures, take},
    wrong_peer::WrongPeer,
};

/// Pulls on some nodes at once; every part that a client gets is compared.
async fn pull_on(cluster: &Cluster, nodes: std::ops::Range<usize>, layer: &Blob) {
    join_all(nodes.map(async |node| {
        let answer = fetch::get(&blob_url(cluster, node, &layer.digest()), None).await.unwrap();
        take(answer, Copy::compared(layer)).await;
    }))
    .await;
}

/// How many pieces were refused by these nodes because their bytes were wrong.
async fn refused(cluster: &Cluster, nodes: std::ops::Range<usize>) -> f64 {
    let mut refused = 0.0;
    for node in nodes {
        refused += cluster.metric(node, r#"shoal_pieces_refused_total{reason="wrong_bytes"}"#).await.unwrap();
    }
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_sends_wrong_bytes_is_blamed_and_the_pull_succeeds() {
    let _machine = support::whole_machine().await;
    let model = support::model(64 * MIB, 40);
    let layer = model.layer();
    let origin = support::origin(&model).await;
    let mut cluster = support::ready(support::daemons(3, &origin)).await;
    let wrong = WrongPeer::join(&cluster, layer).await;

    // It is the only one that says it has the blob.
    pull_on(&cluster, 0..3, layer).await;
    assert!(wrong.sent() > 0, "the wrong peer was never asked for a piece");
    assert!(refused(&cluster, 0..3).await > 0.0, "{} wrong pieces were sent and none refused", wrong.sent());
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
    cluster.shutdown().await.unwrap();
}
