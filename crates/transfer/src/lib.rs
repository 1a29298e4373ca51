//! Pieces over QUIC: the data plane.
//!
//! One UDP socket, one connection for each pair of nodes, one ordered control stream and one stream a piece on it. Who is let
//! in has proven to be a member; who it is, its certificate has proven. What the bytes of a piece are worth is for the receiver to check:
//! nothing here knows.
//!
//! * [`Endpoint`]: binds, dials, listens, closes;
//! * [`Event`]: what it tells its one owner, in order;
//! * [`Peer`]: says things to a neighbour and uploads pieces to it;
//! * [`IncomingPiece`], [`PieceStream`]: a piece that comes;
//! * [`Rates`]: the most that all of it may send and receive a second;
//! * [`bare`]: the QUIC below, alone.

mod admission;
pub mod bare;
mod certificate;
mod close;
mod config;
mod connection;
mod context;
mod counters;
mod dial;
mod endpoint;
mod event;
mod frame;
mod incoming;
mod limited;
mod links;
mod peer;
mod precedence;
mod socket;
mod table;
mod upload;
mod window;

pub use admission::AdmissionError;
pub use close::{Disconnect, Refusal};
pub use config::TransferConfig;
pub use counters::Counts;
pub use dial::DialError;
pub use endpoint::{BindError, Endpoint};
pub use event::Event;
pub use incoming::{IncomingPiece, PieceError, PieceStream};
pub use links::Rates;
pub use peer::{Peer, SendError};
pub use upload::UploadError;
