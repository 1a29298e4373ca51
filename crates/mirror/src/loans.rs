//! What the bodies of a connection have lent to its wire.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::net::TcpStream;

use crate::{Source, chunk::Lent, delivery::Delivery, payload::Payload, transmit};

/// Parts of files in the order in which they are to be sent.
///
/// Invariant: together they are as long as the stand-ins that hyper holds for them. A body lends and gives hyper the stand-in
/// in one step; the wire says to hyper that it has written what the system has sent.
#[derive(Debug, Default)]
pub(crate) struct Loans {
    queue: Mutex<VecDeque<Loan>>,
    broken: AtomicBool,
}

#[derive(Debug)]
struct Loan {
    lent: Lent,
    source: Option<Source>,
    /// What it is a part of.
    delivery: Arc<Delivery>,
}

impl Loans {
    /// Takes a part to be sent; what comes back stands in for it.
    pub(crate) fn lend(&self, lent: Lent, source: Option<Source>, delivery: &Arc<Delivery>) -> Payload {
        let stand_in = Payload::Lent(usize::try_from(lent.len()).expect("a chunk is a few MiB"));
        self.queue.lock().push_back(Loan { lent, source, delivery: Arc::clone(delivery) });
        stand_in
    }

    /// Sends up to `most` bytes of the first part, as many as the socket takes at once, and returns how many these were:
    /// one at least.
    ///
    /// # Errors
    /// `WouldBlock`; the socket's errors; and when the bytes cannot be had any more, or may not. What was sent before is
    /// whole then, and the body ends with it.
    pub(crate) fn send(&self, socket: &TcpStream, most: usize) -> io::Result<usize> {
        let mut queue = self.queue.lock();
        let Some(Loan { lent, source, delivery }) = queue.front_mut() else {
            return Err(io::Error::other("there is a stand-in and nothing was lent for it"));
        };
        if !lent.file().may_send(lent.range()) {
            return Err(self.broken(delivery, io::Error::other("the blob was withdrawn while it was sent")));
        }
        let most = usize::try_from(lent.len()).unwrap_or(most).min(most);
        let sent = match transmit::transmit(socket, lent.file().file(), lent.range().start, most) {
            Ok(0) => return Err(self.broken(delivery, io::Error::from(io::ErrorKind::UnexpectedEof))),
            Ok(sent) => sent,
            Err(error) if is_of_the_socket(&error) => return Err(error),
            Err(error) => return Err(self.broken(delivery, error)),
        };
        delivery.sent(*source, sent as u64);
        lent.advance(sent as u64);
        if lent.len() == 0 {
            queue.pop_front();
        }
        Ok(sent)
    }

    /// Whether nothing waits to be sent.
    pub(crate) fn is_settled(&self) -> bool {
        self.queue.lock().is_empty()
    }

    /// Whether a body ended because of what was lent for it.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    fn broken(&self, delivery: &Delivery, error: io::Error) -> io::Error {
        self.broken.store(true, Relaxed);
        delivery.ends_short(&error.to_string());
        error
    }
}

/// Whether it says that the client has no room just now, or is gone.
fn is_of_the_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut, WouldBlock};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | TimedOut | WouldBlock)
}
