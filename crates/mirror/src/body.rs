//! The bodies of answers, and the one ending that a client resumes from.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::StreamExt;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{
    ByteStream, Chunk, Failure, MirrorCounts, ReadEnded, chunk::Content, counts::Held, delivery::Delivery,
    loans::Loans, payload::Payload, wire::Flush,
};

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// Bytes that are all here; `None` once they were given, or where there are none.
    Whole(Option<Bytes>),
    /// A blob, or parts of one, still being read.
    Blob(Box<BlobBody>),
}

/// The body could not be finished. Everything given before it has been flushed by then.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body ended short")]
pub(crate) struct Cut;

/// A blob on its way to a client.
///
/// Invariant: never gives more than `length` bytes. It gives an error only after all bytes before it were flushed, and
/// lets go of the read at once when it has no more use for it.
pub(crate) struct BlobBody {
    bytes: Option<ByteStream>,
    /// The chunk that was read before the headers were sent.
    first: Option<Chunk>,
    length: u64,
    sent: u64,
    delivery: Arc<Delivery>,
    flush: Arc<Flush>,
    loans: Arc<Loans>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    counts: Arc<MirrorCounts>,
    slot: Option<(OwnedSemaphorePermit, Held)>,
}

/// What a blob's body needs from its connection and from the mirror.
pub(crate) struct Surroundings {
    pub(crate) flush: Arc<Flush>,
    pub(crate) loans: Arc<Loans>,
    /// Ends the body short, when draining has taken too long.
    pub(crate) cut: CancellationToken,
    pub(crate) counts: Arc<MirrorCounts>,
    pub(crate) permit: OwnedSemaphorePermit,
}

impl BlobBody {
    /// A body of `length` bytes, which are `first` and then `bytes`.
    pub(crate) fn new(
        bytes: ByteStream,
        first: Option<Chunk>,
        length: u64,
        delivery: Delivery,
        around: Surroundings,
    ) -> Self {
        let Surroundings { flush, loans, cut, counts, permit } = around;
        let held = Held::new(&counts, |counts| &counts.open_readers);
        Self {
            bytes: Some(bytes),
            first,
            length,
            sent: 0,
            delivery: Arc::new(delivery),
            flush,
            loans,
            cut: Box::pin(cut.cancelled_owned()),
            counts,
            slot: Some((permit, held)),
        }
    }

    fn give(&mut self, mut chunk: Chunk) -> Frame<Payload> {
        chunk.truncate(self.length - self.sent);
        self.sent += chunk.len();
        if self.sent == self.length {
            self.release();
        }
        Frame::data(match chunk.content {
            Content::Bytes(bytes) => {
                self.delivery.sent(chunk.source, bytes.len() as u64);
                Payload::Bytes(bytes)
            }
            Content::Lent(lent) => self.loans.lend(lent, chunk.source, &self.delivery),
        })
    }

    fn end_short(&mut self, ended: &ReadEnded) {
        self.release();
        self.delivery.ends_short(&ended.to_string());
    }

    fn release(&mut self) {
        self.bytes = None;
        self.slot = None;
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Payload>, Cut>>> {
        if self.sent == self.length {
            return Poll::Ready(None);
        }
        if self.bytes.is_some() && self.cut.as_mut().poll(cx).is_ready() {
            self.end_short(&ReadEnded(Failure::Draining));
        }
        if let Some(bytes) = &mut self.bytes {
            let chunk = match self.first.take() {
                Some(first) => Some(Ok(first)),
                None => ready!(bytes.poll_next_unpin(cx)),
            };
            match chunk {
                Some(Ok(chunk)) => return Poll::Ready(Some(Ok(self.give(chunk)))),
                Some(Err(ended)) => self.end_short(&ended),
                None => self.end_short(&ReadEnded(Failure::Internal { reason: "the read ended early".to_owned() })),
            }
        }
        self.flush.poll_done(cx).map(|()| Some(Err(Cut)))
    }
}

impl Drop for BlobBody {
    fn drop(&mut self) {
        // One that broke has been counted as short.
        if self.bytes.is_some() && !self.loans.is_broken() {
            self.counts.abandoned_bodies.fetch_add(1, Relaxed);
            tracing::debug!(
                what = self.delivery.about(),
                sent = self.sent,
                length = self.length,
                "the client left a body"
            );
        }
    }
}

impl std::fmt::Debug for BlobBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobBody").field("delivery", &self.delivery).field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl http_body::Body for Body {
    type Data = Payload;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Payload>, Cut>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes.into())))),
            Self::Blob(blob) => blob.poll_chunk(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Blob(blob) => blob.sent == blob.length,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Blob(blob) => blob.length - blob.sent,
        })
    }
}
