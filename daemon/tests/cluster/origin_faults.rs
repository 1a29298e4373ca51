//! An origin that limits, fails, lies, falls silent or goes: the pull ends right or fails clean, and nobody storms it.

use std::{fs, path::Path, time::Duration};

use futures::future::join_all;
use http::{Method, StatusCode, header};
use shoal::{cluster::Cluster, fetch};
use shoal_blob::Digest;
use shoal_registry::{Artifact, Blob, Faults, Refusal, Registry, Target};
use tokio::time::Instant;

use crate::support::{
    self, Copy, LIMIT, MIB, REGISTRY, REPOSITORY, SEED_LOSS, TAG, ask, blob_files, blob_url, eventually, log, pull,
    pull_resuming, soon, url,
};

/// What the daemons of these tests may have open for one blob.
const CONNECTIONS: u64 = 2;
const NODES: usize = 3;
const USER: &str = "puller";
const WORD: &str = "pass";

async fn daemons(origin: &Registry) -> Cluster {
    support::ready(support::daemons(NODES, origin).flag("origin-connections", &CONNECTIONS.to_string())).await
}

/// An origin that serves only who knows its word.
async fn origin_with_tokens(model: &Artifact, faults: Faults) -> Registry {
    let builder = Registry::builder().artifact(model.clone()).token_auth(USER, WORD, Duration::from_secs(300));
    builder.faults(faults).listen("127.0.0.1:0").await.unwrap()
}

/// Daemons that know it, from a file in this folder, and serve their clients with it.
async fn daemons_that_know_the_word(origin: &Registry, folder: &Path) -> Cluster {
    let file = support::docker_config(folder, USER, WORD);
    let builder = support::daemons(NODES, origin)
        .flag("origin-connections", &CONNECTIONS.to_string())
        .flag("credentials", &file.to_string_lossy())
        .flag("access", &format!("{REGISTRY}=node"));
    support::ready(builder).await
}

/// What the origin counted: one lease has one connection and the ranges that are configured beside it, and what it was asked
/// in all is within `most`.
fn calm(origin: &Registry, digest: &Digest, most: u64) {
    let counts = origin.counts().blob(digest);
    assert!(counts.bodies_peak <= 1 + CONNECTIONS, "{} bodies at once: {counts:?}", counts.bodies_peak);
    let asked = counts.gets + counts.heads + counts.refused + counts.redirected;
    assert!(asked <= most, "the origin was asked {asked} times, {most} at most are in order: {counts:?}");
}

async fn pull_everywhere(cluster: &Cluster, layer: &Blob) {
    join_all((0..NODES).map(async |node| pull(&blob_url(cluster, node, &layer.digest()), layer).await)).await;
}

/// Asks every node for the blob and reads what comes: never all of it. Returns the statuses and how long the slowest took.
async fn fail_everywhere(cluster: &Cluster, layer: &Blob) -> (Vec<StatusCode>, Duration) {
    let begun = Instant::now();
    let statuses = join_all((0..NODES).map(async |node| {
        let mut answer = fetch::get(&blob_url(cluster, node, &layer.digest()), None).await.unwrap();
        let mut copy = Copy::of(layer);
        if answer.status.is_success() {
            assert!(copy.read(&mut answer).await.is_err(), "node-{node}: a body ended as if it were whole");
            assert!(copy.length < layer.len(), "node-{node} gave all {} bytes", copy.length);
        }
        answer.status
    }));
    let statuses = soon("all clients have an answer", statuses).await;
    (statuses, begun.elapsed())
}

/// Nothing of a blob is left on any node.
async fn nothing_kept(cluster: &Cluster, digest: &Digest) {
    let hex = digest.hex();
    for node in 0..NODES {
        eventually("nothing of the blob is stored", async || {
            let kept = blob_files(&cluster.data_dir(node));
            (!kept.iter().any(|path| path.to_string_lossy().contains(&hex))).then_some(())
        })
        .await;
    }
}

async fn recover_everywhere(cluster: &Cluster, layer: &Blob) {
    let pulls = (0..NODES).map(|node| pull_resuming(blob_url(cluster, node, &layer.digest()), layer.clone()));
    for outcome in join_all(pulls).await {
        outcome.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_waited_out_where_that_is_short() {
    let _machine = support::half_machine().await;
    let model = support::model(24 * MIB, 140);
    let layer = model.layer();
    let limited = Refusal::status(StatusCode::TOO_MANY_REQUESTS).of(Target::Blobs).retry_after(Duration::from_secs(1));
    let origin = support::faulty_origin(&model, Faults::none().refuse(limited.first(3))).await;
    let cluster = daemons(&origin).await;
    let begun = Instant::now();
    pull_everywhere(&cluster, layer).await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "Retry-After is honoured by the whole cluster");
    let counts = origin.counts().blob(&layer.digest());
    assert_eq!((counts.bytes_sent, counts.refused), (layer.len(), 3), "{counts:?}");
    calm(&origin, &layer.digest(), 3 + 1 + layer.len() / (2 * MIB));
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_rate_limit_and_an_origin_in_trouble_fail_soon_and_are_not_stormed() {
    let _machine = support::half_machine().await;
    let hour = Duration::from_secs(3600);
    let kinds = [
        Refusal::status(StatusCode::TOO_MANY_REQUESTS).retry_after(hour),
        Refusal::status(StatusCode::INTERNAL_SERVER_ERROR),
        Refusal::status(StatusCode::SERVICE_UNAVAILABLE),
    ];
    let models = [141, 151, 152].map(|seed| support::model(8 * MIB, seed));
    let origin = support::origin(&models[0]).await;
    let cluster = daemons(&origin).await;
    for (refusal, model) in kinds.into_iter().zip(&models) {
        origin.put(model).unwrap();
        origin.set_faults(Faults::none().refuse(refusal.of(Target::Blobs)));
        let (statuses, took) = fail_everywhere(&cluster, model.layer()).await;
        // What makes clients go on elsewhere: never a 429, and no 404 that would say that there is no such blob.
        assert!(statuses.iter().all(StatusCode::is_server_error), "{statuses:?}");
        assert!(took < Duration::from_secs(30), "{took:?}");
        // Those who ask again at once do not make the nodes ask the origin again.
        fail_everywhere(&cluster, model.layer()).await;
        let refused = origin.counts().blob(&model.layer().digest()).refused;
        // Five attempts for each of the nodes that may try, twice at most.
        assert!((1..=30).contains(&refused), "{refused} requests");
    }
    origin.set_faults(Faults::none());
    for model in &models {
        let digest = model.layer().digest();
        recover_everywhere(&cluster, model.layer()).await;
        assert_eq!(origin.counts().blob(&digest).bytes_sent, model.layer().len());
        calm(&origin, &digest, 60);
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_in_mid_blob_is_replaced_and_nothing_is_read_twice() {
    let _machine = support::half_machine().await;
    let model = support::model(32 * MIB, 142);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = origin_with_tokens(&model, Faults::none().truncate(3 * MIB)).await;
    origin.hold_at(&digest, 12 * MIB);
    let folder = tempfile::tempdir().unwrap();
    let cluster = daemons_that_know_the_word(&origin, folder.path()).await;
    let pulls = pull_everywhere(&cluster, layer);
    let revoke = async {
        soon("a part is sent", origin.until(|counts| counts.blob(&digest).bytes_sent == 12 * MIB)).await;
        origin.revoke_tokens();
        origin.release(&digest);
    };
    tokio::join!(pulls, revoke);
    let counts = origin.counts();
    assert_eq!(counts.blob(&digest).bytes_sent, layer.len());
    assert!(counts.tokens_issued >= 2, "{counts:?}");
    calm(&origin, &digest, 40);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_end_early_are_read_on_where_they_ended() {
    let _machine = support::half_machine().await;
    let model = support::model(24 * MIB, 143);
    let layer = model.layer();
    let origin = support::faulty_origin(&model, Faults::none().truncate(2 * MIB + 12_345)).await;
    let cluster = daemons(&origin).await;
    pull_everywhere(&cluster, layer).await;
    assert_eq!(origin.counts().blob(&layer.digest()).bytes_sent, layer.len());
    calm(&origin, &layer.digest(), 30);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_length_fails_clean_on_every_node() {
    let _machine = support::half_machine().await;
    let model = support::model(24 * MIB, 144);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::faulty_origin(&model, Faults::none().lengthen(17)).await;
    let cluster = daemons(&origin).await;
    let (statuses, took) = fail_everywhere(&cluster, layer).await;
    assert!(took < Duration::from_secs(45), "{took:?}");
    assert!(statuses.iter().all(|status| status.is_success() || status.is_server_error()), "{statuses:?}");
    nothing_kept(&cluster, &digest).await;
    calm(&origin, &digest, 60);
    origin.set_faults(Faults::none());
    recover_everywhere(&cluster, layer).await;
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let _machine = support::half_machine().await;
    let model = support::model(24 * MIB, 145);
    let layer = model.layer();
    let digest = layer.digest();
    let store = support::origin(&model).await;
    let origin = origin_with_tokens(&model, Faults::none().redirect_blobs(&store.url())).await;
    let folder = tempfile::tempdir().unwrap();
    let cluster = daemons_that_know_the_word(&origin, folder.path()).await;
    pull_everywhere(&cluster, layer).await;
    assert_eq!(store.counts().blob(&digest).bytes_sent, layer.len());
    assert!(origin.counts().with_authorization > 0);
    assert_eq!(store.counts().with_authorization, 0, "the credentials followed the redirect");
    calm(&store, &digest, 20);
    calm(&origin, &digest, 30);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_fail_clean_on_every_node_and_the_origin_is_named() {
    let _machine = support::half_machine().await;
    let model = support::model(24 * MIB, 146);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::faulty_origin(&model, Faults::none().wrong_byte(digest, 9 * MIB + 1)).await;
    let cluster = daemons(&origin).await;
    fail_everywhere(&cluster, layer).await;
    nothing_kept(&cluster, &digest).await;
    // Every node says where it was to come from, and the one that read it whose fault it is.
    for node in 0..NODES {
        let place = format!("{digest} in {REGISTRY}/{REPOSITORY}");
        eventually("the node's log names the origin", async || {
            log(&cluster, node).lines().any(|line| line.contains("WARN") && line.contains(&place)).then_some(())
        })
        .await;
    }
    eventually("the seed's log blames the origin", async || {
        let about =
            |line: &str| line.contains("ERROR") && line.contains(REGISTRY) && line.contains("the origin's bytes");
        (0..NODES).any(|node| log(&cluster, node).lines().any(about)).then_some(())
    })
    .await;
    calm(&origin, &digest, 60);
    cluster.shutdown().await.unwrap();
}

/// Nothing comes for as long as anybody waits: every client is told within a minute, and the pull goes on once there is
/// something again.
#[tokio::test(flavor = "multi_thread")]
async fn silence_is_noticed_long_before_a_minute_and_the_pull_goes_on_after_it() {
    let _machine = support::half_machine().await;
    let model = support::model(32 * MIB, 147);
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    origin.hold_at(&digest, 12 * MIB);
    let cluster = daemons(&origin).await;
    let (_, took) = fail_everywhere(&cluster, layer).await;
    assert!(took < Duration::from_secs(60), "the clients were told after {took:?}");
    calm(&origin, &digest, 40);
    origin.release(&digest);
    recover_everywhere(&cluster, layer).await;
    let sent = origin.counts().blob(&digest).bytes_sent;
    assert!(sent <= layer.len() + SEED_LOSS, "{} MiB were sent twice", (sent - layer.len()) / MIB);
    calm(&origin, &digest, 60);
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_origin_is_gone_what_is_complete_is_served_on_and_tags_from_memory() {
    let _machine = support::half_machine().await;
    let (model, other) = (support::model(8 * MIB, 148), support::model(8 * MIB, 149));
    let layer = model.layer();
    let digest = layer.digest();
    let origin = support::origin(&model).await;
    let mut cluster = support::ready(support::daemons(2, &origin)).await;
    let manifest =
        |cluster: &Cluster, node, reference: &str| url(cluster, node, REPOSITORY, &format!("manifests/{reference}"));
    for node in 0..2 {
        assert_eq!(ask(Method::GET, &manifest(&cluster, node, TAG), &[]).await.body, *model.manifest());
        pull(&blob_url(&cluster, node, &digest), layer).await;
    }
    origin.stop().await;
    for round in ["while it runs", "after a restart"] {
        pull(&blob_url(&cluster, 0, &digest), layer).await;
        for method in [Method::HEAD, Method::GET] {
            let tagged = ask(method.clone(), &manifest(&cluster, 0, TAG), &[]).await;
            assert_eq!(tagged.status, 200, "{round}: {:?}", tagged.body);
            assert_eq!(tagged.header("docker-content-digest"), model.manifest_digest().to_string());
            assert!(tagged.header(header::WARNING.as_str()).starts_with("299 - "), "{round}: {:?}", tagged.headers);
            assert!(method == Method::HEAD || tagged.body == *model.manifest());
        }
        assert!(cluster.metric(0, "shoal_mirror_stale_tags_total").await.unwrap() >= 2.0);
        let named = ask(Method::GET, &manifest(&cluster, 0, &model.manifest_digest().to_string()), &[]).await;
        assert_eq!((named.status, named.header(header::WARNING.as_str())), (200, ""), "{round}");
        assert_eq!(named.body, *model.manifest());
        if round == "while it runs" {
            cluster.terminate(0).await.unwrap();
            cluster.restart(0).await.unwrap();
            cluster.wait_ready(0).await.unwrap();
        }
    }
    eventually("the log says so", async || log(&cluster, 0).contains("a remembered tag stands in").then_some(())).await;
    // What nobody has nobody makes up; and it is told soon.
    let begun = Instant::now();
    let missing = ask(Method::GET, &blob_url(&cluster, 1, &other.layer().digest()), &[]).await;
    assert_eq!((missing.status, missing.code().as_str()), (502, "UNAVAILABLE"));
    assert_eq!(ask(Method::GET, &manifest(&cluster, 1, "v2"), &[]).await.status, 502);
    assert!(begun.elapsed() < LIMIT / 3, "{:?}", begun.elapsed());
    cluster.shutdown().await.unwrap();
}

/// A password that is changed in its file is used without a restart and without a signal.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_read_again_while_the_daemon_runs() {
    let _machine = support::half_machine().await;
    let model = support::model(2 * MIB, 150);
    let builder = Registry::builder().artifact(model.clone()).token_auth("puller", "right", Duration::from_secs(300));
    let origin = builder.listen("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = support::docker_config(folder.path(), "puller", "wrong");
    let cluster = support::daemons(1, &origin)
        .flag("credentials", &folder.path().to_string_lossy())
        .flag("access", &format!("{REGISTRY}=node"));
    let cluster = support::ready(cluster).await;
    let manifest = url(&cluster, 0, REPOSITORY, &format!("manifests/{TAG}"));
    assert_eq!(ask(Method::GET, &manifest, &[]).await.status, 403);
    // As a mounted Secret is: replaced, not written to.
    let next = tempfile::tempdir().unwrap();
    fs::rename(support::docker_config(next.path(), "puller", "right"), file).unwrap();
    assert_eq!(ask(Method::GET, &manifest, &[]).await.status, 200);
    pull(&blob_url(&cluster, 0, &model.layer().digest()), model.layer()).await;
    cluster.shutdown().await.unwrap();
}
