//! The head of a stream that carries one piece.

use serde::{Deserialize, Serialize};

use crate::Testimony;

/// What stands before a piece's bytes on its stream, behind the number that its *receiver* has for the blob (see
/// [`topics`](crate::topics)). The bytes follow, exactly as many as the piece has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceHeader {
    /// The number of the piece.
    pub piece: u32,
    /// The fingerprint of the [`Link`](shoal_blob::Link) that the sender checked it under, so that blame falls on the right
    /// node.
    pub link: [u8; 8],
    /// The midstates that the receiver said it lacks, as their hasher signed them; one segment may have both.
    pub proof: Vec<Testimony>,
}
