//! TLS towards origins: ring, the platform's roots, and a CA file where one is configured.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
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

/// A client that verifies every server. Without any root at all (a machine without CA certificates that talks plain http
/// to its registry) it can be made too, and every TLS handshake fails.
pub(crate) fn client(extra: &[CertificateDer<'static>]) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let has_roots = !extra.is_empty();
    match Verifier::new_with_extra_roots(extra.iter().cloned(), provider.clone()) {
        Ok(verifier) => {
            Ok(versions.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
        }
        Err(error) if has_roots => Err(error),
        Err(error) => {
            tracing::warn!(%error, "no CA certificates on this system: https registries cannot be verified and will fail");
            Ok(versions.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        }
    }
}

/// oci-client builds its own HTTP client, which takes the TLS provider from the process and panics where there is none.
/// ring is put there first; a provider that the program chose before stays.
pub(crate) fn lend_provider_to_oci_client() {
    if CryptoProvider::get_default().is_none() {
        // An error means that another thread was quicker, which is as good.
        let _ = ring::default_provider().install_default();
    }
}
