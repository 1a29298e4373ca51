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
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use shoal_blob::Digest;
use shoal_origin::{ConfigError, ErrorKind, Origins, RegistryConfig};
use support::*;
use tokio_rustls::TlsAcceptor;

const BLOB: Digest = Digest::Sha256([3; 32]);

/// A registry on TLS that hands out tokens to anybody, and the certificate of the authority that vouches for it.
async fn registry() -> (String, PathBuf, tempfile::TempDir) {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::from_params(&params, &authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let realm = format!("Bearer realm=\"{url}/token\",service=\"s\"");
    let router = Router::new().fallback(move |request: Request| {
        let realm = realm.clone();
        async move {
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
    let path = dir.path().join("ca.pem");
    let pem = STANDARD.encode(authority.der());
    std::fs::write(&path, format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n")).unwrap();
    (url, path, dir)
}

#[tokio::test]
async fn a_registry_of_its_own_authority_is_trusted_by_its_ca_file_alone() {
    let (url, ca, _dir) = registry().await;
    let trusting = RegistryConfig { ca_file: Some(ca), ..config(&url) };
    let origins = Origins::new(vec![trusting], policy()).unwrap();
    // Both clients are in this: the exchange of the token is oci-client's.
    assert_eq!(origins.head_blob(&repository(), &BLOB).await.unwrap().length, 5);

    let doubting = Origins::new(vec![config(&url)], policy()).unwrap();
    let error = doubting.head_blob(&repository(), &BLOB).await.unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("ertificate"), "the error says that it is about a certificate: {error}");
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
