//! SIGHUP: registries and cluster keys come and go while the daemon runs.

use std::fs;

use http::Method;

use crate::support::{self, MIB, REGISTRY, ask, blob_url, eventually, pull};

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_added_to_the_file_is_served_after_sighup() {
    let _machine = support::half_machine().await;
    let model = support::model(2 * MIB, 110);
    let layer = model.layer();
    let origin = support::origin(&model).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shoal.toml");
    fs::write(&file, "registry = []\n").unwrap();
    let cluster = support::ready(support::bare_daemons(2).flag("config", &file.to_string_lossy())).await;
    let url = blob_url(&cluster, 0, &layer.digest());
    let status = async || ask(Method::HEAD, &url, &[]).await.status;
    let reloads = async |outcome: &str| {
        cluster.metric(0, &format!("shoal_reloads_total{{outcome=\"{outcome}\"}}")).await.unwrap()
    };
    assert_eq!(status().await, 403);

    fs::write(&file, format!("registry = [\"{REGISTRY}={}\"]\n", origin.url())).unwrap();
    cluster.reload(0).unwrap();
    eventually("the reload is applied", async || (reloads("applied").await == 1.0).then_some(())).await;
    pull(&url, layer).await;
    // The other node was not told.
    assert_eq!(ask(Method::GET, &blob_url(&cluster, 1, &layer.digest()), &[]).await.status, 403);

    // What cannot be used changes nothing.
    fs::write(&file, "registry = [\"not a name\"]\n").unwrap();
    cluster.reload(0).unwrap();
    eventually("the reload is refused", async || (reloads("refused").await == 1.0).then_some(())).await;
    assert_eq!(status().await, 200);

    // What is taken out is served no longer, though it is stored.
    fs::write(&file, "registry = []\n").unwrap();
    cluster.reload(0).unwrap();
    eventually("the reload is applied", async || (reloads("applied").await == 2.0).then_some(())).await;
    assert_eq!(status().await, 403);
    cluster.shutdown().await.unwrap();
}

/// Keys are rotated in three steps, and the cluster goes on; a node that missed them is out, at both doors.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_keys_are_rotated_without_a_stop() {
    let _machine = support::half_machine().await;
    let (first, second) = (support::model(8 * MIB, 111), support::model(8 * MIB, 112));
    let origin = support::origin(&first).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("left-behind.key");
    let mut cluster = support::daemons(3, &origin).start().await.unwrap();
    let shared = cluster.dir().join("cluster.key");
    let old = fs::read_to_string(&shared).unwrap();
    fs::copy(&shared, &file).unwrap();
    cluster.set_flag(2, "cluster-key-file", &file.to_string_lossy());
    cluster.kill(2).await.unwrap();
    cluster.restart(2).await.unwrap();
    cluster.wait_all_ready().await.unwrap();
    let everywhere = first.layer();
    for node in 0..3 {
        pull(&blob_url(&cluster, node, &everywhere.digest()), everywhere).await;
    }

    let connections = async || cluster.metric(0, "shoal_data_connections").await.unwrap();
    eventually("all trade with all", async || (connections().await == 2.0).then_some(())).await;

    let new = format!("{}\n", *shoal::key::new().unwrap().to_line());
    for (step, keys) in [format!("{old}{new}"), format!("{new}{old}"), new].iter().enumerate() {
        fs::write(&shared, keys).unwrap();
        for node in 0..2 {
            cluster.reload(node).unwrap();
            let applied = async || cluster.metric(node, r#"shoal_reloads_total{outcome="applied"}"#).await.unwrap();
            eventually("the keys are read again", async || (applied().await > step as f64).then_some(())).await;
        }
    }
    let peers = async |node| cluster.metric(node, "shoal_peers_connected").await.unwrap();
    eventually("the node that was left behind is out", async || (peers(0).await == 1.0).then_some(())).await;
    eventually("it trades no more", async || (connections().await <= 1.0).then_some(())).await;

    origin.put(&second).unwrap();
    let digest = second.layer().digest();
    for node in 0..2 {
        pull(&blob_url(&cluster, node, &digest), second.layer()).await;
    }
    assert_eq!(origin.counts().blob(&digest).bytes_sent, second.layer().len());
    cluster.shutdown().await.unwrap();
}
