//! What is moved: blobs, how they are cut, and how each piece of one is proven.
//!
//! This crate is pure: no clock, no files, no network, no runtime. It has the words that every other room uses:
//!
//! * [`Digest`]: the name of a blob, as OCI writes it;
//! * [`Repository`], [`Reference`]: where a registry keeps it;
//! * [`Layout`], [`PieceIndex`]: how a blob of a length is cut into pieces;
//! * [`PieceSet`]: which pieces somebody has;
//! * [`Midstate`], [`Link`]: the hash states at piece boundaries, and the step between two of them;
//! * [`ClaimedChain`], [`ProvenChain`]: a list of midstates before and after every link has been closed;
//! * [`PieceBuffer`], [`VerifiedPiece`]: bytes before and after they have been checked against a link;
//! * [`recheck`]: many pieces at rest, checked on several cores.

mod buffer;
mod chain;
mod digest;
mod layout;
mod midstate;
mod name;
mod piece_set;
mod recheck;
mod spares;

pub use buffer::{Overlong, PieceBuffer, Refuted, VerifiedPiece};
pub use chain::{ClaimedChain, Conflict, ProvenChain};
pub use digest::{Algorithm, Digest, DigestError};
pub use layout::{Layout, LayoutError, MAX_PIECE_BYTES, MIN_PIECE_BYTES, PieceIndex};
pub use midstate::{Link, Midstate};
pub use name::{NameError, Reference, Repository};
pub use piece_set::PieceSet;
pub use recheck::recheck;
pub use spares::Spares;
