//! What goes into a swarm and what comes out of it.

use std::{ops::Range, time::Duration};

use shoal_blob::{PieceIndex, PieceSet};
use shoal_proto::{
    NodeId,
    trade::{Lacks, Message},
};

/// A reader of the blob on this node, as the driver numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReaderId(pub u64);

/// An upload slot, numbered by its uploader.
pub type SlotId = u32;

/// Where a piece comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The registry, read under a lease.
    Origin,
    /// A neighbour.
    Neighbour(NodeId),
}

/// Why a piece did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its bytes do not fit the midstates that both sides know: the sender is to blame.
    WrongBytes,
    /// The stream broke, or the sender refused: nobody is to blame.
    Broken,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A connection is there to a member that this node is to trade with, or that says Hello and was not
    /// [just left](super::Swarm::has_left).
    Met {
        /// Who.
        node: NodeId,
        /// The round-trip time of the connection.
        rtt: Duration,
    },
    /// A neighbour said something. `Grant` is for the driver.
    Heard {
        /// Who.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// This node is to trade with that neighbour no longer.
    Left {
        /// Who.
        node: NodeId,
    },
    /// The connection to a neighbour is gone, or it was shut out.
    Parted {
        /// Who.
        node: NodeId,
    },
    /// The midstates at these boundaries are known now.
    Chained {
        /// Which; those that were known before do no harm.
        boundaries: Range<u32>,
    },
    /// Every claim has fallen: only the two ends of the chain are known.
    ChainFell,
    /// A piece has been verified and stored.
    Stored {
        /// Which.
        piece: PieceIndex,
        /// From where it came.
        from: Source,
    },
    /// A piece did not come, or came wrong.
    Missed {
        /// Which.
        piece: PieceIndex,
        /// From where it should have come.
        from: Source,
        /// Why not.
        fault: Fault,
    },
    /// An upload is over: its bytes have arrived, or never will.
    Uploaded {
        /// The slot it was for.
        slot: SlotId,
        /// Whether they have arrived.
        arrived: bool,
    },
    /// Pieces are no longer in the store.
    Lost {
        /// Which.
        pieces: Vec<u32>,
    },
    /// A reader has come, or has moved on: it needs this piece next.
    ReaderAt {
        /// Which reader.
        reader: ReaderId,
        /// What it needs next.
        piece: PieceIndex,
    },
    /// A reader has gone.
    ReaderGone {
        /// Which reader.
        reader: ReaderId,
    },
    /// Whether this node wants what it has not.
    Wants(bool),
    /// Through these members pieces come into this node's zone; none where there is one zone.
    Importers(Vec<NodeId>),
    /// This node holds the lease.
    Appointed {
        /// What other members have: not to be read from the origin.
        elsewhere: PieceSet,
    },
    /// This node holds the lease no longer.
    Dismissed,
    /// An upload slot may be free: another swarm of this node gave it up.
    Turn,
    /// The time that [`Swarm::poll_timeout`](super::Swarm::poll_timeout) named has come.
    TimeOut,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Say this to a neighbour. A Slot or Offer is preceded by the grants that the neighbour has not been told of.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Read a piece from the origin. Pieces are asked for in ascending order, and the midstate before one is known here, or
    /// the piece before it was asked for too.
    FetchOrigin {
        /// Which.
        piece: PieceIndex,
    },
    /// Pieces that were asked of the origin are not needed from there any longer.
    CancelOrigin,
    /// Take a piece from a neighbour: its stream may come from now on.
    Expect {
        /// Which.
        piece: PieceIndex,
        /// From whom.
        from: NodeId,
        /// In which of its slots.
        slot: SlotId,
    },
    /// That piece is not needed from that neighbour any longer: stop its stream.
    Abandon {
        /// Which.
        piece: PieceIndex,
        /// From whom.
        from: NodeId,
    },
    /// Send a piece to a neighbour.
    Upload {
        /// Whom.
        to: NodeId,
        /// Which.
        piece: PieceIndex,
        /// In which slot.
        slot: SlotId,
        /// Which midstates have to go with it, signed.
        lacks: Lacks,
    },
    /// Stop sending what that slot is for.
    CancelUpload {
        /// Which slot.
        slot: SlotId,
    },
    /// A neighbour sent wrong bytes: it gets nothing asked of it for so long.
    ShutOut {
        /// Who.
        node: NodeId,
        /// How long.
        span: Duration,
    },
    /// Nobody here has what is missing: tell the coordinator.
    Orphaned,
    /// The lease is not needed any longer: every piece has a second holder, or nobody wants one.
    LeaseDone,
    /// Every piece is stored.
    Complete,
}

/// Why a swarm wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Announcements have been gathered long enough.
    Announce,
    /// A slot that nobody took lapses.
    SlotLapses,
    /// Nothing is on its way here: somebody must be asked.
    Starved,
    /// An upload has taken too long for its slot.
    UploadStalls,
    /// A piece is overdue.
    PieceOverdue,
    /// The seed has waited long enough for a second holder.
    SeedPatience,
    /// It is time to see whether anybody still has what is missing.
    Orphaned,
    /// A neighbour that passed on a slot may be given another.
    BarLifts,
}
