//! Pieces that lie in a file and are not trusted, hashed again.

use std::{collections::BTreeSet, io};

use parking_lot::Mutex;
use shoal_blob::{ClaimedChain, PieceIndex, PieceSet, recheck};

use crate::{Blob, StoreError};

/// So many pieces are checked before they become readable together.
const AT_ONCE: usize = 256;

/// What checking a blob's unchecked pieces found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rechecked {
    /// The pieces that are right: readable now, their links closed in the chain.
    pub verified: PieceSet,
    /// The pieces that are wrong or unreadable, or whose link the chain does not know: no longer here.
    pub dropped: PieceSet,
}

impl Blob {
    /// Checks every unchecked piece against the chain, on `threads` threads that each have one piece in memory. Those that are
    /// right become readable, a few hundred at a time, and their links are closed; the others are dropped. Pieces may be put
    /// and read meanwhile. Blocks as long as hashing what is there takes: about a second for each 1.5 GB and thread.
    ///
    /// # Errors
    /// [`StoreError::OtherChain`], [`StoreError::Gone`], [`StoreError::Closed`], [`StoreError::Io`] when the file does not
    /// open. A piece that cannot be read is dropped.
    pub fn recheck(&self, chain: &mut ClaimedChain, threads: usize) -> Result<Rechecked, StoreError> {
        if chain.digest() != self.digest() || chain.layout() != self.layout() {
            return Err(StoreError::OtherChain { digest: *self.digest(), given: Box::new(*chain.digest()) });
        }
        let none = PieceSet::none_of(self.layout());
        let mut outcome = Rechecked { verified: none.clone(), dropped: none };
        let pieces: Vec<_> = self.unchecked().iter().filter_map(|number| self.layout().piece(number)).collect();
        if pieces.is_empty() {
            return Ok(outcome);
        }
        self.with_data("open", |file| {
            // What is checked has to be what the disk has, or a later loss of power takes what was found right.
            file.forget_memory().unwrap_or_else(
                |error| tracing::debug!(digest = %self.digest(), %error, "memory is read instead of the disk"),
            );
            Ok(())
        })?;
        for some in pieces.chunks(AT_ONCE) {
            let right = self.check(chain, some, threads);
            let _open = self.place.enter()?;
            let mut holdings = self.holdings.lock();
            for (&piece, right) in some.iter().zip(right) {
                let set = if holdings.checked(piece, right) { &mut outcome.verified } else { &mut outcome.dropped };
                set.insert(piece.get());
            }
            // Whoever put a piece while it was being checked has verified it.
            for piece in some.iter().filter(|&&piece| holdings.readable().has(piece)) {
                outcome.dropped.remove(piece.get());
            }
        }
        let (verified, dropped) = (outcome.verified.held(), outcome.dropped.held());
        tracing::info!(digest = %self.digest(), verified, dropped, "checked pieces again");
        self.write_record()?;
        Ok(outcome)
    }

    /// Says of each piece whether it is right.
    fn check(&self, chain: &mut ClaimedChain, pieces: &[PieceIndex], threads: usize) -> Vec<bool> {
        let unreadable = Mutex::new(BTreeSet::new());
        let read = |piece: PieceIndex, out: &mut [u8]| -> io::Result<()> {
            let offset = self.layout().offset(piece);
            self.with_data("read", |file| file.read_exact_at(out, offset)).map_err(|error| {
                tracing::warn!(digest = %self.digest(), %piece, %error, "a piece could not be read back");
                unreadable.lock().insert(piece);
                io::Error::other(error)
            })
        };
        let mut rest: Vec<PieceIndex> = pieces.to_vec();
        // Checking ends at the first piece that cannot be read: each round leaves out at least one more.
        let refuted: BTreeSet<PieceIndex> = loop {
            match recheck(chain, &rest, threads, read) {
                Ok(refuted) => break refuted.into_iter().map(|(piece, _)| piece).collect(),
                Err(_) => rest.retain(|piece| !unreadable.lock().contains(piece)),
            }
        };
        let unreadable = unreadable.into_inner();
        pieces.iter().map(|piece| !refuted.contains(piece) && !unreadable.contains(piece)).collect()
    }
}
