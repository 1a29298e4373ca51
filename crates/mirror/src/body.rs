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

use crate::{ByteStream, Failure, MirrorCounts, ReadEnded, counts::Held, wire::Flush};

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
    first: Option<Bytes>,
    length: u64,
    sent: u64,
    /// What is sent, for the log.
    about: String,
    flush: Arc<Flush>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    counts: Arc<MirrorCounts>,
    slot: Option<(OwnedSemaphorePermit, Held)>,
}

/// What a blob's body needs from its connection and from the mirror.
pub(crate) struct Surroundings {
    pub(crate) flush: Arc<Flush>,
    /// Ends the body short, when draining has taken too long.
    pub(crate) cut: CancellationToken,
    pub(crate) counts: Arc<MirrorCounts>,
    pub(crate) permit: OwnedSemaphorePermit,
}

impl BlobBody {
    /// A body of `length` bytes, which are `first` and then `bytes`.
    pub(crate) fn new(
        bytes: ByteStream,
        first: Option<Bytes>,
        length: u64,
        about: String,
        around: Surroundings,
    ) -> Self {
        let Surroundings { flush, cut, counts, permit } = around;
        let held = Held::new(&counts, |counts| &counts.open_readers);
        Self {
            bytes: Some(bytes),
            first,
            length,
            sent: 0,
            about,
            flush,
            cut: Box::pin(cut.cancelled_owned()),
            counts,
            slot: Some((permit, held)),
        }
    }

    fn give(&mut self, mut chunk: Bytes) -> Frame<Bytes> {
        chunk.truncate(usize::try_from(self.length - self.sent).unwrap_or(usize::MAX));
        self.sent += chunk.len() as u64;
        self.counts.bytes_to_clients.fetch_add(chunk.len() as u64, Relaxed);
        if self.sent == self.length {
            self.release();
        }
        Frame::data(chunk)
    }

    fn end_short(&mut self, ended: &ReadEnded) {
        self.release();
        self.counts.short_bodies.fetch_add(1, Relaxed);
        tracing::warn!(
            what = self.about, sent = self.sent, length = self.length, reason = ?ended.to_string(), "a body ends short"
        );
    }

    fn release(&mut self) {
        self.bytes = None;
        self.slot = None;
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
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
        if self.bytes.is_some() {
            self.counts.abandoned_bodies.fetch_add(1, Relaxed);
            tracing::debug!(what = self.about, sent = self.sent, length = self.length, "the client left a body");
        }
    }
}

impl std::fmt::Debug for BlobBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobBody").field("about", &self.about).field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
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
