//! A node with another cluster key stays outside.

use futures::future::join;

use crate::support::{self, MIB, blob_url, eventually, log, pull};

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_finds_no_peers_and_goes_on_alone() {
    let _machine = support::whole_machine().await;
    let model = support::model(64 * MIB, 60);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    let cluster = support::ready(support::daemons(3, &origin)).await;
    // Another builder is another key.
    let members: Vec<String> = (0..3).map(|node| cluster.peer_addr(node).to_string()).collect();
    let stranger = support::daemons(1, &origin).flag("bootstrap", &members.join(",")).flag("alone-after", "2s");
    let stranger = support::ready(stranger).await;
    assert_eq!(stranger.metric(0, "shoal_alone").await.unwrap(), 1.0);
    assert!(log(&stranger, 0).to_lowercase().contains("alone"), "it does not say that it is alone");

    join(pull(&blob_url(&stranger, 0, &digest), layer), async {
        futures::future::join_all((0..3).map(async |node| pull(&blob_url(&cluster, node, &digest), layer).await)).await
    })
    .await;
    let counts = origin.counts().blob(&digest);
    assert_eq!((counts.bytes_sent, counts.heads), (2 * layer.len(), 2), "once for the cluster, once for the stranger");

    assert_eq!(stranger.metric(0, "shoal_peers_connected").await.unwrap(), 0.0);
    assert_eq!(stranger.metric(0, "shoal_data_connections").await.unwrap(), 0.0);
    for name in [r#"shoal_bytes_total{from="peer",to="node"}"#, r#"shoal_bytes_total{from="node",to="peer"}"#] {
        assert_eq!(stranger.metric(0, name).await.unwrap(), 0.0, "{name}");
    }
    let refused = r#"shoal_admissions_refused_total{plane="control"}"#;
    eventually("the members count the refused stranger", async || {
        let mut sum = 0.0;
        for node in 0..3 {
            sum += cluster.metric(node, refused).await.unwrap();
        }
        (sum > 0.0).then_some(())
    })
    .await;
    for node in 0..3 {
        assert_eq!(cluster.metric(node, "shoal_peers_connected").await.unwrap(), 2.0);
        assert_eq!(cluster.metric(node, "shoal_alone").await.unwrap(), 0.0);
    }
    cluster.shutdown().await.unwrap();
    stranger.shutdown().await.unwrap();
}
