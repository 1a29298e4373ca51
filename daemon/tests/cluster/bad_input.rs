//! Requests that cannot be served, and an origin that is wrong: the right status and code, a line in the log that names
//! what was asked, nothing stored, nothing lost.

use http::{HeaderName, Method, header};
use shoal::{cluster::Cluster, fetch};
use shoal_blob::{Algorithm, Digest};
use shoal_registry::{Artifact, Blob, Faults, Registry};

use crate::support::{
    self, Copy, MIB, REGISTRY, REPOSITORY, TAG, ask, blob_files, blob_url, eventually, log, pull, pull_resuming, url,
};

const UNKNOWN: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000aa";
const OTHER: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000bb";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Waits for the log line about a request: a warning or a note on one line with what was asked.
async fn names(cluster: &Cluster, what: &str) {
    eventually(&format!("the log names {what:?}"), async || log(cluster, 0).contains(what).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_answered_as_the_specification_says() {
    let _machine = support::half_machine().await;
    let model = support::model(2 * MIB, 70);
    let layer = model.layer().digest();
    let big = Artifact::new("models/big", MANIFEST, vec![b' '; (4 << 20) + 1]).tag(TAG);
    let big_digest = big.manifest_digest();
    let origin = Registry::builder().artifact(model.clone()).artifact(big).listen("127.0.0.1:0").await.unwrap();
    let cluster = support::ready(support::daemons(1, &origin).registry("gone.test=http://127.0.0.1:1")).await;

    let range = |value: &'static str| vec![(header::RANGE, value)];
    let none = Vec::<(HeaderName, &str)>::new;
    let (here, elsewhere, gone) = (format!("?ns={REGISTRY}"), "?ns=other.test".to_owned(), "?ns=gone.test".to_owned());
    let cases = [
        // What is asked, of which registry, how; the answer; and what the log must name.
        (format!("models/a/blobs/{UNKNOWN}"), &here, none(), 404, "BLOB_UNKNOWN", UNKNOWN),
        ("models/a/blobs/sha256:12ab".to_owned(), &here, none(), 400, "DIGEST_INVALID", "sha256:12ab"),
        (
            "models/a/blobs/md5:0123456789abcdef".to_owned(),
            &here,
            none(),
            400,
            "DIGEST_INVALID",
            "md5:0123456789abcdef",
        ),
        (format!("models/a/blobs/{}", UNKNOWN.to_uppercase()), &here, none(), 400, "DIGEST_INVALID", "SHA256:0000"),
        (format!("Models/Upper/blobs/{UNKNOWN}"), &here, none(), 400, "NAME_INVALID", "Models/Upper"),
        (format!("models/../../etc/blobs/{UNKNOWN}"), &here, none(), 400, "NAME_INVALID", "models/../../etc"),
        (format!("models/b/blobs/{UNKNOWN}"), &elsewhere, none(), 403, "DENIED", "other.test"),
        (format!("models/c/blobs/{OTHER}"), &gone, none(), 502, "UNAVAILABLE", "models/c"),
        ("models/d/manifests/v1".to_owned(), &elsewhere, none(), 403, "DENIED", "models/d"),
        ("models/e/manifests/nothing".to_owned(), &here, none(), 404, "MANIFEST_UNKNOWN", "models/e"),
        ("models/f/manifests/.dot".to_owned(), &here, none(), 404, "MANIFEST_UNKNOWN", "models/f"),
        (format!("models/big/manifests/{TAG}"), &here, none(), 502, "MANIFEST_INVALID", "models/big"),
        (format!("models/big/manifests/{big_digest}"), &here, none(), 502, "MANIFEST_INVALID", "models/big"),
        (
            format!("{REPOSITORY}/blobs/{layer}"),
            &here,
            range("bytes=2097152-"),
            416,
            "RANGE_INVALID",
            "beyond the blob",
        ),
        (format!("{REPOSITORY}/blobs/{layer}"), &here, range("bytes=7-3"), 416, "RANGE_INVALID", "malformed"),
        ("models/g/things/x".to_owned(), &here, none(), 404, "UNSUPPORTED", "models/g"),
    ];
    for (path, ns, headers, status, code, named) in cases {
        let url = format!("{}/v2/{path}{ns}", cluster.mirror_url(0));
        let reply = ask(Method::GET, &url, &headers).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{url}: {:?}", reply.body);
        if status == 416 {
            assert_eq!(reply.header("content-range"), "bytes */2097152");
        }
        names(&cluster, named).await;
        let head = ask(Method::HEAD, &url, &[]).await;
        assert!(head.body.is_empty());
        // A HEAD has no range.
        assert_eq!(head.status, if status == 416 { 200 } else { status }, "HEAD {url}");
    }
    for (method, path) in [
        (Method::POST, "models/a/blobs/uploads/".to_owned()),
        (Method::PUT, format!("models/a/manifests/{TAG}")),
        (Method::PATCH, "models/a/blobs/uploads/1".to_owned()),
        (Method::DELETE, format!("{REPOSITORY}/blobs/{layer}")),
    ] {
        let reply = ask(method.clone(), &format!("{}/v2/{path}{here}", cluster.mirror_url(0)), &[]).await;
        assert_eq!((reply.status, reply.code().as_str()), (405, "UNSUPPORTED"), "{method} {path}");
    }

    assert_eq!(origin.counts().blob_bytes_sent(), 0);
    assert_eq!(blob_files(&cluster.data_dir(0)), Vec::<std::path::PathBuf>::new(), "something was stored");
    pull(&blob_url(&cluster, 0, &layer), model.layer()).await;
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_no_bytes_of_few_bytes_and_of_sha512_are_ordinary() {
    let _machine = support::half_machine().await;
    let noise = support::model(5 * MIB + 17, 71).layer().read(0, usize::MAX);
    let blobs = [
        Blob::new(""),
        Blob::new("x"),
        Blob::with_algorithm(Algorithm::Sha512, ""),
        Blob::with_algorithm(Algorithm::Sha512, "y"),
        Blob::with_algorithm(Algorithm::Sha512, noise.clone()),
        Blob::new(noise.slice(..MIB as usize)),
        Blob::new(noise.slice(..2 * MIB as usize)),
    ];
    let artifact = Artifact::new(REPOSITORY, MANIFEST, "{}").tag(TAG);
    let artifact = blobs.iter().fold(artifact, |artifact, blob| artifact.blob(blob.clone()));
    let origin = support::origin(&artifact).await;
    let cluster = support::ready(support::daemons(2, &origin)).await;
    for blob in &blobs {
        let digest = blob.digest();
        for node in [0, 1, 0] {
            let head = ask(Method::HEAD, &blob_url(&cluster, node, &digest), &[]).await;
            assert_eq!(
                (head.status, head.header("content-length")),
                (200, blob.len().to_string().as_str()),
                "{digest}"
            );
            assert_eq!(head.header("docker-content-digest"), digest.to_string());
            pull(&blob_url(&cluster, node, &digest), blob).await;
        }
        let counts = origin.counts().blob(&digest);
        assert_eq!((counts.bytes_sent, counts.heads), (blob.len(), 1), "{digest}");
    }
    cluster.shutdown().await.unwrap();
}

/// An origin whose layer has a wrong byte: no client gets all of it, nothing of it stays, and once the origin is right
/// the pull succeeds.
async fn wrong_byte_at(at: u64, length: u64, nodes: usize) {
    let _machine = support::half_machine().await;
    let model = support::model(length, 72);
    let layer = model.layer();
    let digest: Digest = layer.digest();
    let origin = support::faulty_origin(&model, Faults::none().wrong_byte(digest, at)).await;
    let cluster = support::ready(support::daemons(nodes, &origin)).await;
    futures::future::join_all((0..nodes).map(async |node| {
        let mut answer = fetch::get(&blob_url(&cluster, node, &digest), None).await.unwrap();
        let mut copy = Copy::of(layer);
        if answer.status.is_success() {
            assert!(copy.read(&mut answer).await.is_err(), "node-{node}: a body ended as if it were whole");
            assert!(copy.length < length, "node-{node} gave all {} bytes", copy.length);
        } else {
            assert_eq!(answer.status, 502, "node-{node}");
        }
    }))
    .await;
    for node in 0..nodes {
        let hex = digest.hex();
        eventually("nothing of the wrong blob is stored", async || {
            let kept = blob_files(&cluster.data_dir(node));
            (!kept.iter().any(|path| path.to_string_lossy().contains(&hex))).then_some(())
        })
        .await;
    }
    eventually("a log names the wrong blob", async || {
        let about =
            |line: &str| line.contains(&digest.to_string()) && (line.contains("WARN") || line.contains("ERROR"));
        (0..nodes).any(|node| log(&cluster, node).lines().any(about)).then_some(())
    })
    .await;

    origin.set_faults(Faults::none());
    for node in 0..nodes {
        pull_resuming(blob_url(&cluster, node, &digest), layer.clone()).await.unwrap();
    }
    cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_byte_in_the_middle_never_makes_a_whole_blob() {
    wrong_byte_at(3 * MIB + 5, 8 * MIB, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_byte_at_the_end_never_makes_a_whole_blob_on_any_node() {
    wrong_byte_at(8 * MIB + 99, 8 * MIB + 100, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_not_what_its_digest_says_is_not_passed_on() {
    let _machine = support::half_machine().await;
    let claimed: Digest = UNKNOWN.parse().unwrap();
    let liar = Artifact::new(REPOSITORY, MANIFEST, r#"{"schemaVersion":2}"#).claiming(claimed);
    let origin = support::origin(&liar).await;
    let cluster = support::ready(support::daemons(1, &origin)).await;
    let reply = ask(Method::GET, &url(&cluster, 0, REPOSITORY, &format!("manifests/{claimed}")), &[]).await;
    assert_eq!((reply.status, reply.code().as_str()), (502, "UNAVAILABLE"), "{:?}", reply.body);
    names(&cluster, UNKNOWN).await;
    cluster.shutdown().await.unwrap();
}
