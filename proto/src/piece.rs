//! The head of a stream that carries one piece.

use serde::{Deserialize, Serialize};
use shoal_blob::Digest;

use crate::Testimony;

/// What stands before a piece's bytes on its stream. The bytes follow, exactly as many as the piece has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceHeader {
    /// The blob.
    pub digest: Digest,
    /// The number of the piece.
    pub piece: u32,
    /// The slot it is sent for.
    pub slot: u32,
    /// The midstates that the sender checked it under, so that blame falls on the right node.
    pub from: [u8; 8],
    /// The first bytes of the midstate behind it.
    pub to: [u8; 8],
    /// The midstates that the receiver said it lacks, as their hasher signed them; one segment may have both.
    pub proof: Vec<Testimony>,
}
