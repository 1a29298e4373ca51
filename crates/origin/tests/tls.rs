//! TLS is verified: against the CA file that a registry has, and no other.
#![allow(clippy::unwrap_used)]

mod support;

use std::{path::PathBuf, sync::Arc};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::IntoResponse,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{pki_types::PrivateKeyDer, server::WebPkiClientVerifier};
use shoal_blob::Digest;
use shoal_origin::{ConfigError, ErrorKind, Origins, Policy, Proxies, Proxy, RegistryConfig};
use support::*;
use tokio_rustls::TlsAcceptor;

const BLOB: Digest = Digest::Sha256([3; 32]);

/// A registry on TLS, by address or as `registry.test`, that hands out tokens to anybody.
struct Registry {
    port: u16,
    /// The certificate of the authority that vouches for it, and for clients.
    ca: PathBuf,
    /// A client's certificate and key.
    cert: PathBuf,
    key: PathBuf,
    dir: tempfile::TempDir,
}

impl Registry {
    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

/// Starts one; `asks` has it want a certificate of its clients.
async fn registry(asks: bool) -> Registry {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::from_params(&params, &authority_key);
    let vouched = |names: &[&str]| {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        (CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap(), key)
    };
    let (certificate, key) = vouched(&["127.0.0.1", "registry.test"]);

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server =
        rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let server = if asks {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        server.with_client_cert_verifier(verifier)
    } else {
        server.with_no_client_auth()
    };
    let server = server
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().fallback(move |request: Request| {
        let host = request.headers()[header::HOST].to_str().unwrap().to_owned();
        async move {
            let realm = format!("Bearer realm=\"https://{host}/token\",service=\"s\"");
            let shown = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes().to_vec());
            match (request.uri().path(), shown.as_deref()) {
                ("/token", _) => r#"{"token":"t"}"#.into_response(),
                (_, Some(b"Bearer t")) => [(header::CONTENT_LENGTH, "5")].into_response(),
                _ => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, realm)]).into_response(),
            }
        }
    });
    let acceptor = TlsAcceptor::from(Arc::new(server));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(socket).await {
                    let service = TowerToHyperService::new(router);
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                }
            });
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let (client, client_key) = vouched(&["client.test"]);
    for (path, text) in [(&ca, authority.pem()), (&cert, client.pem()), (&key, client_key.serialize_pem())] {
        std::fs::write(path, text).unwrap();
    }
    Registry { port, ca, cert, key, dir }
}

#[tokio::test]
async fn a_registry_of_its_own_authority_is_trusted_by_its_ca_file_alone() {
    let registry = registry(false).await;
    let trusting = RegistryConfig { ca_file: Some(registry.ca.clone()), ..config(&registry.url()) };
    let origins = Origins::new(vec![trusting], policy()).unwrap();
    // The exchange of the token is in this.
    assert_eq!(origins.head_blob(&repository(), &BLOB).await.unwrap().length, 5);

    let doubting = Origins::new(vec![config(&registry.url())], policy()).unwrap();
    let error = doubting.head_blob(&repository(), &BLOB).await.unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("ertificate"), "the error says that it is about a certificate: {error}");
}

#[tokio::test]
async fn a_registry_that_wants_a_certificate_is_shown_one() {
    let registry = registry(true).await;
    let bare = RegistryConfig { ca_file: Some(registry.ca.clone()), ..config(&registry.url()) };
    let refused = Origins::new(vec![bare.clone()], policy()).unwrap();
    assert!(refused.head_blob(&repository(), &BLOB).await.unwrap_err().is_unavailable());

    let apart = RegistryConfig {
        client_cert: Some(registry.cert.clone()),
        client_key: Some(registry.key.clone()),
        ..bare.clone()
    };
    let both = registry.dir.path().join("both.pem");
    let text = [&registry.key, &registry.cert].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    std::fs::write(&both, text).unwrap();
    let together = RegistryConfig { client_cert: Some(both), ..bare.clone() };
    for config in [apart.clone(), together] {
        let origins = Origins::new(vec![config], policy()).unwrap();
        assert_eq!(origins.head_blob(&repository(), &BLOB).await.unwrap().length, 5);
    }

    let other = registry.dir.path().join("other.key");
    std::fs::write(&other, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    for (wrong, setting) in [
        (RegistryConfig { client_key: Some(registry.cert.clone()), ..apart.clone() }, "client_key"),
        (RegistryConfig { client_key: Some(other), ..apart.clone() }, "client_cert"),
        (RegistryConfig { client_cert: Some("/nowhere.pem".into()), ..apart.clone() }, "client_cert"),
        (RegistryConfig { client_key: None, ..apart.clone() }, "client_cert"),
        (RegistryConfig { client_cert: None, ..apart }, "client_key"),
    ] {
        let error = Origins::new(vec![wrong], policy()).unwrap_err();
        assert!(matches!(&error, ConfigError::ClientCert { setting: of, .. } if *of == setting), "{error}");
    }
}

#[tokio::test]
async fn a_registry_behind_a_proxy_is_reached_through_a_tunnel() {
    let registry = registry(false).await;
    let proxy = support::proxy(registry.port).await;
    let url = "https://registry.test";
    let at: Proxy = proxy.url().parse().unwrap();
    let named = RegistryConfig { ca_file: Some(registry.ca.clone()), ..config(url) };
    let own = RegistryConfig { proxy: Some(at.clone()), ..named.clone() };
    let of_all = Policy { proxies: Proxies::of(&at, "other.test"), ..policy() };
    for (config, policy) in [(own, policy()), (named.clone(), of_all.clone())] {
        let origins = Origins::new(vec![config], policy).unwrap();
        assert_eq!(origins.head_blob(&repository(), &BLOB).await.unwrap().length, 5);
        // The registry and its token service share a tunnel or have one each; nobody else has any.
        let tunnels = std::mem::take(&mut *proxy.tunnels.lock().unwrap());
        assert!(!tunnels.is_empty() && tunnels.iter().all(|tunnel| tunnel == "registry.test:443"), "{tunnels:?}");
    }
    // What is excepted, or has none of its own, is not asked through it; the name leads nowhere.
    let excepted = Policy { proxies: Proxies::of(&at, "registry.test"), ..policy() };
    let direct = RegistryConfig { proxy: Some(Proxy::None), ..named.clone() };
    for (config, policy) in [(named, excepted), (direct, of_all.clone())] {
        let origins = Origins::new(vec![config], policy).unwrap();
        assert!(origins.head_blob(&repository(), &BLOB).await.unwrap_err().is_unavailable());
    }
    // A proxy for all is not meant for this machine.
    let here = RegistryConfig { ca_file: Some(registry.ca.clone()), ..config(&registry.url()) };
    let origins = Origins::new(vec![here], of_all).unwrap();
    assert_eq!(origins.head_blob(&repository(), &BLOB).await.unwrap().length, 5);
    assert!(proxy.tunnels.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_ca_file_without_certificates_is_a_start_up_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    for content in [Some("nothing"), None] {
        match content {
            Some(content) => std::fs::write(&path, content).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let broken = RegistryConfig { ca_file: Some(path.clone()), ..config("https://127.0.0.1:1") };
        let error = Origins::new(vec![broken], policy()).unwrap_err();
        assert!(matches!(&error, ConfigError::CaFile { .. }), "{error}");
    }
}
