//! What clients see of the protocol: forms of names, headers, errors.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod house;

use bytes::Bytes;
use house::{Answer, Fake, House, MANIFEST_TYPE, digest_of};
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::Method;
use shoal_mirror::{Failure, MirrorConfig, Relayed, Route};

async fn house() -> House {
    House::new(Fake::of((0..5000u32).map(|i| (i / 7) as u8).collect())).await
}

#[tokio::test]
async fn the_root_says_it_is_a_registry() {
    let house = house().await;
    for path in ["/v2/", "/v2", "/v2/?ns=docker.io"] {
        for method in [Method::GET, Method::HEAD] {
            let answer = house.ask(method, path, &[]).await;
            assert_eq!((answer.status, answer.header("docker-distribution-api-version")), (200, Some("registry/2.0")));
        }
    }
}

#[tokio::test]
async fn manifests_are_byte_exact_and_heads_are_complete() {
    let house = house().await;
    let digest = digest_of(&house.fake.manifest).to_string();
    for reference in ["v1", &digest] {
        for method in [Method::GET, Method::HEAD] {
            let path = format!("/v2/some/blobs/manifests/{reference}?ns=r.io:5000");
            let answer = house.ask(method.clone(), &path, &[("authorization", "Bearer x")]).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-type"), Some(MANIFEST_TYPE));
            assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
            assert_eq!(answer.header("content-length"), Some("21"));
            assert_eq!(answer.header("etag"), Some(format!("\"{digest}\"").as_str()));
            assert_eq!(answer.header("oci-namespace"), Some("r.io:5000"));
            assert_eq!(answer.header("content-encoding"), None);
            assert_eq!(answer.header("warning"), None);
            let body = if method == Method::GET { house.fake.manifest.clone() } else { Bytes::new() };
            assert_eq!(answer.body, body);
            let head = method == Method::HEAD;
            let asked = house.fake.asked.lock().unwrap().pop();
            assert_eq!(asked, Some(format!("r.io:5000/some/blobs manifest {reference} {head} Bearer x")));
        }
    }
}

#[tokio::test]
async fn blobs_are_whole_and_heads_are_complete() {
    let house = house().await;
    let digest = house.fake.digest.to_string();
    for (path, repository, namespace) in [
        (format!("/v2/a/b/blobs/{digest}?ns=r.io"), "r.io/a/b", Some("r.io")),
        (format!("/v2/r.io/a/b/blobs/{digest}"), "r.io/a/b", None),
        (format!("/v2/library/a/blobs/{digest}"), "docker.io/library/a", None),
    ] {
        for method in [Method::HEAD, Method::GET] {
            // A Range means nothing to a HEAD.
            let range: &[_] = if method == Method::HEAD { &[("range", "bytes=9999-")] } else { &[] };
            let answer = house.ask(method.clone(), &path, range).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
            assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
            assert_eq!(answer.header("content-length"), Some("5000"));
            assert_eq!(answer.header("accept-ranges"), Some("bytes"));
            assert_eq!(answer.header("oci-namespace"), namespace);
            assert_eq!(answer.header("transfer-encoding"), None);
            if method == Method::GET {
                assert_eq!(digest_of(&answer.body).to_string(), digest);
            }
            assert_eq!(house.fake.asked.lock().unwrap().pop(), Some(format!("{repository} blob {digest}")));
        }
    }
    assert_eq!(house.counts.bytes_to_clients(), 3 * 5000);
    let blobs: Vec<_> = house.counts.requests().collect();
    assert_eq!((blobs.len(), blobs[0].route, blobs[0].status.as_u16(), blobs[0].count), (1, Route::Blob, 200, 6));
}

#[tokio::test]
async fn what_is_known_by_its_tag_is_not_sent_again() {
    let house = house().await;
    let etag = format!("\"{}\"", house.fake.digest);
    for method in [Method::GET, Method::HEAD] {
        let answer = house.ask(method, &house.blob_path(), &[("if-none-match", &etag)]).await;
        assert_eq!((answer.status, answer.header("etag"), answer.body.len()), (304, Some(etag.as_str()), 0));
    }
    assert_eq!(house.get(&house.blob_path(), &[("if-none-match", "\"other\"")]).await.status, 200);
    let manifest = format!("\"{}\"", digest_of(&house.fake.manifest));
    assert_eq!(house.get("/v2/a/manifests/v1", &[("if-none-match", &manifest)]).await.status, 304);
}

#[tokio::test]
async fn a_remembered_tag_says_so() {
    let mut fake = Fake::of(vec![1]);
    fake.warning = Some("the origin is away".to_owned());
    let answer = House::new(fake).await.get("/v2/a/manifests/v1", &[]).await;
    assert_eq!(answer.header("warning"), Some("299 - \"the origin is away\""));
}

#[tokio::test]
async fn what_does_not_fit_gets_its_status_and_code() {
    let house = house().await;
    let digest = house.fake.digest.to_string();
    for (method, path, status, code) in [
        (Method::GET, "/".to_owned(), 404, "UNSUPPORTED"),
        (Method::GET, "/v2/_catalog".to_owned(), 404, "UNSUPPORTED"),
        (Method::POST, "/v2/a/blobs/uploads/".to_owned(), 405, "UNSUPPORTED"),
        (Method::PUT, "/v2/a/manifests/v1".to_owned(), 405, "UNSUPPORTED"),
        (Method::DELETE, format!("/v2/a/blobs/{digest}"), 405, "UNSUPPORTED"),
        (Method::GET, "/v2/a/blobs/sha256:abc".to_owned(), 400, "DIGEST_INVALID"),
        (Method::GET, "/v2/a/manifests/-x".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (Method::GET, format!("/v2/UPPER/blobs/{digest}"), 400, "NAME_INVALID"),
        (Method::GET, format!("/v2/a/blobs/{digest}?ns=a.io&ns=b.io"), 400, "NAME_INVALID"),
        (Method::GET, format!("/v2/a/blobs/{digest}?ns=a.io/b"), 400, "NAME_INVALID"),
        (Method::GET, format!("/v2/a/blobs/{}", digest_of(b"?")), 404, "BLOB_UNKNOWN"),
    ] {
        let answer = house.ask(method.clone(), &path, &[]).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("allow"), (status == 405).then_some("GET, HEAD"));
    }
    let no_default = MirrorConfig { default_registry: None, ..MirrorConfig::default() };
    let strict = House::with(Fake::of(vec![1]), no_default).await;
    assert_eq!(strict.get("/v2/a/manifests/v1", &[]).await.code(), "NAME_INVALID");
}

#[tokio::test]
async fn every_failure_has_its_row() {
    let house = house().await;
    let reason = || "because".to_owned();
    let table = [
        (Failure::NameUnknown, 404, "NAME_UNKNOWN"),
        (Failure::ManifestUnknown, 404, "MANIFEST_UNKNOWN"),
        (Failure::BlobUnknown, 404, "BLOB_UNKNOWN"),
        (Failure::RegistryNotConfigured { registry: "r.io".to_owned() }, 403, "DENIED"),
        (Failure::OriginDenied { reason: reason() }, 403, "DENIED"),
        (Failure::CallerDenied { reason: reason() }, 403, "DENIED"),
        (Failure::Challenge { www_authenticate: HeaderValue::from_static("Bearer a=b") }, 401, "UNAUTHORIZED"),
        (Failure::ManifestTooLarge { limit: 4 << 20 }, 502, "MANIFEST_INVALID"),
        (Failure::OriginUnreachable { reason: reason() }, 502, "UNAVAILABLE"),
        (Failure::OriginFailed { reason: reason() }, 502, "UNAVAILABLE"),
        (Failure::StoreFull { reason: reason() }, 503, "UNAVAILABLE"),
        (Failure::Overloaded { reason: reason() }, 503, "UNAVAILABLE"),
        (Failure::Draining, 503, "UNAVAILABLE"),
        (Failure::Stalled { reason: reason() }, 504, "UNAVAILABLE"),
        (Failure::Internal { reason: reason() }, 500, "UNKNOWN"),
    ];
    let mut golden = String::new();
    for (failure, status, code) in table {
        *house.fake.failure.lock().unwrap() = Some(failure.clone());
        for path in ["/v2/a/manifests/v1?ns=r.io".to_owned(), house.blob_path(), "/v2/a/tags/list".to_owned()] {
            let Answer { status: got, headers, body } = house.get(&path, &[]).await;
            assert_eq!(got, status, "{failure:?}");
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["errors"][0]["code"], code);
            assert_eq!(body["errors"][0]["message"], failure.to_string());
            assert_eq!(body["errors"][0]["detail"]["repository"], "a");
            assert!(headers.get("retry-after").is_none());
            let challenge = headers.get("www-authenticate").map(|value| value.to_str().unwrap());
            assert_eq!(challenge, (status == 401).then_some("Bearer a=b"));
            assert_eq!(house.ask(Method::HEAD, &path, &[]).await.status, status);
        }
        golden.push_str(&format!("{status} {code}: {failure}\n"));
    }
    assert_eq!(golden, include_str!("failures.txt"));
}

#[tokio::test]
async fn listings_are_passed_on_as_they_are() {
    let house = house().await;
    let relay = |status: u16, headers: &[(&'static str, &'static str)]| {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        *house.fake.relayed.lock().unwrap() = Some(Relayed {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::from_iter(headers),
            body: Bytes::from_static(b"as it is"),
        });
    };
    let referrers = format!("/v2/r.io/a/referrers/{}?artifactType=b%2Fc", house.fake.digest);
    relay(200, &[("content-type", "x/y"), ("oci-filters-applied", "artifactType"), ("set-cookie", "no")]);
    let answer = house.get(&referrers, &[]).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"as it is"[..]));
    assert_eq!(answer.header("content-type"), Some("x/y"));
    assert_eq!(answer.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(answer.header("set-cookie"), None);
    let asked = house.fake.asked.lock().unwrap().pop().unwrap();
    assert_eq!(asked, format!("r.io/a Referrers({}) \"artifactType=b%2Fc\"", house.fake.digest));

    relay(200, &[("link", "</v2/a/tags/list?n=1&last=x>; rel=\"next\"")]);
    let answer = house.get("/v2/a/tags/list?ns=r.io&n=1", &[]).await;
    assert_eq!(answer.header("link"), Some("</v2/a/tags/list?n=1&last=x&ns=r.io>; rel=\"next\""));
    assert_eq!(house.fake.asked.lock().unwrap().pop().unwrap(), "r.io/a Tags \"n=1\"");

    for (origin, status) in
        [(404, 404), (400, 400), (403, 403), (500, 500), (503, 503), (429, 503), (408, 503), (401, 403), (307, 502)]
    {
        relay(origin, &[("location", "http://elsewhere"), ("retry-after", "9")]);
        let answer = house.get(&referrers, &[]).await;
        assert_eq!(answer.status, status, "from {origin}");
        assert_eq!((answer.header("location"), answer.header("retry-after")), (None, None));
    }
}

#[tokio::test]
async fn hostile_request_lines_are_refused_and_change_nothing() {
    let house = house().await;
    for line in [
        "GET http://evil/v2/a/manifests/v1 HTTP/1.1",
        "GET /v2/a/manifests/v1 HTTP/1.1\r\nHost: evil\r\nX-Forwarded-Host: evil",
    ] {
        let mut socket = house.send(&format!("{line}\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        assert!(house::read_head(&mut socket).await.starts_with("HTTP/1.1 200"), "{line}");
        assert_eq!(house.fake.asked.lock().unwrap().pop().unwrap(), "docker.io/a manifest v1 false");
    }
    for (text, status) in [
        ("GET /v2/a\0b/manifests/v1 HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        (format!("GET /v2/ HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(40 << 10)), "431"),
        (format!("GET /v2/ HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(101)), "431"),
    ] {
        let mut socket = house.send(&text).await;
        let head = house::read_head(&mut socket).await;
        assert_eq!(head.split(' ').nth(1), Some(status), "{head}");
    }
    assert!(house.fake.asked.lock().unwrap().is_empty());
}
