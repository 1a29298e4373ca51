//! Origins that answer wrongly, send elsewhere, or want identity tokens: a small server for each.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use shoal_blob::Digest;
use shoal_origin::{Access, BlobStream, ErrorKind, OriginError, Origins, RegistryConfig, Visibility};
use support::*;

const BLOB: Digest = Digest::Sha256([3; 32]);

type Seen = Arc<Mutex<Vec<(Method, String, HeaderMap)>>>;

/// A server that answers by a function and remembers what it was asked.
async fn server(answer: impl Fn(&str, &HeaderMap) -> Response + Clone + Send + Sync + 'static) -> (String, Seen) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let noted = seen.clone();
    let router = Router::new().fallback(move |request: Request| {
        let (noted, answer) = (noted.clone(), answer.clone());
        async move {
            let (parts, body) = request.into_parts();
            let form = axum::body::to_bytes(body, 1 << 16).await.unwrap();
            let path = format!("{}{}", parts.uri, std::str::from_utf8(&form).unwrap());
            noted.lock().unwrap().push((parts.method, path.clone(), parts.headers.clone()));
            answer(&path, &parts.headers)
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, seen)
}

async fn open(url: &str) -> Result<BlobStream, OriginError> {
    origins(url).open(&repository(), &BLOB, 10..20, Some(100)).await
}

/// A 206 with such a Content-Range and body; chunked, so that the body's length is not declared.
fn partial(range: &'static str, body: &'static [u8]) -> impl Fn(&str, &HeaderMap) -> Response + Clone {
    move |path, _| {
        if path == "/v2/" {
            return StatusCode::OK.into_response();
        }
        let parts = body.chunks(4).map(|part| Ok::<_, std::io::Error>(Bytes::from_static(part)));
        let parts: Vec<_> = parts.collect();
        let body = Body::from_stream(futures::stream::iter(parts));
        (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, range)], body).into_response()
    }
}

#[tokio::test]
async fn a_partial_answer_must_be_the_part_that_was_asked_for() {
    let (url, _) = server(partial("bytes 10-19/100", b"0123456789")).await;
    assert_eq!(read_all(open(&url).await.unwrap()).await.unwrap(), b"0123456789");
    for range in ["bytes 11-20/100", "bytes 0-9/100", "bytes 10-20/100", "bytes 10-19/101", "bytes */100", "nonsense"] {
        let (url, _) = server(partial(range, b"0123456789")).await;
        let error = open(&url).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::WrongBytes(_)), "{range}: {error}");
    }
}

#[tokio::test]
async fn a_body_longer_than_its_range_is_an_error_and_a_shorter_one_too() {
    for long in [&b"0123456789ab"[..], b"01234567"] {
        let (url, _) = server(partial("bytes 10-19/100", long)).await;
        assert!(read_all(open(&url).await.unwrap()).await.is_err(), "{long:?}");
    }
}

#[tokio::test]
async fn an_answer_may_be_a_beginning_of_what_was_asked_for() {
    let answer = |path: &str, headers: &HeaderMap| match headers.get(header::RANGE).map(HeaderValue::as_bytes) {
        Some(b"bytes=10-19") => partial("bytes 10-13/100", b"0123")(path, headers),
        Some(b"bytes=14-19") => partial("bytes 14-19/100", b"456789")(path, headers),
        _ => StatusCode::OK.into_response(),
    };
    let (url, _) = server(answer).await;
    assert_eq!(read_all(open(&url).await.unwrap()).await.unwrap(), b"0123456789");
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_and_the_range_does() {
    let (store, stored) = server(partial("bytes 10-19/100", b"0123456789")).await;
    let target = format!("{store}/bucket/x?signature=s3cret");
    let answer = move |path: &str, headers: &HeaderMap| match (path, headers.get(header::AUTHORIZATION)) {
        ("/v2/", _) | (_, None) => {
            (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"r\"")]).into_response()
        }
        _ => (StatusCode::TEMPORARY_REDIRECT, [("location", target.clone())]).into_response(),
    };
    let (url, _) = server(answer).await;
    let (origins, _dir) = origins_as(&url, "me", "hunter2");
    let stream = origins.open(&repository(), &BLOB, 10..20, Some(100)).await.unwrap();
    assert_eq!(stream.visibility(), Visibility::Credential);
    assert_eq!(read_all(stream).await.unwrap(), b"0123456789");
    let stored = stored.lock().unwrap();
    let (_, path, headers) = &stored[0];
    assert!(path.starts_with("/bucket/x"), "{path}");
    assert!(!headers.contains_key(header::AUTHORIZATION) && !headers.contains_key(header::REFERER), "{headers:?}");
    assert_eq!(headers[header::RANGE], "bytes=10-19");
}

#[tokio::test]
async fn no_error_shows_a_signed_address() {
    // Nothing listens there any more.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for target in [format!("http://{gone}/x?signature=s3cret"), "ftp://x/?signature=s3cret".into()] {
        let answer = move |path: &str, _: &HeaderMap| match path {
            "/v2/" => StatusCode::OK.into_response(),
            _ => (StatusCode::TEMPORARY_REDIRECT, [("location", target.clone())]).into_response(),
        };
        let (url, _) = server(answer).await;
        let error = open(&url).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_redirect_that_goes_in_a_circle_ends() {
    let (url, seen) = server(|path, _| match path {
        "/v2/" => StatusCode::OK.into_response(),
        path => (StatusCode::TEMPORARY_REDIRECT, [("location", path.to_owned())]).into_response(),
    })
    .await;
    let error = open(&url).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::WrongBytes(_)), "{error}");
    assert!(seen.lock().unwrap().len() < 10);
}

/// A registry of the private network that sends its clients to the metadata service, to this machine, or to a name that
/// leads there, by a redirect and by a challenge. The server stands for the network: it is reached as a proxy, so that no
/// address of this machine is written but its own.
#[tokio::test]
async fn a_registry_does_not_send_the_daemon_to_this_machine_or_to_the_metadata_service() {
    for target in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://127.0.0.2:5052/metrics",
        "http://[::1]:5052/metrics",
        "http://0:5052/metrics",
        "http://2130706434/",
    ] {
        for by_challenge in [false, true] {
            let answer = move |path: &str, _: &HeaderMap| match path {
                "http://registry.test/v2/" if !by_challenge => StatusCode::OK.into_response(),
                path if !path.starts_with("http://registry.test/") => (StatusCode::OK, "a secret").into_response(),
                _ if by_challenge => {
                    let challenge = format!("Bearer realm=\"{target}\",service=\"s\"");
                    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
                }
                _ => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, target)]).into_response(),
            };
            let (url, seen) = server(answer).await;
            let lan = RegistryConfig { proxy: Some(url.parse().unwrap()), ..config("http://registry.test") };
            let origins = Origins::new(vec![lan.clone()], policy()).unwrap();
            let error = origins.open(&repository(), &BLOB, 10..20, Some(100)).await.unwrap_err();
            assert!(matches!(error.kind, ErrorKind::AddressRefused { .. }), "{target}: {error}");
            let local = |path: &String| !path.starts_with("http://registry.test/");
            assert!(!seen.lock().unwrap().iter().any(|(_, path, _)| local(path)), "{target} was asked");

            // With a word in the configuration it is.
            let meant = RegistryConfig { allow_local: true, ..lan };
            let origins = Origins::new(vec![meant], policy()).unwrap();
            origins.open(&repository(), &BLOB, 10..20, Some(100)).await.unwrap_err();
            assert!(seen.lock().unwrap().iter().any(|(_, path, _)| local(path)), "{target} was not asked");
        }
    }
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_refused_where_it_is_connected_to() {
    let (store, stored) = server(|_, _| "a secret".into_response()).await;
    let target = store.replace("127.0.0.1", "localhost");
    let answer = move |path: &str, _: &HeaderMap| match path {
        "/v2/" => StatusCode::OK.into_response(),
        _ => (StatusCode::TEMPORARY_REDIRECT, [("location", target.clone())]).into_response(),
    };
    let (url, _) = server(answer).await;
    let error = open(&url).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::AddressRefused { .. }), "{error}");
    // A registry that is configured by such a name is not reached either, unless the name says where it leads.
    let error = open(&store.replace("127.0.0.1", "ip6-localhost")).await.unwrap_err();
    assert!(!matches!(error.kind, ErrorKind::WrongBytes(_)), "{error}");
    assert!(stored.lock().unwrap().is_empty());
    open(&store.replace("127.0.0.1", "localhost")).await.unwrap_err();
    assert!(!stored.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_head_without_a_length_is_followed_by_one_byte() {
    let (url, seen) = server(|path, headers| match (path, headers.get(header::RANGE)) {
        (_, Some(_)) => (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, "bytes 0-0/4711")], "x").into_response(),
        _ => Response::new(Body::from_stream(futures::stream::empty::<Result<Bytes, std::io::Error>>())),
    })
    .await;
    let head = origins(&url).head_blob(&repository(), &BLOB).await.unwrap();
    assert_eq!(head.length, 4711);
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let answer = |path: &str, headers: &HeaderMap| {
        let host = headers[header::HOST].to_str().unwrap();
        let shown = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        match (path, shown) {
            (path, _) if path.starts_with("/tokengrant_type") || path.starts_with("/tokenservice") => {
                assert!(
                    path.contains("refresh_token=id%3Dtoken")
                        && path.contains("scope=repository%3Amodels%2Fone%3Apull")
                );
                r#"{"access_token":"fresh","expires_in":300}"#.into_response()
            }
            (path, _) if path.starts_with("/token") => StatusCode::UNAUTHORIZED.into_response(),
            (_, Some(b"Bearer fresh")) => [(header::CONTENT_LENGTH, "5")].into_response(),
            _ => {
                let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
                (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
            }
        }
    };
    let (url, seen) = server(answer).await;
    let (path, _dir) = config_json(NAME, "x", "x");
    std::fs::write(&path, format!(r#"{{"auths":{{"{NAME}":{{"identitytoken":"id=token"}}}}}}"#)).unwrap();
    let config = RegistryConfig { credentials: Some(path), access: Some(Access::Caller), ..config(&url) };
    let origins = Origins::new(vec![config], policy()).unwrap();
    let head = origins.head_blob(&repository(), &BLOB).await.unwrap();
    assert_eq!((head.length, head.visibility), (5, Visibility::Credential));
    assert_eq!(seen.lock().unwrap().iter().filter(|(method, ..)| method == Method::POST).count(), 1);
}

#[tokio::test]
async fn a_challenge_that_only_a_repository_shows_is_followed() {
    let answer = |path: &str, headers: &HeaderMap| {
        let host = headers[header::HOST].to_str().unwrap();
        match (path, headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes)) {
            ("/v2/", _) => StatusCode::OK.into_response(),
            (path, _) if path.starts_with("/token?") => r#"{"token":"anybody"}"#.into_response(),
            (_, Some(b"Bearer anybody")) => [(header::CONTENT_LENGTH, "5")].into_response(),
            _ => {
                let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
                (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
            }
        }
    };
    let (url, _) = server(answer).await;
    let head = origins(&url).head_blob(&repository(), &BLOB).await.unwrap();
    assert_eq!((head.length, head.visibility), (5, Visibility::Anonymous));
}
