//! Credentials and tokens.

#![allow(clippy::unwrap_used)] // Functions beside the tests are tests as well, which the lint cannot see.

mod client;

use std::time::Duration;

use client::{client, get, header, soon, start};
use reqwest::{Response, StatusCode};
use shoal_registry::{Artifact, Faults, Refusal, Registry, Target};

fn model() -> Artifact {
    Artifact::synthetic("private/m", "v1", 100_000, 5)
}

/// Asks for the token that an answer's challenge wants.
async fn token(registry: &Registry, challenge: &Response, user: Option<(&str, &str)>) -> Result<String, StatusCode> {
    let challenge = header(challenge, "www-authenticate");
    let part = |name: &str| {
        let from = challenge.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("{challenge}")).1;
        from.split_once('"').unwrap().0.to_owned()
    };
    assert_eq!(part("realm"), format!("{}/token", registry.url()));
    let url = format!("{}?service={}&scope={}", part("realm"), part("service"), part("scope"));
    let request = client().get(url);
    let request = match user {
        Some((user, password)) => request.basic_auth(user, Some(password)),
        None => request,
    };
    let answer = request.send().await.unwrap();
    if answer.status() != StatusCode::OK {
        return Err(answer.status());
    }
    let document: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(document["token"], document["access_token"]);
    Ok(document["token"].as_str().unwrap().to_owned())
}

async fn get_with(registry: &Registry, path: &str, token: &str) -> Response {
    get(registry, path, &[("authorization", &format!("Bearer {token}"))]).await
}

#[tokio::test]
async fn basic_credentials_are_demanded() {
    let registry = start(Registry::builder().artifact(model()).basic_auth("ann", "secret")).await;
    for path in ["/v2/", "/v2/private/m/manifests/v1"] {
        let refused = get(&registry, path, &[]).await;
        assert_eq!(
            (refused.status().as_u16(), header(&refused, "www-authenticate")),
            (401, "Basic realm=\"shoal-registry\"")
        );
        for (password, status) in [("secret", 200), ("wrong", 401)] {
            let request = client().get(format!("{}{path}", registry.url())).basic_auth("ann", Some(password));
            assert_eq!(request.send().await.unwrap().status(), status);
        }
    }
    assert_eq!(registry.counts().unauthorized, 4);
}

#[tokio::test]
async fn tokens_open_one_repository_until_they_end() {
    let other = model().under("private/other");
    let lifetime = Duration::from_secs(3600);
    let builder = Registry::builder().artifact(model()).artifact(other).token_auth("ann", "secret", lifetime);
    let registry = start(builder).await;
    let path = format!("/v2/private/m/blobs/{}", model().layer().digest());
    let challenged = get(&registry, &path, &[]).await;
    assert_eq!(challenged.status(), 401);
    assert!(header(&challenged, "www-authenticate").starts_with("Bearer realm="));
    assert_eq!(token(&registry, &challenged, Some(("ann", "wrong"))).await, Err(StatusCode::UNAUTHORIZED));
    assert_eq!(token(&registry, &challenged, None).await, Err(StatusCode::UNAUTHORIZED));
    let bearer = token(&registry, &challenged, Some(("ann", "secret"))).await.unwrap();
    assert_eq!(get_with(&registry, &path, &bearer).await.status(), 200);
    assert_eq!(get_with(&registry, "/v2/", &bearer).await.status(), 200);
    let elsewhere = get_with(&registry, "/v2/private/other/manifests/v1", &bearer).await;
    assert!(header(&elsewhere, "www-authenticate").contains("error=\"insufficient_scope\""));

    // A body under way outlives its token, as with other registries; the next request does not.
    let digest = model().layer().digest();
    registry.hold_at(&digest, registry.counts().blob(&digest).bytes_sent + 1);
    let held = get_with(&registry, &path, &bearer).await;
    registry.revoke_tokens();
    let ended = get_with(&registry, &path, &bearer).await;
    assert_eq!(ended.status(), 401);
    assert!(header(&ended, "www-authenticate").contains("error=\"invalid_token\""));
    registry.release(&digest);
    assert_eq!(soon(held.bytes()).await.unwrap().len(), 100_000);
    let counts = registry.counts();
    assert_eq!((counts.token_requests, counts.tokens_issued, counts.blob(&digest).refused), (3, 1, 2));
}

#[tokio::test]
async fn a_short_life_ends_by_itself() {
    let lifetime = Duration::ZERO;
    let registry = start(Registry::builder().artifact(model()).token_auth("ann", "secret", lifetime)).await;
    let challenged = get(&registry, "/v2/private/m/manifests/v1", &[]).await;
    let bearer = token(&registry, &challenged, Some(("ann", "secret"))).await.unwrap();
    assert_eq!(get_with(&registry, "/v2/private/m/manifests/v1", &bearer).await.status(), 401);
}

#[tokio::test]
async fn public_content_needs_a_token_but_no_user() {
    let builder = Registry::builder()
        .artifact(model())
        .artifact(model().under("public/m"))
        .token_auth("ann", "secret", Duration::from_secs(3600))
        .public("public/m");
    let registry = start(builder).await;
    let challenged = get(&registry, "/v2/public/m/manifests/v1", &[]).await;
    assert_eq!(challenged.status(), 401);
    let bearer = token(&registry, &challenged, None).await.unwrap();
    assert_eq!(get_with(&registry, "/v2/public/m/manifests/v1", &bearer).await.status(), 200);
    assert_eq!(get_with(&registry, "/v2/private/m/manifests/v1", &bearer).await.status(), 401);
}

#[tokio::test]
async fn one_user_can_be_denied() {
    let lifetime = Duration::from_secs(3600);
    let builder = Registry::builder()
        .artifact(model())
        .token_auth("ann", "a", lifetime)
        .token_auth("bob", "b", lifetime)
        .faults(Faults::none().refuse(Refusal::status(StatusCode::FORBIDDEN).for_user("bob")));
    let registry = start(builder).await;
    let path = "/v2/private/m/manifests/v1";
    let challenged = get(&registry, path, &[]).await;
    let ann = token(&registry, &challenged, Some(("ann", "a"))).await.unwrap();
    assert_eq!(get_with(&registry, path, &ann).await.status(), 200);
    // Aimed at all requests, the rule holds at the token endpoint too.
    assert_eq!(token(&registry, &challenged, Some(("bob", "b"))).await, Err(StatusCode::FORBIDDEN));
    registry.set_faults(
        Faults::none().refuse(Refusal::status(StatusCode::FORBIDDEN).of(Target::Manifests).for_user("bob")),
    );
    let bob = token(&registry, &challenged, Some(("bob", "b"))).await.unwrap();
    assert_eq!(get_with(&registry, path, &bob).await.status(), 403);
}
