//! What can go wrong before there is a network.

use std::net::SocketAddr;

use shoal_proto::codec::CodecError;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No address to listen on was given.
    #[error("the control plane has no address to listen on: give one, such as 0.0.0.0:5051")]
    NothingToListenOn,
    /// A bootstrap entry is not `host:port`.
    #[error("bootstrap {entry:?} is not HOST:PORT, such as shoal.example:5051 or 10.0.0.7:5051")]
    Bootstrap {
        /// The entry.
        entry: String,
    },
    /// An address could not be listened on.
    #[error("cannot listen on {address} for the control plane: {reason}; is another daemon running there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The keys of the encrypted transport could not be made.
    #[error("cannot make the keys of the encrypted transport: {0}")]
    Noise(#[from] libp2p::noise::Error),
}

/// Why a message was not even queued.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It is too long.
    #[error("a coordination message cannot be sent: {0}")]
    Encoding(#[from] CodecError),
    /// More messages wait than may.
    #[error("the control plane has too many messages waiting to be sent; try again later")]
    Busy,
    /// The control plane has been shut down.
    #[error("the control plane has been shut down")]
    Stopped,
}
