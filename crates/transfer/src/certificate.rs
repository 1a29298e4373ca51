//! The node's key as a certificate, and the other node's certificate as its name.
//!
//! A certificate says nothing but a key: it is self-signed, and its names and dates mean nothing. The handshake's signature
//! is checked against the very 32 bytes that become the [`NodeId`], so that no two readings of a certificate can differ.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use shoal_proto::{NodeId, NodeKey};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::BindError;

/// What both ends say that they speak. Versions are told apart behind the handshake, where the refusal can be a clear word.
const ALPN: &[u8] = b"shoal/1";
/// What stands before the 32 bytes of a secret Ed25519 key in PKCS #8.
const PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
/// Ed25519's object identifier, 1.3.101.112, in DER.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// The two TLS configurations of a node: TLS 1.3 alone, both sides with certificates, nothing resumed, nothing early.
pub(crate) fn tls(key: &NodeKey) -> Result<(Arc<QuicClientConfig>, Arc<QuicServerConfig>), BindError> {
    let mut provider = ring::default_provider();
    // AES-128 first: it is a quarter cheaper than AES-256, and encryption is a good part of what a byte costs.
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
        _ => 1,
    });
    let provider = Arc::new(provider);
    let identity = || certificate(key);

    let (chain, secret) = identity()?;
    let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyNode(provider.clone())))
        .with_client_auth_cert(chain, secret)?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.enable_sni = false;
    client.resumption = Resumption::disabled();

    let (chain, secret) = identity()?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(AnyNode(provider)))
        .with_single_cert(chain, secret)?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server.max_early_data_size = 0;

    let no_suite = |_| BindError::Tls(Error::General("the TLS library lacks TLS13_AES_128_GCM_SHA256".to_owned()));
    let client = QuicClientConfig::try_from(client).map_err(no_suite)?;
    let server = QuicServerConfig::try_from(server).map_err(no_suite)?;
    Ok((Arc::new(client), Arc::new(server)))
}

/// The node that the other end of a connection has proven to be.
pub(crate) fn peer_node(connection: &quinn::Connection) -> Option<NodeId> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    node_of(chain.first()?).ok()
}

fn certificate(key: &NodeKey) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), BindError> {
    let mut pkcs8 = zeroize::Zeroizing::new(PKCS8_PREFIX.to_vec());
    pkcs8.extend_from_slice(key.seed().as_slice());
    let secret = PrivatePkcs8KeyDer::from(pkcs8.to_vec());
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&secret, &rcgen::PKCS_ED25519)?;
    let certificate = rcgen::CertificateParams::new(["shoal".to_owned()])?.self_signed(&pair)?;
    Ok((vec![certificate.der().clone()], secret.into()))
}

/// The name of the node whose key a certificate holds.
fn node_of(certificate: &CertificateDer<'_>) -> Result<NodeId, Error> {
    let bad = Error::InvalidCertificate(CertificateError::BadEncoding);
    let Ok((rest, certificate)) = X509Certificate::from_der(certificate) else { return Err(bad) };
    let key = certificate.public_key();
    if !rest.is_empty() || key.algorithm.algorithm.as_bytes() != ED25519 || key.subject_public_key.unused_bits != 0 {
        return Err(bad);
    }
    key.subject_public_key.data.as_ref().try_into().map(NodeId::from_bytes).map_err(|_| bad)
}

/// Takes any node's certificate: which node it must be is asked behind the handshake, and membership proven there.
#[derive(Debug)]
struct AnyNode(Arc<CryptoProvider>);

impl AnyNode {
    fn check_shape(end_entity: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !others.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        node_of(end_entity).map(|_| ())
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let mut spki = SPKI_PREFIX.to_vec();
        spki.extend_from_slice(node_of(certificate)?.as_bytes());
        let spki = SubjectPublicKeyInfoDer::from(spki);
        verify_tls13_signature_with_raw_key(message, &spki, signed, &self.0.signature_verification_algorithms)
    }
}

fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
}

impl ServerCertVerifier for AnyNode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::check_shape(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for AnyNode {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::check_shape(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_its_node() {
        let key = NodeKey::from_seed(&[7; 32]);
        let (chain, _) = certificate(&key).unwrap();
        assert_eq!(node_of(&chain[0]).unwrap(), key.id());
        assert!(tls(&key).is_ok());
    }

    #[test]
    fn other_certificates_name_nobody() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let other = rcgen::CertificateParams::new(["shoal".to_owned()]).unwrap().self_signed(&pair).unwrap();
        assert!(node_of(other.der()).is_err());
        let (chain, _) = certificate(&NodeKey::from_seed(&[7; 32])).unwrap();
        let mut longer = chain[0].to_vec();
        longer.push(0);
        assert!(node_of(&CertificateDer::from(longer)).is_err());
        assert!(node_of(&CertificateDer::from(vec![0x30; 40])).is_err());
        assert!(AnyNode::check_shape(&chain[0], &chain).is_err());
    }
}
