//! What a well-behaved registry serves, and what it counts.

mod client;

use client::{client, error_code, get, head, header, soon, start};
use shoal_blob::{Algorithm, Digest};
use shoal_registry::{Artifact, Blob, Registry};

const SIZE: u64 = 3_000_017;

fn model() -> Artifact {
    Artifact::synthetic("models/synthetic", "v1", SIZE, 42)
}

fn path_of(blob: &Blob) -> String {
    format!("/v2/models/synthetic/blobs/{}", blob.digest())
}

#[tokio::test]
async fn a_whole_artifact_can_be_pulled_and_is_counted() {
    let model = model();
    let registry = start(Registry::builder().artifact(model.clone())).await;
    assert_eq!(get(&registry, "/v2/", &[]).await.status(), 200);

    let manifest = get(&registry, "/v2/models/synthetic/manifests/v1", &[]).await;
    assert_eq!(header(&manifest, "content-type"), "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(header(&manifest, "docker-content-digest"), model.manifest_digest().to_string());
    assert_eq!(manifest.bytes().await.unwrap(), model.manifest());
    let by_digest = format!("/v2/models/synthetic/manifests/{}", model.manifest_digest());
    let by_digest = head(&registry, &by_digest).await;
    assert_eq!(header(&by_digest, "content-length"), model.manifest().len().to_string());

    let layer = model.layer();
    let told = head(&registry, &path_of(layer)).await;
    assert_eq!((told.status().as_u16(), header(&told, "content-length")), (200, "3000017"));
    assert_eq!(header(&told, "accept-ranges"), "bytes");
    assert_eq!(header(&told, "docker-content-digest"), layer.digest().to_string());
    for blob in model.blobs() {
        let body = get(&registry, &path_of(blob), &[]).await.bytes().await.unwrap();
        assert_eq!(Blob::new(body).digest(), blob.digest());
    }

    let counts = soon(registry.until(|counts| counts.blob(&layer.digest()).bodies_now == 0)).await;
    let blob = counts.blob(&layer.digest());
    assert_eq!((blob.bytes_sent, blob.gets, blob.heads), (SIZE, 1, 1));
    assert_eq!((blob.bodies_peak, blob.bodies_cut, blob.refused, blob.range_gets), (1, 0, 0, 0));
    assert_eq!((counts.manifest_gets, counts.manifest_heads), (1, 1));
    assert_eq!(counts.blob_bytes_sent(), model.blobs().iter().map(Blob::len).sum::<u64>());
    let json = serde_json::to_value(&counts).unwrap();
    assert_eq!(json["blobs"][layer.digest().to_string()]["bytes_sent"], SIZE);
}

#[tokio::test]
async fn single_ranges_are_exact() {
    let model = model();
    let (registry, layer) = (start(Registry::builder().artifact(model.clone())).await, model.layer());
    for (asked, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=1000-1999", 1000, 1999),
        ("bytes=2999999-", 2_999_999, SIZE - 1),
        ("bytes=-17", SIZE - 17, SIZE - 1),
        ("bytes=5-99999999", 5, SIZE - 1),
    ] {
        let answer = get(&registry, &path_of(layer), &[("range", asked)]).await;
        assert_eq!(answer.status(), 206, "{asked}");
        assert_eq!(header(&answer, "content-range"), format!("bytes {first}-{last}/{SIZE}"));
        assert_eq!(header(&answer, "content-length"), (last - first + 1).to_string());
        assert_eq!(answer.bytes().await.unwrap(), layer.read(first, (last - first + 1) as usize));
    }
    let beyond = get(&registry, &path_of(layer), &[("range", "bytes=3000017-")]).await;
    assert_eq!((beyond.status().as_u16(), header(&beyond, "content-range")), (416, "bytes */3000017"));
    let tag = format!("\"{}\"", layer.digest());
    for (condition, status) in [(tag.as_str(), 206), ("\"another\"", 200)] {
        let headers = [("range", "bytes=0-9"), ("if-range", condition)];
        assert_eq!(get(&registry, &path_of(layer), &headers).await.status(), status);
    }
    let blob = registry.counts().blob(&layer.digest());
    assert_eq!((blob.gets, blob.range_gets, blob.refused), (7, 6, 1));
    assert_eq!(blob.ranges[..2], [0..1, 1000..2000]);
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_words_of_the_spec() {
    let registry = start(Registry::builder().artifact(model())).await;
    let unknown = Digest::Sha256([7; 32]);
    for (path, status, code) in [
        ("/v2/models/synthetic/manifests/v2".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("/v2/models/other/manifests/v1".to_owned(), 404, "NAME_UNKNOWN"),
        (format!("/v2/models/synthetic/blobs/{unknown}"), 404, "BLOB_UNKNOWN"),
        ("/v2/models/synthetic/blobs/sha256:12".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/Models/manifests/v1".to_owned(), 400, "NAME_INVALID"),
    ] {
        let answer = get(&registry, &path, &[]).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(error_code(answer).await, code, "{path}");
    }
    let push = client().post(format!("{}/v2/models/synthetic/blobs/uploads/", registry.url())).send().await.unwrap();
    assert_eq!(push.status(), 405);
    assert_eq!(error_code(push).await, "UNSUPPORTED");
    let counts = registry.counts();
    assert_eq!(counts.errors, 6);
    assert!(counts.blobs.is_empty(), "a digest that is not here got an account");
}

#[tokio::test]
async fn anything_can_be_served_under_any_digest() {
    let big: String = std::iter::repeat_n(' ', 5 << 20).collect();
    let long = Blob::with_algorithm(Algorithm::Sha512, &b"sha512"[..]);
    let lie = Blob::claiming(Digest::Sha256([9; 32]), &b"not that"[..]);
    let artifact = Artifact::new("odd", "application/x-odd", big.clone())
        .tag("v1")
        .tag("latest")
        .blob(long.clone())
        .blob(lie.clone())
        .blob(Blob::new(&b""[..]));
    let other = artifact.clone().under("another/home");
    let registry = start(Registry::builder().artifact(artifact).artifact(other)).await;
    for repository in ["odd", "another/home"] {
        let manifest = get(&registry, &format!("/v2/{repository}/manifests/latest"), &[]).await;
        assert_eq!(header(&manifest, "content-type"), "application/x-odd");
        assert_eq!(manifest.bytes().await.unwrap(), big);
        for (blob, bytes) in [(&long, &b"sha512"[..]), (&lie, b"not that"), (&Blob::new(&b""[..]), b"")] {
            let answer = get(&registry, &format!("/v2/{repository}/blobs/{}", blob.digest()), &[]).await;
            assert_eq!(answer.bytes().await.unwrap(), bytes);
        }
    }
    assert_eq!(registry.counts().blob(&lie.digest()).bytes_sent, 16);
}

#[tokio::test]
async fn tags_and_referrers_are_listed() {
    let registry = start(Registry::builder().artifact(model())).await;
    registry.put(&model().tag("v0").tag("v2")).unwrap();
    let all = get(&registry, "/v2/models/synthetic/tags/list", &[]).await.text().await.unwrap();
    assert_eq!(all, r#"{"name":"models/synthetic","tags":["v0","v1","v2"]}"#);
    let page = get(&registry, "/v2/models/synthetic/tags/list?n=1&last=v0", &[]).await;
    assert_eq!(header(&page, "link"), "</v2/models/synthetic/tags/list?n=1&last=v1>; rel=\"next\"");
    assert!(page.text().await.unwrap().ends_with(r#"["v1"]}"#));
    let referrers = format!("/v2/models/synthetic/referrers/{}", model().manifest_digest());
    let referrers = get(&registry, &referrers, &[]).await;
    assert_eq!(header(&referrers, "content-type"), "application/vnd.oci.image.index.v1+json");
    assert!(referrers.text().await.unwrap().contains(r#""manifests":[]"#));
}

#[tokio::test]
async fn a_manifest_with_a_subject_refers_to_it() {
    let subject = model().manifest_digest();
    let refers = |kind: &str| {
        let text = format!(
            r#"{{"config":{{"mediaType":"{kind}"}},"annotations":{{"of":"{kind}"}},"subject":{{"digest":"{subject}"}}}}"#
        );
        Artifact::new("models/synthetic", "application/vnd.oci.image.manifest.v1+json", text)
    };
    let (signature, report) = (refers("a/signature"), refers("a/report"));
    let builder = Registry::builder().artifact(model()).artifact(signature.clone()).artifact(report.clone());
    let registry = start(builder).await;
    let path = format!("/v2/models/synthetic/referrers/{subject}");
    let list = async |path: &str| {
        let text = get(&registry, path, &[]).await.text().await.unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let all = list(&path).await;
    let digests = [&signature, &report].map(|artifact| artifact.manifest_digest().to_string());
    assert_eq!([&all["manifests"][0]["digest"], &all["manifests"][1]["digest"]], [&digests[0], &digests[1]]);
    let path = format!("{path}?artifactType=a/report");
    assert_eq!(header(&get(&registry, &path, &[]).await, "oci-filters-applied"), "artifactType");
    let some = list(&path).await;
    assert_eq!(some["manifests"].as_array().unwrap().len(), 1);
    let descriptor = &some["manifests"][0];
    assert_eq!(descriptor["digest"], report.manifest_digest().to_string());
    assert_eq!(
        (&descriptor["size"], &descriptor["annotations"]["of"]),
        (&report.manifest().len().into(), &"a/report".into())
    );
}

#[tokio::test]
async fn a_tag_moves_to_the_artifact_that_was_put_last() {
    let registry = start(Registry::builder().artifact(model())).await;
    let next = Artifact::synthetic("models/synthetic", "v1", 1000, 43);
    registry.put(&next).unwrap();
    let manifest = get(&registry, "/v2/models/synthetic/manifests/v1", &[]).await;
    assert_eq!(header(&manifest, "docker-content-digest"), next.manifest_digest().to_string());
    let before = format!("/v2/models/synthetic/manifests/{}", model().manifest_digest());
    assert_eq!(get(&registry, &before, &[]).await.status(), 200);
    assert!(registry.put(&Artifact::new("Bad", "x", "{}")).is_err());
    assert!(registry.put(&Artifact::new("good", "x", "{}").tag("sha256:1")).is_err());
}

#[tokio::test]
async fn an_aborted_body_counts_what_was_handed_over() {
    let model = Artifact::synthetic("m", "v1", 64 << 20, 3);
    let digest = model.layer().digest();
    let registry = start(Registry::builder().artifact(model).send_buffer(64 << 10)).await;
    let mut answer = get(&registry, &format!("/v2/m/blobs/{digest}"), &[]).await;
    let mut read = 0;
    while read < 1 << 20 {
        read += soon(answer.chunk()).await.unwrap().unwrap().len() as u64;
    }
    drop(answer);
    let counts = soon(registry.until(|counts| counts.blob(&digest).bodies_cut == 1)).await;
    let sent = counts.blob(&digest).bytes_sent;
    assert!(sent >= read && sent < 32 << 20, "{read} bytes were read and {sent} counted");
    assert_eq!(counts.blob(&digest).bodies_now, 0);
}

#[tokio::test]
async fn a_registry_that_is_stopped_or_dropped_is_gone() {
    let registry = start(Registry::builder().artifact(model())).await;
    let address = registry.addr();
    registry.hold_at(&model().layer().digest(), 0);
    let held = get(&registry, &path_of(model().layer()), &[]).await;
    soon(registry.stop()).await;
    assert!(soon(held.bytes()).await.is_err(), "a held body ended well");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    // The same address can be taken again at once, as a registry does that comes back.
    let again = Registry::builder().artifact(model()).listen(address).await.unwrap();
    assert_eq!(get(&again, "/v2/", &[]).await.status(), 200);
    let taken = Registry::builder().listen(address).await.unwrap_err();
    assert!(taken.to_string().contains(&address.to_string()), "{taken}");
}
