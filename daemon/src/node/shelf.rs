//! One blob as its readers and the tasks that fill it see it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use shoal_blob::{Digest, Layout, PieceIndex, PieceSet, Spares};
use shoal_mirror::Failure;
use shoal_store::{Blob, InUse, Lent, StoreError};
use shoal_swarm::trade::Source;
use tokio::sync::watch;

/// How a blob stands. Whoever waits for it is woken by every change.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// Grows with each piece that comes, so that a wait for one ends.
    pub(super) arrivals: u64,
    /// Why nothing more will come.
    pub(super) ended: Option<Failure>,
}

/// How many bytes of a blob came from where.
#[derive(Debug, Default)]
pub(super) struct Sources {
    origin: AtomicU64,
    peers: AtomicU64,
}

impl Sources {
    pub(super) fn add(&self, from: Source, bytes: u64) {
        let counter = match from {
            Source::Origin => &self.origin,
            Source::Neighbour(_) => &self.peers,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn of_origin(&self) -> u64 {
        self.origin.load(Ordering::Relaxed)
    }

    pub(super) fn of_peers(&self) -> u64 {
        self.peers.load(Ordering::Relaxed)
    }

    /// All that has come.
    pub(super) fn all(&self) -> u64 {
        self.of_origin() + self.of_peers()
    }
}

/// A blob in use: it is not evicted while this exists.
pub(super) struct Shelf {
    held: InUse,
    standing: watch::Sender<Standing>,
    pub(super) sources: Arc<Sources>,
    /// The pieces that the origin brought since this exists.
    from_origin: Mutex<PieceSet>,
    /// Memory for pieces on their way in.
    pub(super) spares: Spares,
}

impl Shelf {
    pub(super) fn new(held: InUse, sources: Arc<Sources>) -> Self {
        let from_origin = Mutex::new(PieceSet::none_of(held.blob().layout()));
        Self { held, standing: watch::Sender::default(), sources, from_origin, spares: Spares::default() }
    }

    pub(super) fn blob(&self) -> &Arc<Blob> {
        self.held.blob()
    }

    /// The data file, on a descriptor of its own; `None` where the store's disk has none to give.
    pub(super) fn lend(&self) -> Result<Option<Lent>, StoreError> {
        self.held.lend()
    }

    pub(super) fn digest(&self) -> &Digest {
        self.blob().digest()
    }

    pub(super) fn layout(&self) -> &Layout {
        self.blob().layout()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Whether a client may have this piece: the last one is withheld until the chain is closed, so that nobody ever gets
    /// a whole body that is not what the digest says.
    pub(super) fn may_read(&self, piece: PieceIndex) -> bool {
        let blob = self.blob();
        blob.has(piece) && (piece != self.layout().last() || blob.is_complete())
    }

    /// Notes where a piece comes from that is about to be stored.
    pub(super) fn comes(&self, piece: PieceIndex, from: Source) {
        let mut from_origin = self.from_origin.lock();
        match from {
            Source::Origin => from_origin.insert(piece.get()),
            Source::Neighbour(_) => from_origin.remove(piece.get()),
        };
    }

    /// Where a piece came from, for a reader that began when `here` were stored.
    pub(super) fn source(&self, here: &PieceSet, piece: PieceIndex) -> shoal_mirror::Source {
        if here.has(piece) {
            shoal_mirror::Source::Store
        } else if self.from_origin.lock().has(piece) {
            shoal_mirror::Source::Origin
        } else {
            shoal_mirror::Source::Peers
        }
    }

    pub(super) fn arrived(&self) {
        self.standing.send_modify(|standing| standing.arrivals += 1);
    }

    /// It is wanted again: what ended it before counts no longer.
    pub(super) fn reopen(&self) {
        self.standing.send_modify(|standing| standing.ended = None);
    }

    pub(super) fn end(&self, failure: Failure) {
        self.standing.send_modify(|standing| standing.ended = Some(failure));
    }
}
