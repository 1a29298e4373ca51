//! A peer that says what it likes: plain quinn, the right TLS, and the proof only where a test gives it the key.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use shoal_proto::{
    ClusterKeys, NodeId, NodeKey, PieceHeader, Plane, Proof, Role, codec,
    topics::Topic,
    trade::{Envelope, Letter, Message},
};
use shoal_transfer::{Event, TransferConfig};
use tokio::sync::mpsc::Receiver;

/// How long anything in a test may take before it has failed.
pub const BOUND: Duration = Duration::from_secs(20);

pub fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed(&[seed; 32])
}

pub fn cluster(bytes: &[u8]) -> ClusterKeys {
    let lines: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}").repeat(32)).collect();
    ClusterKeys::parse(&lines.join("\n")).unwrap()
}

pub fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// An endpoint with that node's key on a free port of loopback.
pub fn endpoint(
    seed: u8,
    keys: &[u8],
    config: TransferConfig,
) -> (shoal_transfer::Endpoint, Receiver<Event>, SocketAddr) {
    let (endpoint, events) = shoal_transfer::Endpoint::bind(any_port(), &key(seed), cluster(keys), config).unwrap();
    let addr = endpoint.local_addr().unwrap();
    (endpoint, events, addr)
}

pub async fn bounded<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, what).await.expect("it took too long")
}

pub async fn next(events: &mut Receiver<Event>) -> Event {
    bounded(events.recv()).await.expect("the endpoint tells no more")
}

pub async fn connected(events: &mut Receiver<Event>) -> shoal_transfer::Peer {
    match next(events).await {
        Event::Connected(peer) => peer,
        other => panic!("{other:?} instead of a connection"),
    }
}

pub async fn disconnected(events: &mut Receiver<Event>) -> shoal_transfer::Disconnect {
    match next(events).await {
        Event::Disconnected { why, .. } => why,
        other => panic!("{other:?} instead of the end"),
    }
}

pub async fn refused(events: &mut Receiver<Event>) -> shoal_transfer::AdmissionError {
    match next(events).await {
        Event::Refused { why, .. } => why,
        other => panic!("{other:?} instead of a refusal"),
    }
}

pub fn digest() -> shoal_blob::Digest {
    shoal_blob::Digest::Sha256([9; 32])
}

pub fn pass(slot: u32) -> Letter {
    Letter { digest: digest(), messages: vec![Message::Pass { slot }] }
}

/// A letter as a rogue writes it.
pub fn written(topic: Topic, slot: u32) -> Vec<u8> {
    Envelope::seal(topic, &codec::body(&Message::Pass { slot }, 10).unwrap()).unwrap()
}

pub fn header(piece: u32) -> PieceHeader {
    PieceHeader { piece, link: [1; 8], proof: Vec::new() }
}

/// Has one side speak of a blob, so that the other may send pieces of it.
pub async fn speak(peer: &shoal_transfer::Peer, digest: shoal_blob::Digest, events: &mut Receiver<Event>) {
    peer.send(&Letter { digest, ..pass(0) }).unwrap();
    assert!(matches!(next(events).await, Event::Message { .. }));
}

/// Dials with a node's own certificate, and no proof.
pub async fn handshake(
    seed: u8,
    addr: SocketAddr,
    alpn: &[u8],
) -> Result<(Endpoint, Connection), quinn::ConnectionError> {
    let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pkcs8.extend_from_slice(&[seed; 32]);
    let secret = PrivatePkcs8KeyDer::from(pkcs8);
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&secret, &rcgen::PKCS_ED25519).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["rogue".to_owned()]).unwrap().self_signed(&pair).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_auth_cert(vec![certificate.der().clone()], secret.into())
        .unwrap();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = Endpoint::client(any_port()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    let connection = endpoint.connect(addr, "rogue").unwrap().await?;
    Ok((endpoint, connection))
}

/// A member that keeps no other rule: its connection is admitted, its control stream in its hands.
pub struct Rogue {
    pub endpoint: Endpoint,
    pub connection: Connection,
    pub send: SendStream,
    pub recv: RecvStream,
}

pub fn word(connection: &Connection, keys: &ClusterKeys, me: NodeId, other: NodeId, life: u64) -> Vec<u8> {
    let mut session = [0; 32];
    connection.export_keying_material(&mut session, b"shoal membership", b"").unwrap();
    let proof: Proof = keys.prove(Plane::Data, Role::Dialer, me, other, &session);
    codec::encode(&(proof, life), 64).unwrap()
}

pub async fn rogue(seed: u8, keys: &[u8], life: u64, node: NodeId, addr: SocketAddr) -> Rogue {
    let (endpoint, connection) = handshake(seed, addr, b"shoal/1").await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let word = word(&connection, &cluster(keys), key(seed).id(), node, life);
    send.write_all(&word).await.unwrap();
    let mut head = [0; codec::HEAD_BYTES];
    bounded(recv.read_exact(&mut head)).await.unwrap();
    let mut body = vec![0; codec::body_length(head, 64).unwrap()];
    bounded(recv.read_exact(&mut body)).await.unwrap();
    Rogue { endpoint, connection, send, recv }
}

/// The code and the words with which the other side closed.
pub async fn closed(connection: &Connection) -> (u64, String) {
    match bounded(connection.closed()).await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            (close.error_code.into_inner(), String::from_utf8_lossy(&close.reason).into_owned())
        }
        other => panic!("closed with {other}"),
    }
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
