//! The door between noise and yamux: nothing else is spoken before both sides have proven the cluster key.
//!
//! Over the encrypted stream, in order:
//! 1. both send a version byte and 32 fresh random bytes;
//! 2. the dialer sends its proof;
//! 3. the listener answers with one byte, and, when that proof was right, its own proof;
//! 4. the dialer answers with one byte.
//!
//! A proof covers the role, both nodes and both nonces, so it opens one door, once. The listener, who can be dialled by
//! anybody, shows a proof only to one who has proven already. At most 67 bytes are read from the other side. The time limit
//! is the gate's, which covers noise and this together.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use shoal_proto::{ClusterKeys, NodeId, Plane, Proof, Role};

/// The version of what is said at the door and behind it.
pub(crate) const VERSION: u8 = 1;
const ADMITTED: u8 = 1;
const REFUSED: u8 = 0;

/// Why a connection did not come to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmissionError {
    /// The encryption below could not be set up.
    #[error("the encrypted channel could not be set up: {0}")]
    Noise(#[from] libp2p::noise::Error),
    /// The other side is not a node of ours: its key is of another kind.
    #[error("the peer's identity is not an Ed25519 key")]
    NotANode,
    /// The other side is of another version.
    #[error(
        "the peer speaks version {theirs} of the admission and this daemon version {VERSION}: upgrade the older one, \
         unless the peer is no Shoal daemon at all"
    )]
    Version {
        /// What it speaks.
        theirs: u8,
    },
    /// The other side did not prove any of our keys.
    #[error("node {node} has another cluster key than this daemon: give both the same cluster key file")]
    ForeignKey {
        /// The other side.
        node: NodeId,
    },
    /// The other side did not take our proof.
    #[error("node {node} refused this daemon: the peer has another cluster key, give both the same cluster key file")]
    RefusedByPeer {
        /// The other side.
        node: NodeId,
    },
    /// The other side said something else than the protocol has.
    #[error("the peer broke the rules of the admission: {0}")]
    Protocol(&'static str),
    /// The other side took too long.
    #[error("the peer did not finish the admission in time")]
    TooSlow,
    /// The connection broke, or the other side closed it.
    #[error("the connection ended before both sides were admitted: {0}")]
    Io(#[from] io::Error),
}

/// What the other side has shown; kept while its connection lives, so that a key that is withdrawn closes it.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    pub(crate) peer: NodeId,
    role: Role,
    session: [u8; 64],
    proof: Proof,
}

impl Evidence {
    /// Whether it still holds under these keys.
    pub(crate) fn holds(&self, keys: &ClusterKeys, me: NodeId) -> bool {
        keys.accepts(&self.proof, Plane::Control, self.role, self.peer, me, &self.session)
    }
}

/// One side of the door, about to meet `peer`, whom the encryption has identified.
pub(crate) struct Door {
    pub(crate) keys: ClusterKeys,
    pub(crate) me: NodeId,
    pub(crate) peer: NodeId,
}

impl Door {
    /// Goes through as the one that dialled.
    pub(crate) async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
    ) -> Result<Evidence, AdmissionError> {
        let session = greet(stream, Role::Dialer).await?;
        self.show(stream, Role::Dialer, &session).await?;
        if !verdict(stream).await? {
            return Err(AdmissionError::RefusedByPeer { node: self.peer });
        }
        self.judge(stream, Role::Listener, session).await
    }

    /// Goes through as the one that was dialled.
    pub(crate) async fn listen<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
    ) -> Result<Evidence, AdmissionError> {
        let session = greet(stream, Role::Listener).await?;
        let evidence = self.judge(stream, Role::Dialer, session).await?;
        self.show(stream, Role::Listener, &session).await?;
        if !verdict(stream).await? {
            return Err(AdmissionError::RefusedByPeer { node: self.peer });
        }
        Ok(evidence)
    }

    async fn show<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        role: Role,
        session: &[u8; 64],
    ) -> Result<(), AdmissionError> {
        let proof = self.keys.prove(Plane::Control, role, self.me, self.peer, session);
        stream.write_all(&proof.0).await?;
        stream.flush().await?;
        Ok(())
    }

    /// Reads the other side's proof and tells it the verdict, which is all that it learns.
    async fn judge<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        role: Role,
        session: [u8; 64],
    ) -> Result<Evidence, AdmissionError> {
        let mut proof = [0; 32];
        stream.read_exact(&mut proof).await?;
        let evidence = Evidence { peer: self.peer, role, session, proof: Proof(proof) };
        if evidence.holds(&self.keys, self.me) {
            stream.write_all(&[ADMITTED]).await?;
            stream.flush().await?;
            return Ok(evidence);
        }
        // The other side should learn why; that it cannot be told changes nothing.
        let told = async {
            stream.write_all(&[REFUSED]).await?;
            stream.flush().await?;
            stream.close().await
        };
        let _: io::Result<()> = told.await;
        Err(AdmissionError::ForeignKey { node: self.peer })
    }
}

/// Exchanges versions and nonces; the session is the dialer's nonce, then the listener's.
async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, role: Role) -> Result<[u8; 64], AdmissionError> {
    let mine: [u8; 32] = rand::random();
    let mut greeting = [VERSION; 33];
    greeting[1..].copy_from_slice(&mine);
    stream.write_all(&greeting).await?;
    stream.flush().await?;

    let mut theirs = [0; 33];
    stream.read_exact(&mut theirs[..1]).await?;
    if theirs[0] != VERSION {
        return Err(AdmissionError::Version { theirs: theirs[0] });
    }
    stream.read_exact(&mut theirs[1..]).await?;
    let mut session = [0; 64];
    let (dialer, listener) = session.split_at_mut(32);
    let (first, second) = if role == Role::Dialer { (&mine[..], &theirs[1..]) } else { (&theirs[1..], &mine[..]) };
    dialer.copy_from_slice(first);
    listener.copy_from_slice(second);
    Ok(session)
}

async fn verdict<S: AsyncRead + Unpin>(stream: &mut S) -> Result<bool, AdmissionError> {
    let mut byte = [0];
    stream.read_exact(&mut byte).await?;
    match byte[0] {
        ADMITTED => Ok(true),
        REFUSED => Ok(false),
        _ => Err(AdmissionError::Protocol("its verdict is neither yes nor no")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_proto::NodeKey;
    use tokio::io::DuplexStream;
    use tokio_compat::compat;

    /// The two faces of a tokio stream and a futures one, for these tests alone.
    mod tokio_compat {
        use std::{
            io,
            pin::Pin,
            task::{Context, Poll, ready},
        };
        use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

        pub(super) struct Compat(DuplexStream);

        pub(super) fn compat(stream: DuplexStream) -> Compat {
            Compat(stream)
        }

        impl futures::AsyncRead for Compat {
            fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, b: &mut [u8]) -> Poll<io::Result<usize>> {
                let mut buffer = ReadBuf::new(b);
                ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
        }

        impl futures::AsyncWrite for Compat {
            fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.0).poll_write(cx, b)
            }
            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.0).poll_flush(cx)
            }
            fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.0).poll_shutdown(cx)
            }
        }
    }

    fn keys(digit: char) -> ClusterKeys {
        ClusterKeys::parse(&digit.to_string().repeat(64)).unwrap()
    }

    fn nodes() -> (NodeId, NodeId) {
        (NodeKey::from_seed(&[1; 32]).id(), NodeKey::from_seed(&[2; 32]).id())
    }

    fn doors(dialer: ClusterKeys, listener: ClusterKeys) -> (Door, Door) {
        let (a, b) = nodes();
        (Door { keys: dialer, me: a, peer: b }, Door { keys: listener, me: b, peer: a })
    }

    async fn meet(dialer: ClusterKeys, listener: ClusterKeys) -> [Result<Evidence, AdmissionError>; 2] {
        let (near, far) = tokio::io::duplex(256);
        let (dialer, listener) = doors(dialer, listener);
        let (mut near, mut far) = (compat(near), compat(far));
        let (dialled, listened) = tokio::join!(dialer.dial(&mut near), listener.listen(&mut far));
        [dialled, listened]
    }

    /// One side's raw bytes, for a stranger that is played by hand.
    async fn stranger(digit: char) -> (DuplexStream, tokio::task::JoinHandle<Result<Evidence, AdmissionError>>) {
        let (near, far) = tokio::io::duplex(256);
        let (_, door) = doors(keys(digit), keys(digit));
        let task = tokio::spawn(async move { door.listen(&mut compat(far)).await });
        (near, task)
    }

    #[tokio::test]
    async fn members_let_each_other_in_and_the_evidence_falls_with_the_key() {
        let [dialled, listened] = meet(keys('a'), keys('a')).await;
        let (a, b) = nodes();
        let (dialled, listened) = (dialled.unwrap(), listened.unwrap());
        assert!(dialled.holds(&keys('a'), a) && listened.holds(&keys('a'), b));
        assert!(!dialled.holds(&keys('b'), a) && !listened.holds(&keys('b'), b));
    }

    #[tokio::test]
    async fn another_key_is_told_to_both_in_words() {
        let [dialled, listened] = meet(keys('a'), keys('b')).await;
        let (dialled, listened) = (dialled.unwrap_err(), listened.unwrap_err());
        assert!(matches!(dialled, AdmissionError::RefusedByPeer { .. }), "{dialled}");
        assert!(dialled.to_string().contains("the peer has another cluster key"));
        assert!(matches!(listened, AdmissionError::ForeignKey { .. }), "{listened}");
    }

    #[tokio::test]
    async fn a_listener_that_proves_another_key_is_refused_by_the_dialer() {
        let both = ClusterKeys::parse(&format!("{}\n{}", "b".repeat(64), "a".repeat(64))).unwrap();
        let [dialled, listened] = meet(keys('a'), both).await;
        assert!(matches!(dialled.unwrap_err(), AdmissionError::ForeignKey { .. }));
        assert!(matches!(listened.unwrap_err(), AdmissionError::RefusedByPeer { .. }));
    }

    #[tokio::test]
    async fn another_version_is_told() {
        use tokio::io::AsyncWriteExt as _;
        let (mut stream, task) = stranger('a').await;
        stream.write_all(&[9; 33]).await.unwrap();
        let error = task.await.unwrap().unwrap_err();
        assert!(matches!(error, AdmissionError::Version { theirs: 9 }), "{error}");
    }

    /// Plays a dialer by hand: sends a nonce and a proof; returns the listener's nonce and all that follows it.
    async fn knock(nonce: [u8; 32], proof: impl FnOnce(&[u8]) -> [u8; 32]) -> ([u8; 32], Vec<u8>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, task) = stranger('a').await;
        stream.write_all(&[VERSION]).await.unwrap();
        stream.write_all(&nonce).await.unwrap();
        let mut theirs = [0; 33];
        stream.read_exact(&mut theirs).await.unwrap();
        let theirs: [u8; 32] = theirs[1..].try_into().unwrap();
        let session = [nonce, theirs].concat();
        stream.write_all(&proof(&session)).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        let _ = task.await.unwrap();
        (theirs, rest)
    }

    #[tokio::test]
    async fn nonces_are_fresh_and_a_recorded_proof_is_worth_nothing() {
        let (a, b) = nodes();
        let mut recorded = [0; 32];
        let (first, admitted) = knock([5; 32], |session| {
            recorded = keys('a').prove(Plane::Control, Role::Dialer, a, b, session).0;
            recorded
        })
        .await;
        assert_eq!((admitted.len(), admitted[0]), (33, ADMITTED), "a member is let in and shown a proof");
        let (second, refused) = knock([5; 32], |_| recorded).await;
        assert_ne!(first, second);
        assert_eq!(refused, [REFUSED], "a stranger gets one byte and no proof");
    }

    #[tokio::test]
    async fn a_proof_of_the_other_role_is_refused() {
        let (a, b) = nodes();
        let (_, refused) = knock([5; 32], |s| keys('a').prove(Plane::Control, Role::Listener, b, a, s).0).await;
        assert_eq!(refused, [REFUSED]);
    }
}
