//! The proof that opens a connection: behind the TLS handshake, before anything else is said or taken.
//!
//! The dialer opens the one bidirectional stream, says its frame and waits. The listener takes no other stream and says
//! nothing at all until that frame proves the cluster key; then it answers with its own proof. The stream is the control
//! stream from there on. Both proofs cover both nodes' names, the role, and what only the two ends of this very TLS session can compute.

use quinn::{Connection, ReadExactError, RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use shoal_proto::{
    ClusterKeys, NodeId, Plane, Proof, Role,
    codec::{self, CodecError, HEAD_BYTES},
};
use tokio::time::{Instant, timeout_at};

use crate::close;

/// The longest body of an admission frame: a proof and eight bytes, with room for a later version's word.
const MAX_ADMISSION_BODY: usize = 64;
/// Control goes before pieces.
const CONTROL_PRIORITY: i32 = 1;

/// Why a connection was not admitted, in the words of both sides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// The two nodes share no cluster key.
    #[error("the peer has another cluster key: give both nodes the same cluster key file")]
    AnotherClusterKey,
    /// The other daemon is of another version.
    #[error(
        "the peer speaks version {theirs} of the protocol and this daemon version {ours}: upgrade the older one",
        ours = codec::VERSION
    )]
    OtherVersion {
        /// What it speaks.
        theirs: u8,
    },
    /// What listens there, or dials, is no daemon of any version known here.
    #[error("the peer does not speak shoal's protocol: look what listens on that port")]
    OtherProtocol,
    /// The proof did not come in time.
    #[error("the peer took too long to prove its membership")]
    TooLate,
    /// There are as many connections as there may be.
    #[error("too many connections: try again later")]
    Full,
    /// The two nodes are connected already.
    #[error("the two nodes have another connection")]
    Duplicate,
    /// The other end is this node itself.
    #[error("this node dialled itself")]
    Myself,
    /// What came is not an admission frame.
    #[error("what came is not a proof of membership: {0}")]
    Malformed(CodecError),
    /// The connection broke off.
    #[error("the connection was lost before it was admitted: {0}")]
    Lost(String),
}

/// What each side says: once.
#[derive(Serialize, Deserialize)]
struct Word {
    proof: Proof,
    /// Which life of that node speaks: drawn anew at each start, so that a connection to its last life can be told.
    life: u64,
}

/// A connection whose other end is a member, and the control stream on it.
pub(crate) struct Admitted {
    pub(crate) connection: Connection,
    pub(crate) node: NodeId,
    pub(crate) life: u64,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    /// What must go out before any message: the listener's answer.
    pub(crate) answer: Vec<u8>,
}

/// Who proves: this node, this life of it, with these keys.
pub(crate) struct Prover<'a> {
    pub(crate) me: NodeId,
    pub(crate) life: u64,
    pub(crate) keys: &'a ClusterKeys,
}

impl Prover<'_> {
    /// Proves membership to the listener at the other end, and hears its proof. Closes the connection on failure.
    pub(crate) async fn knock(
        &self,
        connection: &Connection,
        node: NodeId,
        deadline: Instant,
    ) -> Result<Admitted, AdmissionError> {
        let talk = async {
            let session = session(connection)?;
            let (mut send, mut recv) = connection.open_bi().await.map_err(|error| close::refusal(&error))?;
            let _ = send.set_priority(CONTROL_PRIORITY);
            let word = self.word(Role::Dialer, node, &session);
            send.write_all(&word).await.map_err(|error| lost(connection, &error))?;
            let word = hear(connection, &mut recv).await?;
            self.check(&word, Role::Listener, node, &session)?;
            let connection = connection.clone();
            Ok(Admitted { connection, node, life: word.life, send, recv, answer: Vec::new() })
        };
        finish(connection, timeout_at(deadline, talk).await)
    }

    /// Hears the proof of the dialer at the other end. The answer is not sent yet. Closes the connection on failure.
    pub(crate) async fn answer(
        &self,
        connection: &Connection,
        node: NodeId,
        deadline: Instant,
    ) -> Result<Admitted, AdmissionError> {
        let talk = async {
            let session = session(connection)?;
            let (send, mut recv) = connection.accept_bi().await.map_err(|error| close::refusal(&error))?;
            let _ = send.set_priority(CONTROL_PRIORITY);
            let word = hear(connection, &mut recv).await?;
            self.check(&word, Role::Dialer, node, &session)?;
            let answer = self.word(Role::Listener, node, &session);
            Ok(Admitted { connection: connection.clone(), node, life: word.life, send, recv, answer })
        };
        finish(connection, timeout_at(deadline, talk).await)
    }

    fn word(&self, role: Role, other: NodeId, session: &[u8]) -> Vec<u8> {
        let proof = self.keys.prove(Plane::Data, role, self.me, other, session);
        codec::encode(&Word { proof, life: self.life }, MAX_ADMISSION_BODY).expect("a proof fits its frame")
    }

    fn check(&self, word: &Word, role: Role, prover: NodeId, session: &[u8]) -> Result<(), AdmissionError> {
        let good = self.keys.accepts(&word.proof, Plane::Data, role, prover, self.me, session);
        if good { Ok(()) } else { Err(AdmissionError::AnotherClusterKey) }
    }
}

/// What only the two ends of this TLS session know.
fn session(connection: &Connection) -> Result<[u8; 32], AdmissionError> {
    let mut session = [0; 32];
    connection
        .export_keying_material(&mut session, b"shoal membership", b"")
        .map_err(|_| AdmissionError::Lost("the TLS session exports no key".to_owned()))?;
    Ok(session)
}

async fn hear(connection: &Connection, recv: &mut RecvStream) -> Result<Word, AdmissionError> {
    let unread = |error: ReadExactError| lost(connection, &error);
    let mut head = [0; HEAD_BYTES];
    recv.read_exact(&mut head).await.map_err(unread)?;
    let mut body = [0; MAX_ADMISSION_BODY];
    let body = &mut body[..codec::body_length(head, MAX_ADMISSION_BODY).map_err(malformed)?];
    recv.read_exact(body).await.map_err(unread)?;
    codec::decode(body).map_err(malformed)
}

fn malformed(error: CodecError) -> AdmissionError {
    match error {
        CodecError::Version { theirs } => AdmissionError::OtherVersion { theirs },
        error => AdmissionError::Malformed(error),
    }
}

/// Why a stream failed: because its connection did, where that is so.
fn lost(connection: &Connection, error: &dyn std::error::Error) -> AdmissionError {
    match connection.close_reason() {
        Some(reason) => close::refusal(&reason),
        None => AdmissionError::Lost(error.to_string()),
    }
}

fn finish(
    connection: &Connection,
    outcome: Result<Result<Admitted, AdmissionError>, tokio::time::error::Elapsed>,
) -> Result<Admitted, AdmissionError> {
    let outcome = outcome.unwrap_or(Err(AdmissionError::TooLate));
    if let Err(why) = &outcome {
        close::refuse(connection, why);
    }
    outcome
}
