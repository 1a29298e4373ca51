//! One layer on every node, read from the origin once.

use futures::future::join_all;
use http::Method;
use shoal::cluster::Cluster;
use shoal_registry::{Artifact, BlobCounts, Registry};

use crate::support::{self, MIB, REPOSITORY, TAG, ask, blob_url, figures, pull, url};

/// What a daemon may have in memory at most.
const MOST_MEMORY: u64 = 256 * MIB;

/// Pulls a model as a client does: the manifest by its tag, then what it names.
async fn pull_model(cluster: &Cluster, node: usize, model: &Artifact) {
    let manifest = ask(Method::GET, &url(cluster, node, REPOSITORY, &format!("manifests/{TAG}")), &[]).await;
    assert_eq!((manifest.status, &manifest.body), (200, model.manifest()));
    for blob in model.blobs() {
        pull(&blob_url(cluster, node, &blob.digest()), blob).await;
    }
}

/// What the origin was asked for the layer.
fn asked(origin: &Registry, model: &Artifact) -> BlobCounts {
    origin.counts().blob(&model.layer().digest())
}

/// Checks that the origin sent the layer once and was asked for its length once.
async fn check_once(origin: &Registry, model: &Artifact, cluster: &Cluster) {
    let layer = model.layer();
    let counts = asked(origin, model);
    assert_eq!((counts.bytes_sent, counts.heads), (layer.len(), 1), "bytes sent and HEADs: {counts:?}");
    assert_eq!(counts.refused, 0);
    let mut read = 0;
    for node in 0..cluster.len() {
        let blob = figures(cluster, node, &layer.digest()).await.unwrap();
        assert!(blob.complete, "node-{node}: {blob:?}");
        read += blob.bytes_from_origin;
        let peak = cluster.peak_rss(node).unwrap();
        assert!(peak < MOST_MEMORY, "node-{node} had {} MiB in memory", peak / MIB);
    }
    assert_eq!(read, layer.len(), "what the nodes say that they read from the origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_nodes_read_the_origin_once_and_so_do_those_that_come_later() {
    let _machine = support::whole_machine().await;
    let model = support::model(1024 * MIB, 1);
    let layer = model.layer();
    let origin = support::origin(&model).await;
    let mut cluster = support::ready(support::daemons(8, &origin)).await;

    join_all((0..8).map(|node| pull_model(&cluster, node, &model))).await;
    check_once(&origin, &model, &cluster).await;
    let then = asked(&origin, &model);

    let ninth = cluster.add().await.unwrap();
    cluster.wait_ready(ninth).await.unwrap();
    pull_model(&cluster, ninth, &model).await;
    assert_eq!(asked(&origin, &model), then, "the ninth node took something from the origin");
    let blob = figures(&cluster, ninth, &layer.digest()).await.unwrap();
    assert!(blob.complete && blob.bytes_from_origin == 0, "{blob:?}");

    // All that have it are new to each other when the tenth asks, which has nothing.
    let tenth = cluster.add().await.unwrap();
    cluster.wait_ready(tenth).await.unwrap();
    for node in 0..cluster.len() {
        assert!(cluster.terminate(node).await.unwrap().success());
    }
    for node in 0..cluster.len() {
        cluster.restart(node).await.unwrap();
    }
    cluster.wait_ready(tenth).await.unwrap();
    pull_model(&cluster, tenth, &model).await;
    assert_eq!(asked(&origin, &model), then, "the tenth node took something from the origin");
    let blob = figures(&cluster, tenth, &layer.digest()).await.unwrap();
    assert!(blob.complete && blob.bytes_from_origin == 0, "{blob:?}");
    // All are there, so that all can end in order.
    cluster.wait_all_ready().await.unwrap();
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_with_several_clients_each_read_the_origin_once() {
    let _machine = support::half_machine().await;
    let model = support::model(256 * MIB, 2);
    let origin = support::origin(&model).await;
    let cluster = support::ready(support::daemons(2, &origin)).await;
    join_all([0, 1, 0, 1, 0].map(|node| pull_model(&cluster, node, &model))).await;
    check_once(&origin, &model, &cluster).await;
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_of_a_cluster_reads_the_origin_once() {
    let _machine = support::half_machine().await;
    let model = support::model(256 * MIB, 3);
    let origin = support::origin(&model).await;
    let cluster = support::ready(support::daemons(1, &origin)).await;
    join_all([0, 0, 0].map(|node| pull_model(&cluster, node, &model))).await;
    check_once(&origin, &model, &cluster).await;
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_a_cluster_key_reads_the_origin_once_also_over_a_restart() {
    let _machine = support::half_machine().await;
    let model = support::model(64 * MIB, 4);
    let origin = support::origin(&model).await;
    let mut cluster = support::ready(support::daemons(1, &origin).alone()).await;
    join_all([0, 0].map(|node| pull_model(&cluster, node, &model))).await;
    check_once(&origin, &model, &cluster).await;
    assert_eq!(cluster.metric(0, "shoal_alone").await.unwrap(), 1.0);
    let then = asked(&origin, &model);
    cluster.terminate(0).await.unwrap();
    cluster.restart(0).await.unwrap();
    cluster.wait_ready(0).await.unwrap();
    pull_model(&cluster, 0, &model).await;
    assert_eq!(asked(&origin, &model), then);
    cluster.shutdown().await.unwrap();
}

/// One after the other, each taking from those before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_that_has_grown_serves_every_newcomer_from_all_members() {
    let _machine = support::half_machine().await;
    let model = support::model(96 * MIB, 5);
    let layer = model.layer();
    let origin = support::origin(&model).await;
    let mut cluster = support::ready(support::daemons(1, &origin)).await;
    for node in 0..3 {
        pull_model(&cluster, node, &model).await;
        if node < 2 {
            let next = cluster.add().await.unwrap();
            cluster.wait_ready(next).await.unwrap();
        }
    }
    check_once(&origin, &model, &cluster).await;
    let mut given = 0.0;
    for node in 0..3 {
        given += cluster.metric(node, r#"shoal_bytes_total{from="node",to="peer"}"#).await.unwrap();
    }
    assert!(given >= 2.0 * layer.len() as f64, "{given} bytes were given to peers");
    cluster.shutdown().await.unwrap();
}
