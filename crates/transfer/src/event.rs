//! What the endpoint tells its owner.

use std::net::SocketAddr;

use shoal_proto::{NodeId, trade::Letter};

use crate::{AdmissionError, Disconnect, IncomingPiece, Peer};

/// What happened. For one node the order is always: one `Connected`, then any `Message` and `Piece`, in the order in which
/// they came, then one `Disconnected`; only then may it be `Connected` again.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all events are the large one: a box for each would buy nothing")]
pub enum Event {
    /// A member is connected, whoever dialled.
    Connected(Peer),
    /// A peer says something; its order is that in which it was sent.
    Message {
        /// Who.
        from: NodeId,
        /// What: about one blob, in the order in which it was said.
        letter: Letter,
    },
    /// A peer begins to send a piece: accept or refuse it, and soon. Unread, it holds one of the peer's streams and a part of
    /// the connection's window, and enough of them would hold back the peer's messages too.
    Piece(IncomingPiece),
    /// A peer is connected no longer.
    Disconnected {
        /// Who.
        node: NodeId,
        /// Why.
        why: Disconnect,
    },
    /// Somebody who knocked was not let in, and did not just go away or connect otherwise. Told only while there is ample room for events: strangers must not displace
    /// what members say. The counters have them all.
    Refused {
        /// Where it came from.
        addr: SocketAddr,
        /// Which node it is, where the handshake said so.
        node: Option<NodeId>,
        /// Why.
        why: AdmissionError,
    },
}
