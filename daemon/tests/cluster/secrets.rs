//! Keys, passwords and tokens are nowhere but where they were put.

use std::{collections::BTreeMap, fs, time::Duration};

use http::{Method, header};
use shoal::{cluster::Cluster, fetch};
use shoal_registry::Registry;

use crate::support::{self, MIB, REGISTRY, ask, blob_url, eventually, log, pull};

const USER: &str = "puller";
const PASSWORD: &str = "correct-horse-battery";
/// `USER:PASSWORD` in base64.
const BASIC: &str = "cHVsbGVyOmNvcnJlY3QtaG9yc2UtYmF0dGVyeQ==";
const CALLER: &str = "Bearer caller-secret-7d1f03";
const IDENTITY_TOKEN: &str = "identity-token-5e11aa";
const REGISTRY_TOKEN: &str = "registry-token-90c4be";
const PROXY_PASSWORD: &str = "proxy-secret-33aa71";
/// A key file's line that is no key, and still nobody's business; and a password in a file that is no longer JSON.
const BROKEN_KEY: &str = "broken-key-c0ffee";
const BROKEN_PASSWORD: &str = "broken-password-b1e55e";
/// A registry that is reached through a proxy, which is not there.
const FAR: &str = "registry.far.example";

/// Everything that must not be said, by what it is.
fn secrets(cluster: &Cluster, origin: &Registry) -> BTreeMap<&'static str, Vec<String>> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let key = fs::read_to_string(cluster.dir().join("cluster.key")).unwrap();
    let keys: Vec<_> = key.lines().map(str::to_owned).collect();
    assert!(keys.iter().all(|key| key.len() == 64), "the cluster keys are not where they were looked for");
    let identities = (0..cluster.len()).map(|node| fs::read(cluster.data_dir(node).join("identity")).unwrap());
    let tokens = origin.tokens();
    assert!(!tokens.is_empty(), "the origin has handed out no token");
    let planted = [
        ("a cluster key", keys),
        ("a node's key", identities.map(|identity| hex(&identity)).collect()),
        ("a token of the origin", tokens),
        ("a password", vec![PASSWORD.into(), BASIC.into(), BROKEN_PASSWORD.into()]),
        ("a caller's token", vec!["caller-secret".into()]),
        ("a token in the credentials", vec![IDENTITY_TOKEN.into(), REGISTRY_TOKEN.into()]),
        ("the proxy's password", vec![PROXY_PASSWORD.into()]),
        ("a line of a key file", vec![BROKEN_KEY.into()]),
    ];
    planted.into_iter().collect()
}

fn check(said: &str, secrets: &BTreeMap<&'static str, Vec<String>>, by: &str) {
    for line in said.lines() {
        let lower = line.to_lowercase();
        for (what, words) in secrets {
            let shown = words.iter().any(|word| lower.contains(&word.to_lowercase()));
            assert!(!shown, "{by} gives {what} away: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_log_a_figure_or_an_error() {
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
    let entries = [
        format!(r#""{REGISTRY}":{{"auth":"{BASIC}"}}"#),
        format!(r#""one.example":{{"identitytoken":"{IDENTITY_TOKEN}"}}"#),
        format!(r#""two.example":{{"registrytoken":"{REGISTRY_TOKEN}"}}"#),
    ];
    fs::write(&credentials, format!(r#"{{"auths":{{{}}}}}"#, entries.join(","))).unwrap();
    let proxy = format!("http://proxy-user:{PROXY_PASSWORD}@127.0.0.1:9");
    let mut daemons = support::daemons(2, &origin)
        .flag("credentials", &credentials.to_string_lossy())
        .flag("log", "trace")
        .registry(FAR)
        .env("HTTPS_PROXY", &proxy);
    for registry in ["one.example", "two.example"] {
        daemons = daemons.registry(registry);
    }
    let access = [REGISTRY, "one.example", "two.example"].map(|registry| format!("{registry}=node")).join(",");
    daemons = daemons.env("SHOAL_ACCESS", &access);
    let cluster = support::ready(daemons).await;
    pull(&blob_url(&cluster, 0, &digest), layer).await;
    pull(&blob_url(&cluster, 1, &digest), layer).await;
    assert_eq!(origin.counts().blob(&digest).bytes_sent, layer.len());

    // Answered or not, what a caller shows is its own; and what an origin could not be asked is said without the proxy's word.
    let mut answers = String::new();
    for path in [format!("blobs/{digest}"), "manifests/nothing".to_owned(), "blobs/sha256:1".to_owned()] {
        for registry in [REGISTRY, FAR, "one.example", "two.example"] {
            let url = format!("{}/v2/{}/{path}?ns={registry}", cluster.mirror_url(0), support::REPOSITORY);
            let reply = ask(Method::GET, &url, &[(header::AUTHORIZATION, CALLER)]).await;
            // The layer itself is no text.
            if reply.status >= 400 {
                answers += &String::from_utf8_lossy(&reply.body);
                answers.push('\n');
            }
        }
    }
    assert!(answers.contains("errors"), "nothing was refused: {answers}");

    // Files that are broken while it runs are complained about, and not quoted.
    let reloads = async |outcome: &str| {
        cluster.metric(0, &format!("shoal_reloads_total{{outcome=\"{outcome}\"}}")).await.unwrap()
    };
    let shared = cluster.dir().join("cluster.key");
    let right = fs::read_to_string(&shared).unwrap();
    fs::write(&shared, format!("{right}{BROKEN_KEY}\n")).unwrap();
    cluster.reload(0).unwrap();
    eventually("the key file is refused", async || (reloads("refused").await == 1.0).then_some(())).await;
    fs::write(&shared, format!("{right}{}\n", "9e".repeat(32))).unwrap();
    cluster.reload(0).unwrap();
    eventually("two keys are taken", async || (reloads("applied").await == 1.0).then_some(())).await;
    fs::write(&credentials, format!(r#"{{"auths":{{"{REGISTRY}":{{"password":"{BROKEN_PASSWORD}","#)).unwrap();
    cluster.reload(0).unwrap();
    eventually("the credentials are refused", async || (reloads("refused").await == 2.0).then_some(())).await;

    let secrets = secrets(&cluster, &origin);
    check(&answers, &secrets, "an answer");
    for node in 0..2 {
        let said = log(&cluster, node);
        assert!(said.contains("TRACE"), "the log is not that of all levels");
        check(&said, &secrets, &format!("the log of node-{node}"));
        for page in ["metrics", "blobs", "healthz", "readyz"] {
            let text = fetch::text(&format!("{}/{page}", cluster.admin_url(node))).await.unwrap();
            check(&text, &secrets, &format!("/{page} of node-{node}"));
        }
    }
    cluster.shutdown().await.unwrap();
}
