//! What the tasks around the engine tell it.

use std::sync::Arc;

use shoal_blob::{Digest, PieceIndex, Repository, VerifiedPiece};
use shoal_mirror::Failure;
use shoal_proto::{
    NodeId,
    coordination::{Coordination, Probe, Refusal},
};
use shoal_store::StoreError;
use shoal_swarm::trade::{Fault, ReaderId, SlotId, Source};
use tokio::sync::{mpsc, oneshot};

use super::{book::Book, shelf::Shelf};

/// What happened around the engine.
pub(super) enum Told {
    /// A client wants to know how long a blob is.
    Find {
        digest: Digest,
        repository: Repository,
        reply: oneshot::Sender<Result<Probe, Failure>>,
    },
    /// A client wants to read a blob; its reader is at that byte.
    Open {
        digest: Digest,
        repository: Repository,
        reader: ReaderId,
        offset: u64,
        reply: Opener,
    },
    ReaderAt {
        digest: Digest,
        reader: ReaderId,
        piece: PieceIndex,
    },
    ReaderGone {
        digest: Digest,
        reader: ReaderId,
    },
    /// A reader has waited in vain, and ends.
    Stalled {
        digest: Digest,
        failure: Failure,
    },
    /// The store has made room for a blob, or found what it has of it and checked it.
    Admitted {
        digest: Digest,
        outcome: Result<Box<Admitted>, StoreError>,
    },
    /// A piece is verified and stored.
    Stored {
        digest: Digest,
        piece: VerifiedPiece,
        from: Source,
    },
    /// A piece did not come, or came wrong.
    Missed {
        digest: Digest,
        piece: PieceIndex,
        from: Source,
        fault: Fault,
    },
    /// A piece could not be stored.
    NoRoom {
        digest: Digest,
        piece: PieceIndex,
        from: Source,
        error: StoreError,
    },
    Uploaded {
        digest: Digest,
        slot: SlotId,
        arrived: bool,
    },
    /// That reading of the origin came to an end.
    OriginFailed {
        digest: Digest,
        reading: u64,
        refusal: Refusal,
    },
    /// The blob is synced and its proof kept, or could not be.
    Completed {
        digest: Digest,
        outcome: Result<(), StoreError>,
    },
    /// What the origin said of a blob's length.
    Probed {
        digest: Digest,
        /// The repository that has it.
        repository: Option<Repository>,
        outcome: Result<Probe, Refusal>,
    },
    /// The nodes closest to a digest, nearest first, this one included.
    Closest {
        digest: Digest,
        nodes: Vec<NodeId>,
    },
    /// A neighbour could not be reached on the data plane.
    Unreached {
        node: NodeId,
    },
    /// A word of this node to itself, as its own coordinator or member.
    Loopback(Box<Coordination>),
    /// The store is about to let a blob go.
    Departing {
        digest: Digest,
        evicted: bool,
    },
    /// Give leases back, take leave of neighbours, then answer.
    Drain {
        reply: oneshot::Sender<()>,
    },
}

/// Who waits for a blob to be readable.
pub(super) type Opener = oneshot::Sender<Result<Arc<Shelf>, Failure>>;

/// What the store has of a blob.
pub(super) struct Admitted {
    pub(super) shelf: Arc<Shelf>,
    pub(super) book: Book,
    /// Pieces of an earlier life that were hashed again.
    pub(super) verified_on_disk: u32,
}

/// Where the engine is told. Never blocks: each task has at most one word or reader under way, and tasks are bounded.
#[derive(Clone)]
pub(super) struct Mailbox(mpsc::UnboundedSender<Told>);

impl Mailbox {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Told>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Tells the engine; in vain once it has ended, when nothing matters any more.
    pub(super) fn tell(&self, told: Told) {
        let _ = self.0.send(told);
    }
}
