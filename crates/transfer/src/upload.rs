//! A piece on its way to a peer.

use std::{future::Future, io, ops::Range};

use bytes::Bytes;
use quinn::{SendStream, VarInt, WriteError};
use shoal_blob::Digest;
use shoal_proto::{
    NodeId, PieceHeader,
    codec::{self, CodecError, MAX_PIECE_HEADER},
};
use tokio::{task::JoinHandle, time::timeout};

use crate::{Disconnect, Peer, Refusal, counters::add, peer::Link};

/// The code of a stream that its sender gave up.
const GIVEN_UP: VarInt = VarInt::from_u32(0);

/// Why a piece did not arrive whole.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The peer does not take it, or takes no more of it.
    #[error("node {node} does not take the piece: {refusal}")]
    Refused {
        /// The peer.
        node: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// The peer has not spoken of the blob on this connection, or of so many others since that it has no number for it any
    /// more; nothing was sent.
    #[error("node {node} has no number for blob {digest} on this connection: it has to ask again")]
    Unnamed {
        /// The peer.
        node: NodeId,
        /// The blob.
        digest: Digest,
    },
    /// The head does not fit its frame; nothing was sent.
    #[error("the head of a piece for node {node} cannot be sent: {error}")]
    Head {
        /// The peer.
        node: NodeId,
        /// What is wrong with it.
        error: CodecError,
    },
    /// The bytes could not be read here.
    #[error("the piece for node {node} could not be read: {source}")]
    Source {
        /// The peer.
        node: NodeId,
        /// What the source said.
        source: io::Error,
    },
    /// Nothing moved for the whole stall timeout.
    #[error("node {node} took no bytes for too long")]
    Stalled {
        /// The peer.
        node: NodeId,
    },
    /// The connection ended.
    #[error("node {node} was disconnected: {why}")]
    Gone {
        /// The peer.
        node: NodeId,
        /// Why.
        why: Disconnect,
    },
}

/// A stream that is reset unless the piece was sent whole: quinn would finish it, as if a part were all.
struct Outgoing {
    stream: SendStream,
    whole: bool,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.whole {
            let _ = self.stream.reset(GIVEN_UP);
        }
    }
}

/// An upload on its way over a connection.
struct Sending<'a>(&'a Link);

impl<'a> Sending<'a> {
    fn begin(link: &'a Link) -> Self {
        let Link { window, connection, context, .. } = link;
        connection.set_send_window(window.lock().begin(&context.config, context.least_in_flight()));
        Self(link)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.window.lock().end();
    }
}

impl Peer {
    /// Sends a piece of `length` bytes on a stream of its own, and resolves when the peer has acknowledged all of it or
    /// takes no more. Dropped before, it resets the stream. The peer has to have spoken of the blob.
    ///
    /// `source` gives the bytes of a range that counts from the piece's first byte; it is asked in order, a chunk at a time,
    /// one chunk ahead of the network, on a thread that may block. The bytes it gives are not copied.
    ///
    /// # Errors
    /// [`UploadError`]; the peer has a part of the piece at most, and knows it.
    pub async fn upload<S>(
        &self,
        digest: Digest,
        header: PieceHeader,
        length: u64,
        source: S,
    ) -> Result<(), UploadError>
    where
        S: FnMut(Range<u64>) -> io::Result<Bytes> + Send + 'static,
    {
        let context = &self.0.context;
        let node = self.node();
        if context.closing.is_cancelled() {
            return Err(UploadError::Gone { node, why: Disconnect::Closed });
        }
        let _under_way = context.uploads.token();
        let _sending = Sending::begin(&self.0);
        let number = self.0.hearing.lock().number(&digest).ok_or(UploadError::Unnamed { node, digest })?;
        let head = codec::encode_brief(&(number, header), MAX_PIECE_HEADER);
        let head = head.map_err(|error| UploadError::Head { node, error })?;

        let mut reading = Reading::begin(source, length, u64::from(context.config.upload_chunk.max(1)));
        let open = async { self.0.connection.open_uni().await.map_err(WriteError::from) };
        let mut outgoing = Outgoing { stream: self.step(open).await?, whole: false };
        let _ = outgoing.stream.set_priority(self.0.next_priority());
        self.step(outgoing.stream.write_chunk(head.into())).await?;
        while let Some(chunk) = reading.next().await.map_err(|source| UploadError::Source { node, source })? {
            let size = chunk.len();
            self.step(self.0.precedence.piece(&mut outgoing.stream, chunk)).await?;
            add(&context.counters.piece_bytes_sent, size);
        }
        let _ = outgoing.stream.finish();
        let acknowledged = outgoing.stream.stopped();
        let acknowledged = async { acknowledged.await.map_err(WriteError::from) };
        if let Some(code) = self.step(acknowledged).await? {
            return Err(UploadError::Refused { node, refusal: Refusal::from_code(code) });
        }
        outgoing.whole = true;
        add(&context.counters.pieces_sent, 1);
        self.fit_window();
        Ok(())
    }

    /// Lets as much be unacknowledged as the round trip asks for.
    fn fit_window(&self) {
        let Link { window, connection, context, .. } = &*self.0;
        let bytes =
            window.lock().fit(connection.rtt(), connection.min_rtt(), &context.config, context.least_in_flight());
        connection.set_send_window(bytes);
    }

    /// One step of an upload, in bounded time.
    async fn step<T>(&self, step: impl Future<Output = Result<T, WriteError>>) -> Result<T, UploadError> {
        let node = self.node();
        match timeout(self.0.context.config.stall_timeout, step).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(WriteError::Stopped(code))) => Err(UploadError::Refused { node, refusal: Refusal::from_code(code) }),
            Ok(Err(WriteError::ConnectionLost(error))) => Err(UploadError::Gone { node, why: self.why(&error) }),
            Ok(Err(error)) => Err(UploadError::Gone { node, why: Disconnect::Lost(error.to_string()) }),
            Err(_) => Err(UploadError::Stalled { node }),
        }
    }
}

/// The source, given back, with what it gave for a range.
type Read<S> = (S, io::Result<Bytes>, Range<u64>);

/// Reads a source one chunk ahead.
struct Reading<S> {
    length: u64,
    chunk: u64,
    ahead: Option<JoinHandle<Read<S>>>,
}

impl<S: FnMut(Range<u64>) -> io::Result<Bytes> + Send + 'static> Reading<S> {
    fn begin(source: S, length: u64, chunk: u64) -> Self {
        let mut this = Self { length, chunk, ahead: None };
        this.read(source, 0);
        this
    }

    fn read(&mut self, mut source: S, from: u64) {
        let range = from..self.length.min(from.saturating_add(self.chunk));
        self.ahead = (!range.is_empty()).then(|| {
            tokio::task::spawn_blocking(move || {
                let bytes = source(range.clone());
                (source, bytes, range)
            })
        });
    }

    /// The next chunk; `None` behind the last.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(ahead) = &mut self.ahead else { return Ok(None) };
        let (source, bytes, range) = ahead.await.map_err(io::Error::other)?;
        self.ahead = None;
        let bytes = bytes?;
        if bytes.len() as u64 != range.end - range.start {
            let got = bytes.len();
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("bytes {} to {} were asked for and {got} came", range.start, range.end),
            ));
        }
        self.read(source, range.end);
        Ok(Some(bytes))
    }
}
