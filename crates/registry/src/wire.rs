//! The socket under a connection, with a word about how it is to end.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What a body tells the socket below it: that it waits for all its bytes to be written, and that the connection is then
/// to be reset.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    waits: AtomicBool,
    flushed: AtomicBool,
    resets: AtomicBool,
    body: AtomicWaker,
}

impl Ending {
    /// Returns once the kernel has taken every byte that was handed to the connection. The HTTP server drops what it
    /// still buffers when a body fails, so a cut body would otherwise lose an unknown part of what was counted.
    pub(crate) async fn flushed(&self) {
        self.flushed.store(false, Ordering::Release);
        self.waits.store(true, Ordering::Release);
        futures::future::poll_fn(|context| {
            self.body.register(context.waker());
            if self.flushed.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Makes the socket send RST when it is closed.
    pub(crate) fn reset(&self) {
        self.resets.store(true, Ordering::Release);
    }

    fn note_flushed(&self) {
        if self.waits.swap(false, Ordering::AcqRel) {
            self.flushed.store(true, Ordering::Release);
            self.body.wake();
        }
    }
}

/// A TCP stream that heeds an [`Ending`].
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    ending: Arc<Ending>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> (Self, Arc<Ending>) {
        let ending = Arc::new(Ending::default());
        (Self { stream, ending: Arc::clone(&ending) }, ending)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.ending.resets.load(Ordering::Acquire)
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::warn!(%error, "the connection is closed in order instead of reset");
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called by the HTTP server only when its own buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.ending.note_flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
