//! One client's socket, as hyper sees it: with a limit on how long it may refuse bytes, a word when all has been flushed,
//! and an eye for what stands in for lent bytes.

use std::{
    io::{self, IoSlice},
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
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

use crate::{loans::Loans, payload::is_stand_in, transmit};

/// A socket that hyper reads and writes. The connection keeps the socket too, to close it in its own way afterwards.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Arc<TcpStream>,
    flush: Arc<Flush>,
    loans: Arc<Loans>,
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
    pub(crate) fn new(socket: Arc<TcpStream>, flush: Arc<Flush>, loans: Arc<Loans>, stall_timeout: Duration) -> Self {
        Self { socket, flush, loans, stall_timeout, stall: None, stalling: false }
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
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first_stand_in = bufs.iter().position(|slice| is_stand_in(slice)).unwrap_or(bufs.len());
        if first_stand_in == bufs.len() {
            return this.poll_send(cx, |socket| socket.try_write_vectored(bufs));
        }
        let (own, rest) = bufs.split_at(first_stand_in);
        if own.iter().any(|slice| !slice.is_empty()) {
            return this
                .poll_send(cx, |socket| socket.try_io(Interest::WRITABLE, || transmit::write_more(socket, own)));
        }
        let lent = rest.iter().take_while(|slice| is_stand_in(slice)).map(|slice| slice.len()).sum();
        let loans = Arc::clone(&this.loans);
        this.poll_send(cx, |socket| socket.try_io(Interest::WRITABLE, || loans.send(socket, lent)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it holds nothing more. What was lent and has not been sent then would never be.
        if !self.loans.is_settled() {
            return Poll::Ready(Err(io::Error::other("lent bytes were left out of a body")));
        }
        self.flush.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.socket).shutdown(std::net::Shutdown::Write))
    }
}
