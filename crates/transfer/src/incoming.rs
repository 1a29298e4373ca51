//! A piece on its way from a peer.

use std::{fmt, sync::Arc, time::Instant};

use bytes::Bytes;
use quinn::{ReadError, RecvStream};
use shoal_blob::Digest;
use shoal_proto::{NodeId, PieceHeader};
use tokio::time::timeout;

use crate::{Disconnect, Peer, Refusal, close, context::Context, counters::add};

/// How many datagrams' worth of bytes are taken off the stream under one lock.
const BATCH: usize = 64;

/// A piece that a peer has begun to send: its head was read, none of its bytes. Dropped, it is refused as cancelled.
pub struct IncomingPiece {
    peer: Peer,
    digest: Digest,
    header: PieceHeader,
    stream: RecvStream,
}

/// The bytes of one piece, in order. Dropped before the end, it tells the sender to stop.
///
/// Invariant: never gives out more bytes than the piece has.
pub struct PieceStream {
    context: Arc<Context>,
    from: NodeId,
    stream: RecvStream,
    length: u64,
    received: u64,
    /// When the limit of what comes in lets this reader go on.
    promised: Option<Instant>,
    batch: [Bytes; BATCH],
    next: usize,
    filled: usize,
}

/// Why no more bytes of a piece come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// The sender gave up.
    #[error("node {node} gave up sending the piece")]
    GivenUp {
        /// The sender.
        node: NodeId,
    },
    /// The sender sent more than the piece has; the stream was stopped.
    #[error("node {node} sent more than the {length} bytes of the piece")]
    Overlong {
        /// The sender.
        node: NodeId,
        /// The piece's length in bytes.
        length: u64,
    },
    /// The sender ended the stream before the piece was whole.
    #[error("node {node} sent {received} of the piece's {length} bytes")]
    Short {
        /// The sender.
        node: NodeId,
        /// How many bytes came.
        received: u64,
        /// The piece's length in bytes.
        length: u64,
    },
    /// Nothing came for the whole stall timeout; the stream was stopped.
    #[error("node {node} sent nothing for too long")]
    Stalled {
        /// The sender.
        node: NodeId,
    },
    /// The connection ended.
    #[error("node {node} was disconnected: {why}")]
    Gone {
        /// The sender.
        node: NodeId,
        /// Why.
        why: Disconnect,
    },
}

impl IncomingPiece {
    pub(crate) fn new(peer: Peer, digest: Digest, header: PieceHeader, stream: RecvStream) -> Self {
        Self { peer, digest, header, stream }
    }

    /// Who sends it.
    #[must_use]
    pub fn from(&self) -> NodeId {
        self.peer.node()
    }

    /// The blob that it is of.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What the sender says that it is.
    #[must_use]
    pub const fn header(&self) -> &PieceHeader {
        &self.header
    }

    /// Takes it: a piece of `length` bytes, as the blob's layout says, not the sender.
    #[must_use]
    pub fn accept(self, length: u64) -> PieceStream {
        PieceStream {
            context: Arc::clone(&self.peer.0.context),
            from: self.peer.node(),
            stream: self.stream,
            length,
            received: 0,
            promised: None,
            batch: std::array::from_fn(|_| Bytes::new()),
            next: 0,
            filled: 0,
        }
    }

    /// Tells the sender that it is not taken, and why.
    pub fn refuse(mut self, refusal: Refusal) {
        let _ = self.stream.stop(refusal.code());
    }
}

impl PieceStream {
    /// Who sends it.
    #[must_use]
    pub const fn from(&self) -> NodeId {
        self.from
    }

    /// How many bytes were given out.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// The next bytes, as they came, without a copy: never empty. `None` once all of the piece was given out and the sender
    /// has ended the stream. May be given up at any time without losing bytes.
    ///
    /// # Errors
    /// [`PieceError`]; the stream is of no use then.
    pub async fn read_chunk(&mut self) -> Result<Option<Bytes>, PieceError> {
        let node = self.from;
        while self.next == self.filled {
            let links = &self.context.links;
            // What is not read holds its sender back. This wait is ours and no stall of the sender's.
            if self.received < self.length {
                links.may_read(self.promised).await;
            }
            let batch = &mut self.batch[..links.mouthful(BATCH)];
            let read = timeout(self.context.config.stall_timeout, self.stream.read_chunks(batch)).await;
            let Ok(read) = read else { return Err(PieceError::Stalled { node }) };
            match read.map_err(|error| self.failed(&error))? {
                Some(filled) => {
                    (self.next, self.filled) = (0, filled);
                    let taken: usize = self.batch[..filled].iter().map(Bytes::len).sum();
                    self.promised = self.context.links.took(taken as u64);
                }
                None if self.received == self.length => {
                    add(&self.context.counters.pieces_received, 1);
                    return Ok(None);
                }
                None => return Err(PieceError::Short { node, received: self.received, length: self.length }),
            }
        }
        let bytes = std::mem::take(&mut self.batch[self.next]);
        self.next += 1;
        if bytes.len() as u64 > self.length - self.received {
            let _ = self.stream.stop(Refusal::Overlong.code());
            return Err(PieceError::Overlong { node, length: self.length });
        }
        self.received += bytes.len() as u64;
        add(&self.context.counters.piece_bytes_received, bytes.len());
        Ok(Some(bytes))
    }

    /// Tells the sender to stop, and why.
    pub fn refuse(mut self, refusal: Refusal) {
        let _ = self.stream.stop(refusal.code());
    }

    fn failed(&self, error: &ReadError) -> PieceError {
        let node = self.from;
        match error {
            ReadError::Reset(_) => PieceError::GivenUp { node },
            ReadError::ConnectionLost(error) => PieceError::Gone { node, why: close::disconnect(error) },
            other => PieceError::Gone { node, why: Disconnect::Lost(other.to_string()) },
        }
    }
}

impl fmt::Debug for IncomingPiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IncomingPiece({} of {} from {})", self.header.piece, self.digest, self.from())
    }
}

impl fmt::Debug for PieceStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PieceStream({} of {} bytes from {})", self.received, self.length, self.from)
    }
}
