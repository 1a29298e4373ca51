//! What peers say to each other, and who they are.
//!
//! Pure: it turns values into bounded frames and back, signs and checks, and never touches a socket or a clock.
//!
//! * [`NodeId`], [`NodeKey`]: one Ed25519 key a node, its name on both planes and its signature;
//! * [`ClusterKeys`]: the proof of membership that opens both doors;
//! * [`codec`]: a version byte, a length limit before anything is allocated, a body;
//! * [`coordination`]: members and the coordinator of a digest, over libp2p;
//! * [`trade`]: neighbours of a swarm, over an ordered QUIC stream; [`topics`]: how they name a blob there;
//!   [`PieceHeader`]: the stream that carries a piece;
//! * [`Grant`], [`Segment`]: what is signed, and by whom.

mod cluster_key;
pub mod codec;
pub mod coordination;
mod grant;
mod identity;
mod piece;
mod segment;
pub mod topics;
pub mod trade;

pub use cluster_key::{ClusterKey, ClusterKeyError, ClusterKeys, Plane, Proof, Role};
pub use grant::{Epoch, Grant, SignedGrant, Visibility};
pub use identity::{Distance, NodeId, NodeKey, Signature, SignatureError};
pub use piece::PieceHeader;
pub use segment::{Authority, MAX_SEGMENT_STATES, Segment, SignedSegment, Testimony, Witness};
