//! Manifests and lists, byte for byte.
#![allow(clippy::unwrap_used)]

mod support;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use sha2::{Digest as _, Sha256, Sha512};
use shoal_blob::{Digest, Reference};
use shoal_origin::{ErrorKind, Listing, MOST_MANIFEST_BYTES, Refusal, RequestKind};
use shoal_registry::{Artifact, Faults, Refusal as Refuse, Target};
use support::*;

fn tag() -> Reference {
    Reference::Tag("v1".into())
}

/// An origin that answers everything but `/v2/` itself by a function.
async fn origin(answer: fn(Request) -> Response) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(move |request: Request| async move {
        if request.uri().path() == "/v2/" { StatusCode::OK.into_response() } else { answer(request) }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn a_manifest_is_byte_exact_with_its_own_type() {
    let media_type = "application/vnd.example.strange+json; v=\"1\"";
    let artifact = Artifact::new(REPOSITORY, media_type, "{ \"odd\":  true }\n").tag("v1");
    let registry = registry(&artifact).await;
    let origins = origins(&registry.url());
    let digest = artifact.manifest_digest();
    for reference in [tag(), Reference::Digest(digest)] {
        let head = origins.manifest_head(&repository(), &reference, None).await.unwrap();
        let manifest = origins.manifest(&repository(), &reference, Some("application/x.theirs")).await.unwrap();
        assert_eq!(manifest.head, head);
        assert_eq!((head.content_type.as_str(), head.digest), (media_type, digest));
        assert_eq!((&manifest.bytes, head.length), (artifact.manifest(), artifact.manifest().len() as u64));
    }
    let counts = registry.counts();
    assert_eq!((counts.manifest_gets, counts.manifest_heads), (2, 2));
    let missing = Reference::Tag("v2".into());
    let error = origins.manifest(&repository(), &missing, None).await.unwrap_err();
    assert_eq!(error.refusal(), Some(Refusal::NotFound));
}

#[tokio::test]
async fn a_manifest_that_is_not_its_digest_is_refused() {
    let claimed = Digest::Sha256([7; 32]);
    let artifact = Artifact::new(REPOSITORY, "application/json", "{}").tag("v1").claiming(claimed);
    let registry = registry(&artifact).await;
    let origins = origins(&registry.url());
    for reference in [tag(), Reference::Digest(claimed)] {
        let error = origins.manifest(&repository(), &reference, None).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::WrongBytes(_)), "{error}");
    }
}

#[tokio::test]
async fn a_sha512_manifest_is_checked_as_such() {
    let url = origin(|_| ([(header::CONTENT_TYPE, "a/b")], "{}").into_response()).await;
    let origins = origins(&url);
    let right = Reference::Digest(Digest::Sha512(Sha512::digest("{}").into()));
    assert_eq!(&origins.manifest(&repository(), &right, None).await.unwrap().bytes[..], b"{}");
    let wrong = Reference::Digest(Digest::Sha512([1; 64]));
    assert!(origins.manifest(&repository(), &wrong, None).await.is_err());
}

#[tokio::test]
async fn a_head_that_tells_too_little_is_filled_in_by_a_get() {
    let url = origin(|request| {
        assert!(
            request.headers()[header::ACCEPT].to_str().unwrap().contains("application/vnd.oci.image.index.v1+json")
        );
        assert_eq!(request.headers()[header::ACCEPT_ENCODING], "identity");
        Response::new(Body::from(r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#))
    })
    .await;
    let origins = origins(&url);
    let head = origins.manifest_head(&repository(), &tag(), None).await.unwrap();
    assert_eq!(head.content_type, "application/vnd.oci.image.manifest.v1+json");
    let body = r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;
    assert_eq!(head.digest, Digest::Sha256(Sha256::digest(body).into()));
    assert_eq!(origins.counters().requests(RequestKind::ManifestGet), 1);
}

#[tokio::test]
async fn the_limit_holds_while_it_streams() {
    fn endless(_: Request) -> Response {
        let part = Bytes::from(vec![b' '; 64 << 10]);
        let parts = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(part.clone()));
        Response::new(Body::from_stream(parts))
    }
    let origins = origins(&origin(endless).await);
    let error = origins.manifest(&repository(), &tag(), None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge { limit: MOST_MANIFEST_BYTES as u64 });
    assert!(origins.counters().bytes() < 2 * MOST_MANIFEST_BYTES as u64);
    let error = origins.relay(&repository(), &Listing::Tags, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge { limit: 8 << 20 });
}

#[tokio::test]
async fn a_body_that_is_encoded_on_the_way_is_refused() {
    let url = origin(|_| ([(header::CONTENT_ENCODING, "gzip")], "x").into_response()).await;
    let error = origins(&url).manifest(&repository(), &tag(), None).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::WrongBytes(_)), "{error}");
}

#[tokio::test]
async fn lists_are_relayed_as_they_are() {
    let url = origin(|request| match request.uri().path_and_query().unwrap().as_str() {
        "/v2/models/one/tags/list?n=2&last=a%20b" => (
            [
                ("link", "</v2/models/one/tags/list?n=2&last=d>; rel=\"next\""),
                ("content-type", "application/json"),
                ("set-cookie", "secret"),
            ],
            r#"{"tags":["c","d"]}"#,
        )
            .into_response(),
        path if path.starts_with("/v2/models/one/referrers/sha256:") => {
            (StatusCode::NOT_FOUND, [("oci-filters-applied", "artifactType")], "no").into_response()
        }
        _ => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")]).into_response(),
    })
    .await;
    let origins = origins(&url);
    let tags = origins.relay(&repository(), &Listing::Tags, Some("n=2&last=a b")).await.unwrap();
    assert_eq!((tags.status, &tags.body[..]), (StatusCode::OK, &br#"{"tags":["c","d"]}"#[..]));
    assert!(tags.headers["link"].to_str().unwrap().contains("rel=\"next\""));
    assert!(!tags.headers.contains_key("set-cookie"));
    let digest = Digest::Sha256([1; 32]);
    let referrers = origins.relay(&repository(), &Listing::Referrers(digest), None).await.unwrap();
    assert_eq!((referrers.status, &referrers.body[..]), (StatusCode::NOT_FOUND, &b"no"[..]));
    assert!(referrers.headers.contains_key("oci-filters-applied"));
    let limited = origins.relay(&repository(), &Listing::Tags, None).await.unwrap();
    assert_eq!(
        (limited.status, &limited.headers["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"7".parse().unwrap())
    );
}

#[tokio::test]
async fn a_list_from_an_origin_in_trouble_is_an_error() {
    let (model, _) = artifact(10);
    let registry = registry(&model).await;
    registry.set_faults(Faults::none().refuse(Refuse::status(StatusCode::SERVICE_UNAVAILABLE).of(Target::All)));
    let error = origins(&registry.url()).relay(&repository(), &Listing::Tags, None).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
}
