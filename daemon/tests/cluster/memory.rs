//! A daemon's memory does not grow with what it moves.

use futures::future::join_all;

use crate::support::{self, MIB, blob_url, pull};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "moves 8 GiB twice and needs 16 GiB of disk; run it with --ignored"]
async fn an_8_gib_layer_is_pulled_and_served_in_256_mib() {
    let _machine = support::whole_machine().await;
    let model = support::model(8 * 1024 * MIB, 90);
    let layer = model.layer();
    let origin = support::origin(&model).await;
    let cluster = support::ready(support::daemons(2, &origin)).await;
    join_all((0..2).map(async |node| pull(&blob_url(&cluster, node, &layer.digest()), layer).await)).await;
    assert_eq!(origin.counts().blob(&layer.digest()).bytes_sent, layer.len());
    for node in 0..2 {
        let peak = cluster.peak_rss(node).unwrap();
        println!("node-{node}: {} MiB at most", peak / MIB);
        assert!(peak < 256 * MIB, "node-{node} had {} MiB in memory", peak / MIB);
    }
    cluster.shutdown().await.unwrap();
}
