//! Several blobs at a time.

use futures::future::join_all;
use shoal_registry::{Artifact, Registry};

use crate::support::{self, MIB, REPOSITORY, blob_url, eventually, figures, pull};

const NODES: usize = 3;
/// Every node's links, and so slow that the huge layer takes a while on any machine.
const RATE: &str = "40mbit";
const HUGE: u64 = 64;

#[tokio::test(flavor = "multi_thread")]
async fn a_small_layer_does_not_wait_for_a_huge_one() {
    let _machine = support::half_machine().await;
    let (huge, small) = (support::model(HUGE * MIB, 140), Artifact::synthetic(REPOSITORY, "small", 2 * MIB, 141));
    let origin =
        Registry::builder().artifact(huge.clone()).artifact(small.clone()).listen("127.0.0.1:0").await.unwrap();
    let builder = ["limit-up", "limit-down", "limit-origin"]
        .into_iter()
        .fold(support::daemons(NODES, &origin), |builder, limit| builder.flag(limit, RATE));
    let cluster = support::ready(builder).await;
    let digest = huge.layer().digest();

    let all = async |model: &Artifact| {
        let layer = model.layer();
        let urls = (0..NODES).map(|node| blob_url(&cluster, node, &layer.digest()));
        join_all(urls.map(async |url| pull(&url, layer).await)).await;
    };
    let held = async || {
        let figures = (0..NODES).map(|node| figures(&cluster, node, &digest));
        join_all(figures).await.into_iter().map(|blob| blob.map_or(0, |blob| blob.held_pieces)).collect::<Vec<_>>()
    };
    let in_its_midst = async {
        let before = eventually("the huge layer is under way everywhere", async || {
            Some(held().await).filter(|held| held.iter().all(|&held| held >= 4))
        });
        let before = before.await;
        all(&small).await;
        for (node, (after, before)) in held().await.into_iter().zip(before).enumerate() {
            let came = after - before;
            assert!(came < 24, "{came} pieces of the huge layer came to node-{node} before two of the small one");
        }
    };
    tokio::join!(all(&huge), in_its_midst);
    assert_eq!(origin.counts().blob(&digest).bytes_sent, HUGE * MIB);
    cluster.shutdown().await.unwrap();
}
