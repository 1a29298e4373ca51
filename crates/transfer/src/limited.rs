//! The UDP socket behind the limits.
//!
//! All that QUIC sends passes here: data, headers, acknowledgements, what is sent again. A limit that sat above would have to guess
//! these; one below, in the kernel, would queue what QUIC believes to be on its way. Here a connection is told that the socket
//! is busy, and keeps its next packet, which is then as fresh as can be.

use std::{
    fmt, io,
    io::IoSliceMut,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use shoal_pace::Turn;
use tokio::time::{Sleep, sleep_until};

use crate::links::Links;

/// A socket whose senders wait for the limit, and that charges for what comes.
#[derive(Debug)]
pub(crate) struct LimitedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    links: Arc<Links>,
}

/// One connection that wants to send.
///
/// quinn sends exactly when this says that it may, so the limit is asked here, where each connection waits in turn, and not in
/// [`try_send`](AsyncUdpSocket::try_send): what comes there without asking are the endpoint's own few answers to strangers, for
/// which nobody waits, and which a refusal would lose.
struct LimitedPoller {
    inner: Pin<Box<dyn UdpPoller>>,
    links: Arc<Links>,
    turn: Option<Turn>,
    /// Made at the first wait: without a limit there is none.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl LimitedSocket {
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>, links: Arc<Links>) -> Self {
        Self { inner, links }
    }
}

impl AsyncUdpSocket for LimitedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let inner = Arc::clone(&self.inner).create_io_poller();
        Box::pin(LimitedPoller { inner, links: Arc::clone(&self.links), turn: None, sleep: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)?;
        self.links.charge_sent(transmit.contents.len());
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        self.links.charge_received(meta[..received].iter().map(|one| one.len).sum());
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Under a limit few enough that a batch does not keep others waiting.
    fn max_transmit_segments(&self) -> usize {
        let most = self.inner.max_transmit_segments();
        self.links.batch().map_or(most, |batch| batch.min(most))
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl UdpPoller for LimitedPoller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.inner.as_mut().poll_writable(cx))?;
        if this.turn.is_none() {
            this.turn = this.links.turn();
            if let Some(turn) = &this.turn {
                let at = turn.at().into();
                match &mut this.sleep {
                    Some(sleep) => sleep.as_mut().reset(at),
                    None => this.sleep = Some(Box::pin(sleep_until(at))),
                }
            }
        }
        if let (Some(_), Some(sleep)) = (&this.turn, &mut this.sleep) {
            ready!(sleep.as_mut().poll(cx));
            // Given back here, and what is sent now is charged for.
            this.turn = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for LimitedPoller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedPoller").field("turn", &self.turn).finish_non_exhaustive()
    }
}
