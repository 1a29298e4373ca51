//! Several blobs at a time.

use std::sync::Arc;

use futures::future::join_all;
use shoal_registry::{Artifact, Registry};

use crate::support::{self, MIB, eventually, figures, pull};

const NODES: usize = 3;
/// Every node's links, and so slow that the huge layer takes a while on any machine.
const RATE: &str = "40mbit";
const HUGE: u64 = 64;

#[tokio::test(flavor = "multi_thread")]
async fn a_small_layer_does_not_wait_for_a_huge_one() {
    let _machine = support::half_machine().await;
    let (huge, small) = (support::model(HUGE * MIB, 140), Artifact::synthetic("models/small", "v1", 2 * MIB, 141));
    let origin =
        Registry::builder().artifact(huge.clone()).artifact(small.clone()).listen("127.0.0.1:0").await.unwrap();
    let builder = ["limit-up", "limit-down", "limit-origin"]
        .into_iter()
        .fold(support::daemons(NODES, &origin), |builder, limit| builder.flag(limit, RATE));
    let cluster = Arc::new(support::ready(builder).await);
    let digest = huge.layer().digest();

    let all = |model: &Artifact| {
        let (cluster, layer) = (Arc::clone(&cluster), model.layer().clone());
        let repository = model.repository().to_owned();
        async move {
            let url = |node| support::url(&cluster, node, &repository, &format!("blobs/{}", layer.digest()));
            join_all((0..NODES).map(|node| {
                let (url, layer) = (url(node), &layer);
                async move { pull(&url, layer).await }
            }))
            .await;
        }
    };
    let pulling = tokio::spawn(all(&huge));
    let held = async |node| figures(&cluster, node, &digest).await.map_or(0, |blob| blob.held_pieces);
    eventually("the huge layer is under way everywhere", async || {
        let held = join_all((0..NODES).map(&held)).await;
        held.into_iter().all(|held| held >= 4).then_some(())
    })
    .await;

    let before = join_all((0..NODES).map(&held)).await;
    all(&small).await;
    let meanwhile = join_all((0..NODES).map(&held)).await;
    for (node, (after, before)) in meanwhile.into_iter().zip(before).enumerate() {
        let came = after - before;
        assert!(came < 24, "{came} pieces of the huge layer came to node-{node} before two of the small one");
    }
    pulling.await.unwrap();
    assert_eq!(origin.counts().blob(&digest).bytes_sent, HUGE * MIB);
    Arc::into_inner(cluster).unwrap().shutdown().await.unwrap();
}
