//! What the OCI conformance suite checks of the pull side and of discovery, check by check, on a cold and on a warm node.
//!
//! The suite itself pushes, or is told what there is to pull: `docs/conformance.md` says how to run it against a daemon.

use http::{HeaderName, Method, header};
use serde_json::{Value, json};
use shoal::cluster::Cluster;
use shoal_registry::{Artifact, Blob, Registry};

use crate::support::{self, REPOSITORY, Reply, ask, url};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const TYPE_A: &str = "application/vnd.nba.strawberry.jam.croissant";
const TYPE_B: &str = "application/vnd.nba.raspberry.jam.croissant";
const TAGS: [&str; 4] = ["test0", "test1", "test2", "test3"];
/// The codes of the distribution-spec.
const CODES: [&str; 15] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
    "RANGE_INVALID",
];

struct Subject {
    image: Artifact,
    /// The digest of a manifest that is not there, and that another refers to.
    missing: String,
    referrers: Vec<Artifact>,
}

/// An image under four tags; five artifacts that refer to it, two of them of one type; one that refers to nothing.
fn subject() -> Subject {
    let config =
        Blob::new(br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec());
    let layer = Blob::new(b"NBA Jam on my NBA toast".to_vec());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.digest(), "size": config.len() },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.digest(), "size": layer.len() }],
    });
    let image = Artifact::new(REPOSITORY, MANIFEST, serde_json::to_vec_pretty(&manifest).unwrap());
    let image = TAGS.iter().fold(image.blob(config).blob(layer), |image, tag| image.tag(tag));
    let missing = format!("sha256:{}", "9".repeat(64));
    let referring = |to: &str, number: usize, by: Value| {
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "subject": { "mediaType": MANIFEST, "digest": to, "size": image.manifest().len() },
            "layers": [],
            "annotations": { "org.opencontainers.conformance.test": format!("artifact {number}") },
        });
        manifest.as_object_mut().unwrap().extend(by.as_object().unwrap().clone());
        Artifact::new(REPOSITORY, MANIFEST, serde_json::to_vec(&manifest).unwrap())
    };
    let by_config =
        |kind: &str| json!({ "config": { "mediaType": kind, "digest": image.manifest_digest(), "size": 2 } });
    let by_type =
        |kind: &str| json!({ "artifactType": kind, "config": { "mediaType": "application/vnd.oci.empty.v1+json" } });
    let digest = image.manifest_digest().to_string();
    let kinds =
        [by_config(TYPE_A), by_type(TYPE_A), by_type("application/vnd.food.stand"), by_config(TYPE_B), by_type(TYPE_B)];
    let mut referrers: Vec<_> =
        kinds.into_iter().enumerate().map(|(number, kind)| referring(&digest, number, kind)).collect();
    referrers.push(referring(&missing, 5, by_type(TYPE_B)));
    Subject { image, missing, referrers }
}

struct Suite {
    cluster: Cluster,
    _origin: Registry,
    subject: Subject,
}

impl Suite {
    async fn start() -> Self {
        let subject = subject();
        let mut origin = Registry::builder().artifact(subject.image.clone());
        for referrer in &subject.referrers {
            origin = origin.artifact(referrer.clone());
        }
        let origin = origin.listen("127.0.0.1:0").await.unwrap();
        let cluster = support::ready(support::daemons(1, &origin)).await;
        Self { cluster, _origin: origin, subject }
    }

    async fn call(&self, method: Method, what: &str, headers: &[(HeaderName, &str)]) -> Reply {
        let (path, query) = what.split_once('?').unwrap_or((what, ""));
        ask(method, &format!("{}&{query}", url(&self.cluster, 0, REPOSITORY, path)), headers).await
    }

    async fn get(&self, what: &str) -> Reply {
        self.call(Method::GET, what, &[(header::ACCEPT, MANIFEST)]).await
    }

    async fn head(&self, what: &str) -> Reply {
        self.call(Method::HEAD, what, &[(header::ACCEPT, MANIFEST)]).await
    }

    async fn tags(&self, query: &str) -> Vec<String> {
        let reply = self.call(Method::GET, &format!("tags/list?{query}"), &[]).await;
        assert_eq!(reply.status, 200);
        let list: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(list["name"], REPOSITORY);
        serde_json::from_value(list["tags"].clone()).unwrap()
    }

    async fn referrers(&self, digest: &str, query: &str) -> (Vec<Value>, String) {
        let reply = self.call(Method::GET, &format!("referrers/{digest}?{query}"), &[]).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, INDEX));
        let index: Value = serde_json::from_slice(&reply.body).unwrap();
        (index["manifests"].as_array().unwrap().clone(), reply.header("oci-filters-applied").to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pull() {
    let _machine = support::half_machine().await;
    let suite = Suite::start().await;
    let Subject { image, .. } = &suite.subject;
    let dummy = format!("sha256:{}", "5".repeat(64));
    // Once from the origin, once from here.
    for _ in 0..2 {
        assert_eq!(suite.head(&format!("blobs/{dummy}")).await.status, 404, "HEAD of a blob that is not there");
        assert_eq!(suite.get(&format!("blobs/{dummy}")).await.status, 404, "GET of a blob that is not there");
        for blob in image.blobs() {
            let (what, digest) = (format!("blobs/{}", blob.digest()), blob.digest().to_string());
            let head = suite.head(&what).await;
            assert_eq!((head.status, head.header("docker-content-digest")), (200, &*digest), "HEAD of a blob");
            assert_eq!((head.header("content-length"), head.body.len()), (&*blob.len().to_string(), 0));
            let get = suite.get(&what).await;
            assert_eq!((get.status, &get.body), (200, &blob.read(0, blob.len() as usize)), "GET of a blob");
        }
        let digest = image.manifest_digest().to_string();
        for nothing in [".INVALID_MANIFEST_NAME", "not-there", &dummy] {
            let what = format!("manifests/{nothing}");
            assert_eq!(suite.head(&what).await.status, 404, "HEAD of a manifest that is not there: {nothing}");
            let get = suite.get(&what).await;
            assert_eq!((get.status, get.code().as_str()), (404, "MANIFEST_UNKNOWN"), "GET of {nothing}");
        }
        for reference in [TAGS[0], &digest] {
            let what = format!("manifests/{reference}");
            let (head, get) = (suite.head(&what).await, suite.get(&what).await);
            assert_eq!((head.status, get.status), (200, 200), "{reference}");
            assert!(head.body.is_empty() && get.body == *image.manifest());
            for reply in [&head, &get] {
                assert_eq!(reply.header("docker-content-digest"), digest);
                assert_eq!(reply.header("content-type"), MANIFEST);
                assert_eq!(reply.header("content-length"), image.manifest().len().to_string());
            }
        }
    }
    suite.cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn error_codes() {
    let _machine = support::half_machine().await;
    let suite = Suite::start().await;
    for (method, what, status) in [
        (Method::GET, "manifests/sha256:totallywrong", 400),
        (Method::GET, "blobs/sha256:totallywrong", 400),
        (Method::GET, "referrers/sha256:totallywrong", 400),
        (Method::GET, "manifests/.INVALID_MANIFEST_NAME", 404),
        (Method::PUT, "manifests/v1", 405),
        (Method::POST, "blobs/uploads/", 405),
        (Method::DELETE, "manifests/v1", 405),
        (Method::PATCH, "blobs/uploads/x", 405),
    ] {
        let reply = suite.call(method.clone(), what, &[]).await;
        assert_eq!((reply.status, reply.header("content-type")), (status, "application/json"), "{method} {what}");
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        let error = &body["errors"][0];
        assert!(CODES.contains(&error["code"].as_str().unwrap()), "{body}");
        assert!(error["message"].is_string() && error.get("detail").is_some(), "{body}");
    }
    suite.cluster.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn content_discovery() {
    let _machine = support::half_machine().await;
    let suite = Suite::start().await;
    assert_eq!(suite.tags("").await, TAGS);
    let half = TAGS.len() / 2;
    let first = suite.tags(&format!("n={half}")).await;
    assert_eq!(first, TAGS[..half], "`n` limits how many");
    let rest = suite.tags(&format!("n={half}&last={}", first[half - 1])).await;
    assert_eq!(rest, TAGS[half..], "`last` is where they begin");
    let page = suite.call(Method::GET, "tags/list?n=1", &[]).await;
    assert!(page.header("link").contains("rel=\"next\"") && page.header("link").contains("last=test0"));

    let Subject { image, missing, referrers } = &suite.subject;
    let dummy = format!("sha256:{}", "5".repeat(64));
    assert_eq!(
        suite.referrers(&dummy, "").await,
        (Vec::new(), String::new()),
        "of nothing that is known: empty, and 200"
    );
    let digest = image.manifest_digest().to_string();
    let (all, filters) = suite.referrers(&digest, "").await;
    assert_eq!((all.len(), filters.as_str()), (5, ""));
    for (descriptor, referrer) in all.iter().zip(referrers) {
        assert_eq!(descriptor["digest"], referrer.manifest_digest().to_string());
        assert_eq!(descriptor["size"], referrer.manifest().len());
        assert_eq!(descriptor["annotations"].as_object().unwrap().len(), 1);
        // What is listed can be pulled, byte for byte.
        let pulled = suite.get(&format!("manifests/{}", referrer.manifest_digest())).await;
        assert!(pulled.status == 200 && pulled.body == *referrer.manifest());
    }
    let (some, filters) = suite.referrers(&digest, &format!("artifactType={TYPE_A}")).await;
    assert_eq!((some.len(), filters.as_str()), (2, "artifactType"));
    assert!(some.iter().all(|descriptor| descriptor["artifactType"] == TYPE_A));
    let (one, _) = suite.referrers(missing, "").await;
    assert_eq!(one.len(), 1, "the subject need not be there");
    assert_eq!(one[0]["digest"], referrers[5].manifest_digest().to_string());
    suite.cluster.shutdown().await.unwrap();
}
