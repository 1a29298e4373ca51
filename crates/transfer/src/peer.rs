//! A connected peer.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quinn::{Connection, SendStream};
use shoal_proto::{
    NodeId,
    codec::CodecError,
    topics::{Hearing, Speaking},
    trade::Letter,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Disconnect, close, context::Context, counters::add, frame::Frame, precedence::Precedence, window::Window};

/// How many frames may wait for one peer, whatever their size.
const QUEUED_FRAMES: usize = 8192;
/// How much goes into one write, in bytes, when messages are short.
const WRITE_BYTES: usize = 64 << 10;

/// A connection to a member: cheap to clone, good for one connection only. After a `Disconnected` everything on it fails, so
/// that nothing meant for a peer's last life reaches its next.
#[derive(Clone)]
pub struct Peer(pub(crate) Arc<Link>);

pub(crate) struct Link {
    pub(crate) node: NodeId,
    pub(crate) life: u64,
    pub(crate) addr: SocketAddr,
    pub(crate) connection: Connection,
    pub(crate) context: Arc<Context>,
    /// What the two sides call the blobs, for as long as the connection lives.
    pub(crate) speaking: Mutex<Speaking>,
    pub(crate) hearing: Mutex<Hearing>,
    outbound: mpsc::Sender<Frame>,
    queued: AtomicUsize,
    /// The priority of the last piece's stream.
    piece_priority: AtomicI32,
    pub(crate) precedence: Precedence,
    pub(crate) window: Mutex<Window>,
    /// Why this side closed the connection, where it did: the first reason stays.
    why: OnceLock<Disconnect>,
    /// Told to write what is queued, finish the stream and end.
    pub(crate) drain: CancellationToken,
    /// Told when the last event of this connection is out.
    pub(crate) retired: CancellationToken,
}

/// Why a control message was not queued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer is connected no longer, or the endpoint is being closed.
    #[error("node {0} is not connected any more")]
    Gone(NodeId),
    /// More would wait for the peer than may: it is being disconnected.
    #[error("node {0} is too slow in taking control messages and is being disconnected")]
    TooSlow(NodeId),
    /// The message is longer than a frame may be.
    #[error("the message has no frame: {0}")]
    Unsendable(#[from] CodecError),
}

impl Peer {
    /// A peer on an admitted connection, and the queue of what is sent to it.
    pub(crate) fn new(
        connection: Connection,
        node: NodeId,
        life: u64,
        context: Arc<Context>,
    ) -> (Self, mpsc::Receiver<Frame>) {
        let (outbound, queue) = mpsc::channel(QUEUED_FRAMES);
        let remote = connection.remote_address();
        let window = Mutex::new(Window::new(Arc::clone(&context.sending)));
        let link = Link {
            node,
            life,
            addr: SocketAddr::new(remote.ip().to_canonical(), remote.port()),
            connection,
            context,
            speaking: Mutex::default(),
            hearing: Mutex::default(),
            outbound,
            queued: AtomicUsize::new(0),
            piece_priority: AtomicI32::new(0),
            precedence: Precedence::default(),
            window,
            why: OnceLock::new(),
            drain: CancellationToken::new(),
            retired: CancellationToken::new(),
        };
        (Self(Arc::new(link)), queue)
    }

    /// Which node it is: its certificate and its proof said so.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    /// Where it was when it connected.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// The smoothed round-trip time of the connection.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// Whether the connection still stands, as far as is known.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.connection.close_reason().is_none()
    }

    /// Queues what is to be said in one go; never waits. Messages arrive in the order in which they were queued.
    ///
    /// # Errors
    /// [`SendError`]. When more bytes wait for the peer than
    /// [`TransferConfig::control_queue`](crate::TransferConfig::control_queue) allows, it is disconnected: what it has
    /// missed cannot be made up for.
    pub fn send(&self, letter: &Letter) -> Result<(), SendError> {
        Frame::of(letter)?.into_iter().try_for_each(|frame| self.queue(frame))
    }

    fn queue(&self, frame: Frame) -> Result<(), SendError> {
        let link = &*self.0;
        if !self.is_connected() {
            return Err(SendError::Gone(link.node));
        }
        let size = frame.len();
        let queued = link.queued.fetch_add(size, Relaxed) + size;
        let sent = if queued > link.context.config.control_queue {
            Err(SendError::TooSlow(link.node))
        } else {
            link.outbound.try_send(frame).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SendError::TooSlow(link.node),
                mpsc::error::TrySendError::Closed(_) => SendError::Gone(link.node),
            })
        };
        if let Err(error) = &sent {
            link.queued.fetch_sub(size, Relaxed);
            if matches!(error, SendError::TooSlow(_)) {
                self.close_for(Disconnect::TooSlow);
            }
        }
        sent
    }

    /// Closes the connection at once; what was not sent yet is lost. A `Disconnected` follows on both sides.
    pub fn close(&self) {
        self.close_for(Disconnect::Closed);
    }

    pub(crate) fn close_for(&self, why: Disconnect) {
        let why = self.0.why.get_or_init(|| why);
        close::close(&self.0.connection, why);
    }

    /// Why the connection ended, given what the transport says.
    pub(crate) fn why(&self, error: &quinn::ConnectionError) -> Disconnect {
        match (error, self.0.why.get()) {
            (quinn::ConnectionError::LocallyClosed, Some(why)) => why.clone(),
            _ => close::disconnect(error),
        }
    }
}

impl Link {
    /// The priority of the next piece's stream, below all before it: a piece is of use only when whole, so they are sent one after
    /// the other.
    pub(crate) fn next_priority(&self) -> i32 {
        self.piece_priority.fetch_sub(1, Relaxed).min(0)
    }

    /// Writes the queue to the control stream, many frames at a time, until the connection ends or is drained.
    pub(crate) async fn write(&self, mut stream: SendStream, mut queue: mpsc::Receiver<Frame>, answer: Vec<u8>) {
        if !answer.is_empty() && stream.write_all(&answer).await.is_err() {
            return;
        }
        loop {
            let first = tokio::select! {
                frame = queue.recv() => frame,
                () = self.drain.cancelled(), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
                _ = self.connection.closed() => return,
            };
            let Some(first) = first else { break };
            let mut taken = first.len();
            let mut batch = first.bytes(&mut self.speaking.lock());
            while batch.len() < WRITE_BYTES
                && let Ok(frame) = queue.try_recv()
            {
                taken += frame.len();
                batch.extend_from_slice(&frame.bytes(&mut self.speaking.lock()));
            }
            let written = batch.len();
            if self.precedence.word(&mut stream, batch.into()).await.is_err() {
                return;
            }
            self.queued.fetch_sub(taken, Relaxed);
            add(&self.context.counters.control_bytes_sent, written);
        }
        // Drained: the peer has everything once it has acknowledged the end.
        let _ = stream.finish();
        let _ = stream.stopped().await;
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} at {})", self.0.node, self.0.addr)
    }
}
