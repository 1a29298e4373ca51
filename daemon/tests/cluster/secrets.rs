//! Keys, passwords and tokens are nowhere but where they were put.

use std::{fs, time::Duration};

use http::{Method, header};
use shoal::fetch;
use shoal_registry::Registry;

use crate::support::{self, MIB, REGISTRY, ask, blob_url, log, pull};

const USER: &str = "puller";
const PASSWORD: &str = "correct-horse-battery";
/// `USER:PASSWORD` in base64.
const BASIC: &str = "cHVsbGVyOmNvcnJlY3QtaG9yc2UtYmF0dGVyeQ==";
const CALLER: &str = "Bearer caller-secret-7d1f03";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_log_or_in_a_figure() {
    let _machine = support::half_machine().await;
    let model = support::model(2 * MIB, 120);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = Registry::builder()
        .artifact(model.clone())
        .token_auth(USER, PASSWORD, Duration::from_secs(300))
        .listen("127.0.0.1:0")
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("config.json");
    fs::write(&credentials, format!(r#"{{"auths":{{"{REGISTRY}":{{"auth":"{BASIC}"}}}}}}"#)).unwrap();
    let cluster = support::daemons(2, &origin)
        .flag("credentials", &credentials.to_string_lossy())
        .flag("access", &format!("{REGISTRY}=node"))
        .flag("log", "trace");
    let cluster = support::ready(cluster).await;
    pull(&blob_url(&cluster, 0, &digest), layer).await;
    pull(&blob_url(&cluster, 1, &digest), layer).await;
    assert_eq!(origin.counts().blob(&digest).bytes_sent, layer.len());
    // Answered or not, what a caller shows is its own.
    for path in [format!("blobs/{digest}"), "manifests/nothing".to_owned(), "blobs/sha256:1".to_owned()] {
        let url = support::url(&cluster, 0, support::REPOSITORY, &path);
        ask(Method::HEAD, &url, &[(header::AUTHORIZATION, CALLER)]).await;
    }
    cluster.reload(0).unwrap();

    let key = fs::read_to_string(cluster.dir().join("cluster.key")).unwrap();
    let key = key.trim();
    assert!(key.len() >= 64, "the cluster key is not where it was looked for");
    for node in 0..2 {
        let mut said = log(&cluster, node);
        assert!(said.contains("TRACE"), "the log is not that of all levels");
        for page in ["metrics", "blobs"] {
            said += &fetch::text(&format!("{}/{page}", cluster.admin_url(node))).await.unwrap();
        }
        let identity = fs::read(cluster.data_dir(node).join("identity")).unwrap();
        let identity: String = identity.iter().map(|byte| format!("{byte:02x}")).collect();
        let secrets = [key, PASSWORD, BASIC, "caller-secret", identity.as_str()];
        for line in said.lines() {
            let lower = line.to_lowercase();
            let secret = secrets.iter().find(|secret| lower.contains(&secret.to_lowercase()));
            assert!(secret.is_none(), "node-{node} gives {secret:?} away: {line}");
        }
    }
    cluster.shutdown().await.unwrap();
}
