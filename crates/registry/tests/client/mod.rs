//! A client as the tests need it: plain HTTP, with bounds on how long anything may take.
#![allow(dead_code)] // Each test file uses its part.
#![allow(clippy::unwrap_used)] // The whole module is a test, which the lint cannot see.

use std::{future::Future, sync::Arc, time::Duration};

use shoal_registry::{Registry, RegistryBuilder};

/// The bound within which anything must happen; only reached when a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// An HTTP client that follows redirects and never talks TLS.
pub(crate) fn client() -> reqwest::Client {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(PATIENCE).no_proxy().build().unwrap()
}

/// Starts a registry on a free port of the loopback.
pub(crate) async fn start(builder: RegistryBuilder) -> Registry {
    builder.listen("127.0.0.1:0").await.unwrap()
}

/// GETs a path, with headers.
pub(crate) async fn get(registry: &Registry, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let request = client().get(format!("{}{path}", registry.url()));
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
}

/// HEADs a path.
pub(crate) async fn head(registry: &Registry, path: &str) -> reqwest::Response {
    client().head(format!("{}{path}", registry.url())).send().await.unwrap()
}

/// An answer's header as text; empty where there is none.
pub(crate) fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// The `code` of an error body.
pub(crate) async fn error_code(response: reqwest::Response) -> String {
    let document: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    document["errors"][0]["code"].as_str().unwrap().to_owned()
}

/// Fails the test when it takes too long.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not happen in time")
}
