//! One client's socket, as hyper sees it: with a limit on how long it may refuse bytes, and a word when all has been
//! flushed.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::task::AtomicWaker;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

/// A socket that hyper reads and writes. The connection keeps the socket too, to close it in its own way afterwards.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Arc<TcpStream>,
    flush: Arc<Flush>,
    stall_timeout: Duration,
    stall: Option<Pin<Box<Sleep>>>,
    stalling: bool,
}

/// How a body learns that everything it gave has reached the socket.
///
/// hyper drops what it still buffers when a body fails. So a body that must end short first says so here and stays
/// pending; hyper then flushes, as it does whenever a body has nothing to give, and only when its buffer is empty does it
/// flush the socket. That is the word the body waits for.
#[derive(Debug, Default)]
pub(crate) struct Flush {
    awaited: AtomicBool,
    done: AtomicBool,
    waker: AtomicWaker,
}

impl Flush {
    /// Waits until all that hyper had buffered at the first call has been written.
    pub(crate) fn poll_done(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        self.awaited.store(true, SeqCst);
        if self.done.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn flushed(&self) {
        if self.awaited.load(SeqCst) && !self.done.swap(true, SeqCst) {
            self.waker.wake();
        }
    }
}

impl Wire {
    pub(crate) fn new(socket: Arc<TcpStream>, flush: Arc<Flush>, stall_timeout: Duration) -> Self {
        Self { socket, flush, stall_timeout, stall: None, stalling: false }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        send: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let Poll::Ready(ready) = self.socket.poll_write_ready(cx) else {
                return self.poll_stalled(cx);
            };
            ready?;
            match send(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => {
                    self.stalling = false;
                    return Poll::Ready(sent);
                }
            }
        }
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let deadline = Instant::now() + self.stall_timeout;
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.stalling {
            self.stalling = true;
            stall.as_mut().reset(deadline);
        }
        ready!(stall.as_mut().poll(cx));
        let reason = format!("the client took no byte for {:?}", self.stall_timeout);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read(buf.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|count| buf.advance(count))),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, |socket| socket.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, |socket| socket.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flush.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.socket).shutdown(std::net::Shutdown::Write))
    }
}
