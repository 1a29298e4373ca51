//! SIGHUP: registries come and go while the daemon runs.

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
