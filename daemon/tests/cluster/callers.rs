//! `access = "caller"`: private content is for those whom the origin would serve, on every node, for as long as their token
//! lives; what is public is for all.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Method, header};
use shoal::{cluster::Cluster, fetch};
use shoal_blob::Digest;
use shoal_registry::Registry;

use crate::support::{
    self, Copy, MIB, REGISTRY, REPOSITORY, Reply, SEED_LOSS, TAG, ask, blob_url, eventually, pull, take, url,
};

const LIFE: Duration = Duration::from_secs(600);
const OPEN: &str = "models/open";

/// A registry with tokens: a private model, a public one, and users of whom the daemons are one.
async fn origin(private: &shoal_registry::Artifact, public: &shoal_registry::Artifact, life: Duration) -> Registry {
    Registry::builder()
        .artifact(private.clone())
        .artifact(public.clone().under(OPEN))
        .token_auth("daemon", "its-own", life)
        .token_auth("ann", "pear", life)
        .public(OPEN)
        .listen("127.0.0.1:0")
        .await
        .unwrap()
}

async fn cluster(nodes: usize, origin: &Registry, empty: &Registry, folder: &tempfile::TempDir) -> Cluster {
    let file = support::docker_config(folder.path(), "daemon", "its-own");
    let builder = support::daemons(nodes, origin)
        .registry(&format!("open.test={}", empty.url()))
        .flag("credentials", &file.to_string_lossy())
        .flag("access", &format!("{REGISTRY}=caller"));
    support::ready(builder).await
}

/// A token for a repository, as a client gets it after a challenge; for nobody where no user is given.
async fn token(origin: &Registry, repository: &str, user: Option<&str>) -> String {
    let url = format!("{}/token?service=shoal-registry&scope=repository:{repository}:pull", origin.url());
    let basic = user.map(|pair| format!("Basic {}", STANDARD.encode(pair)));
    let headers: Vec<_> = basic.iter().map(|basic| (header::AUTHORIZATION, basic.as_str())).collect();
    let reply = ask(Method::GET, &url, &headers).await;
    let document: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    format!("Bearer {}", document["token"].as_str().unwrap_or_else(|| panic!("{document}")))
}

async fn get_as(url: &str, authorization: &str) -> Reply {
    ask(Method::GET, url, &[(header::AUTHORIZATION, authorization)]).await
}

async fn pull_as(url: &str, authorization: &str, blob: &shoal_registry::Blob) {
    let headers = [(header::AUTHORIZATION, authorization.to_owned())];
    take(fetch::send(Method::GET, url, &headers).await.unwrap(), Copy::of(blob)).await;
}

/// The challenge of the origin, which tells where a token is to be had.
fn assert_challenged(reply: &Reply, origin: &Registry, what: &str) {
    assert_eq!((reply.status, reply.code().as_str()), (401, "UNAUTHORIZED"), "{what}: {:?}", reply.body);
    let challenge = reply.header("www-authenticate");
    let expected = format!("Bearer realm=\"{}/token\"", origin.url());
    assert!(challenge.starts_with(&expected), "{what}: {challenge}");
    assert!(challenge.contains(&format!("scope=\"repository:{REPOSITORY}:pull\"")), "{what}: {challenge}");
}

async fn requests(cluster: &Cluster, kind: &str) -> f64 {
    let mut sum = 0.0;
    for node in 0..cluster.len() {
        sum += cluster.metric(node, &format!("shoal_origin_requests_total{{kind=\"{kind}\"}}")).await.unwrap();
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn private_content_is_for_callers_whom_the_origin_would_serve_on_every_node() {
    let _machine = support::half_machine().await;
    let (private, public) = (support::model(16 * MIB, 170), support::model(4 * MIB, 171));
    let (layer, open) = (private.layer(), public.layer());
    let digest: Digest = layer.digest();
    let origin = origin(&private, &public, LIFE).await;
    let empty = Registry::builder().listen("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = cluster(2, &origin, &empty, &folder).await;
    let ann = token(&origin, REPOSITORY, Some("ann:pear")).await;

    // A cold pull by one who proves itself; nobody else gets a byte, before, during or after.
    assert_challenged(&ask(Method::GET, &blob_url(&cluster, 0, &digest), &[]).await, &origin, "cold, without a token");
    pull_as(&blob_url(&cluster, 0, &digest), &ann, layer).await;
    pull_as(&blob_url(&cluster, 1, &digest), &ann, layer).await;
    let counts = origin.counts().blob(&digest);
    assert_eq!(counts.bytes_sent, layer.len(), "{counts:?}");
    // The length was found once; beside that each node had its caller prove itself once.
    assert_eq!((counts.heads as f64, requests(&cluster, "proof").await), (1.0 + 2.0, 2.0), "{counts:?}");

    // The other node has not asked the origin about the blob: the grant told it to whom it is served.
    pull_as(&blob_url(&cluster, 1, &digest), &ann, layer).await;
    assert_eq!(requests(&cluster, "proof").await, 2.0, "a proof stands while the token lives");
    let blob_gets = requests(&cluster, "blob_get").await;
    let what = format!("manifests/{TAG}");
    let elsewhere = token(&origin, OPEN, Some("ann:pear")).await;
    let anybody = token(&origin, OPEN, None).await;
    for node in 0..2 {
        let (blob, manifest) = (blob_url(&cluster, node, &digest), url(&cluster, node, REPOSITORY, &what));
        assert_eq!(get_as(&manifest, &ann).await.body, *private.manifest());
        for url in [&blob, &manifest, &url(&cluster, node, REPOSITORY, "tags/list")] {
            assert_challenged(&ask(Method::GET, url, &[]).await, &origin, url);
            for wrong in ["Bearer made-up", elsewhere.as_str(), anybody.as_str()] {
                let reply = get_as(url, wrong).await;
                assert_challenged(&reply, &origin, &format!("{url} with {wrong}"));
            }
        }
        assert_eq!(ask(Method::HEAD, &blob, &[]).await.status, 401);
        // A digest that is known opens nothing under the name of a registry that does not have it.
        let other = blob.replace(REGISTRY, "open.test");
        for headers in [vec![], vec![(header::AUTHORIZATION, ann.as_str())]] {
            let reply = ask(Method::GET, &other, &headers).await;
            assert!((400..600).contains(&reply.status), "{other}: {}", reply.status);
            assert!(reply.body.len() < 1000);
        }
        // Nor in another repository of the same registry, which has not got it.
        let reply = get_as(&url(&cluster, node, OPEN, &format!("blobs/{digest}")), &elsewhere).await;
        assert_eq!(reply.status, 403, "{:?}", reply.body);
    }
    assert_eq!(requests(&cluster, "blob_get").await, blob_gets, "a proof is no GET");

    // What the origin serves to anybody needs no token, on any node.
    for node in 0..2 {
        pull(&url(&cluster, node, OPEN, &format!("blobs/{}", open.digest())), open).await;
        assert_eq!(ask(Method::GET, &url(&cluster, node, OPEN, &what), &[]).await.body, *public.manifest());
    }
    assert_eq!(origin.counts().blob(&open.digest()).bytes_sent, open.len());

    // All of this is known after a restart, though nobody says it again.
    cluster.terminate(0).await.unwrap();
    cluster.restart(0).await.unwrap();
    cluster.wait_ready(0).await.unwrap();
    assert_challenged(&ask(Method::GET, &blob_url(&cluster, 0, &digest), &[]).await, &origin, "after a restart");
    pull_as(&blob_url(&cluster, 0, &digest), &ann, layer).await;
    pull(&url(&cluster, 0, OPEN, &format!("blobs/{}", open.digest())), open).await;
    let by_digest = url(&cluster, 0, OPEN, &format!("manifests/{}", public.manifest_digest()));
    assert_eq!(ask(Method::GET, &by_digest, &[]).await.body, *public.manifest());
    let by_digest = url(&cluster, 0, REPOSITORY, &format!("manifests/{}", private.manifest_digest()));
    assert_challenged(&ask(Method::GET, &by_digest, &[]).await, &origin, "a manifest after a restart");
    assert!(origin.counts().blob(&digest).bytes_sent <= layer.len() + SEED_LOSS);
    cluster.shutdown().await.unwrap();
}

/// Many ranges at once with one token are one question to the origin.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_many_connections_proves_itself_once() {
    let _machine = support::half_machine().await;
    let (private, public) = (support::model(8 * MIB, 172), support::model(MIB, 173));
    let layer = private.layer();
    let origin = origin(&private, &public, LIFE).await;
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster(1, &origin, &origin, &folder).await;
    let ann = token(&origin, REPOSITORY, Some("ann:pear")).await;
    let blob = blob_url(&cluster, 0, &layer.digest());
    let ranges = (0..16).map(async |part| {
        let range = format!("bytes={}-{}", part * MIB / 2, (part + 1) * MIB / 2 - 1);
        let reply = ask(Method::GET, &blob, &[(header::AUTHORIZATION, ann.as_str()), (header::RANGE, &range)]).await;
        assert_eq!(reply.status, 206, "{:?}", reply.body);
        reply.body
    });
    let parts = futures::future::join_all(ranges).await;
    assert_eq!(parts.concat(), layer.read(0, usize::MAX));
    assert_eq!(requests(&cluster, "proof").await, 1.0);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_ends_with_the_token_that_earned_it() {
    let _machine = support::half_machine().await;
    let (private, public) = (support::model(2 * MIB, 174), support::model(MIB, 175));
    let layer = private.layer();
    let origin = origin(&private, &public, Duration::from_secs(4)).await;
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster(1, &origin, &origin, &folder).await;
    let blob = blob_url(&cluster, 0, &layer.digest());
    let ann = token(&origin, REPOSITORY, Some("ann:pear")).await;
    pull_as(&blob, &ann, layer).await;
    eventually("the verdict ends", async || {
        let reply = get_as(&blob, &ann).await;
        (reply.status == 401).then(|| assert_challenged(&reply, &origin, "a token that has ended"))
    })
    .await;
    let again = token(&origin, REPOSITORY, Some("ann:pear")).await;
    pull_as(&blob, &again, layer).await;
    cluster.shutdown().await.unwrap();
}
