//! TLS towards origins: ring, the platform's roots, a CA file and a client certificate where they are configured.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;

/// Reads the certificates of a PEM file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?.collect();
    match found {
        Ok(found) if found.is_empty() => Err("it has no certificate in it".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

/// What a client shows of itself.
#[derive(Debug)]
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads the certificates of a PEM file, and the key from another or the same. The error says in which setting it is.
    pub(crate) fn read(cert: &Path, key: Option<&Path>) -> Result<Self, (&'static str, String)> {
        let shown = |path: &Path, why: &dyn std::fmt::Display| format!("cannot use {}: {why}", path.display());
        let chain = certificates(cert).map_err(|why| ("client_cert", shown(cert, &why)))?;
        let (setting, file) = key.map_or(("client_cert", cert), |key| ("client_key", key));
        let key = PrivateKeyDer::from_pem_file(file).map_err(|error| (setting, shown(file, &error)))?;
        Ok(Self { chain, key })
    }
}

/// A client that verifies every server. Without any root at all (a machine without CA certificates that talks plain http
/// to its registry) it can be made too, and every TLS handshake fails.
pub(crate) fn client(
    extra: &[CertificateDer<'static>],
    identity: Option<&Identity>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let has_roots = !extra.is_empty();
    let verified = match Verifier::new_with_extra_roots(extra.iter().cloned(), provider.clone()) {
        Ok(verifier) => versions.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
        Err(error) if has_roots => return Err(error),
        Err(error) => {
            tracing::warn!(%error, "no CA certificates on this system: https registries cannot be verified and will fail");
            versions.with_root_certificates(RootCertStore::empty())
        }
    };
    match identity {
        Some(Identity { chain, key }) => verified.with_client_auth_cert(chain.clone(), key.clone_key()),
        None => Ok(verified.with_no_client_auth()),
    }
}
