//! Why the store could not do what it was asked.

use std::{fmt, io, path::PathBuf};

use shoal_blob::{Digest, PieceIndex};

use crate::IndexError;

/// Why the store could not do what it was asked. Nothing is half done: after an error a piece is simply not there.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another store in this one, has the folder.
    #[error("the store {dir:?} is in use by another process; stop it, or give this one a data directory of its own")]
    Locked {
        /// The store's folder.
        dir: PathBuf,
    },
    /// The store has been closed.
    #[error("the store {dir:?} has been closed and takes nothing more")]
    Closed {
        /// The store's folder.
        dir: PathBuf,
    },
    /// The system refused an operation on a file.
    #[error("could not {operation} {path:?}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The index could not be read or written. It is rebuilt when the store is opened the next time.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// There is no room for a blob, and not enough can go.
    #[error(transparent)]
    Full(#[from] Box<Full>),
    /// The blob is here, cut in another way than was asked for.
    #[error(
        "{digest} is here with {here} bytes in pieces of {here_pieces}; {asked} bytes in pieces of {asked_pieces} were asked for"
    )]
    OtherLayout {
        /// The blob.
        digest: Digest,
        /// Its length here, in bytes.
        here: u64,
        /// The length of its pieces here.
        here_pieces: u32,
        /// The length that was asked for.
        asked: u64,
        /// The length of pieces that was asked for.
        asked_pieces: u32,
    },
    /// The store does not have the blob, or has it no more.
    #[error("{digest} is not in the store, or has just left it")]
    Gone {
        /// The blob.
        digest: Digest,
    },
    /// The blob cannot be removed while somebody reads or downloads it.
    #[error("{digest} is being read or downloaded; try again when that has ended")]
    Held {
        /// The blob.
        digest: Digest,
    },
    /// Bytes were asked for that lie in a piece which is missing or unchecked.
    #[error("piece {piece} of {digest} is not here, or was not checked since it was doubted")]
    Missing {
        /// The blob.
        digest: Digest,
        /// The first such piece.
        piece: PieceIndex,
    },
    /// Bytes were asked for that the blob does not have, or more at once than one call gives.
    #[error("bytes {start}..{end} were asked of {digest}, which has {length}, at most {most} in one call")]
    Range {
        /// The blob.
        digest: Digest,
        /// The first byte.
        start: u64,
        /// The byte after the last.
        end: u64,
        /// The blob's length.
        length: u64,
        /// The most that one call gives.
        most: u64,
    },
    /// A piece does not fit into the blob that it was put into.
    #[error("piece {number} of {bytes} bytes does not fit {digest}: it is of another blob")]
    Foreign {
        /// The blob.
        digest: Digest,
        /// The piece's number.
        number: u32,
        /// Its length.
        bytes: usize,
    },
    /// A chain was given that is of another blob.
    #[error("a proven chain of {given} was given for {digest}")]
    OtherChain {
        /// The blob.
        digest: Digest,
        /// Whose chain it was.
        given: Box<Digest>,
    },
    /// A blob was called complete while pieces are missing or unchecked.
    #[error("{digest} cannot be complete: {missing} of its {count} pieces are missing or unchecked")]
    Incomplete {
        /// The blob.
        digest: Digest,
        /// How many pieces.
        missing: u32,
        /// Of how many.
        count: u32,
    },
    /// The sidecar of a blob may not grow further.
    #[error("the claims for {digest} would take {bytes} bytes and may take {most}; replace them by fewer")]
    TooManyClaims {
        /// The blob.
        digest: Digest,
        /// What they would take.
        bytes: u64,
        /// What they may.
        most: u64,
    },
}

/// There is no room: how much was needed, and why what is here could not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Full {
    /// How many bytes the blob needs; 0 when no blob was asked for.
    pub needed: u64,
    /// The store's capacity in bytes.
    pub capacity: u64,
    /// How much of it the blobs here have.
    pub reserved: u64,
    /// What the file system has free, in bytes.
    pub disk_free: u64,
    /// What of that the blobs here have yet to write.
    pub unwritten: u64,
    /// What must stay free.
    pub min_free: u64,
    /// The length of blobs that cannot go because they are being read or downloaded.
    pub held: u64,
    /// The length of blobs that cannot go because they are pinned.
    pub pinned: u64,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, capacity, reserved, disk_free, unwritten, min_free, held, pinned } = self;
        write!(
            f,
            "no room for {needed} bytes: {reserved} of the capacity of {capacity} are taken ({held} being read or \
             downloaded, {pinned} pinned), the disk has {disk_free} free of which {unwritten} are promised and {min_free} \
             must stay free; raise the capacity, free disk space, or unpin something"
        )
    }
}
