//! One piece from a neighbour: read, hashed while it comes, stored.

use std::sync::Arc;

use shoal_blob::{Link, PieceBuffer, PieceIndex};
use shoal_store::Blob;
use shoal_swarm::trade::{Fault, Source};
use shoal_transfer::{IncomingPiece, Refusal};

use super::{
    mailbox::{Mailbox, Told},
    shelf::Shelf,
};

/// Takes the piece that this stream carries, checks it against the link that is known here, and puts it into the store.
pub(super) async fn receive(
    incoming: IncomingPiece,
    shelf: Arc<Shelf>,
    piece: PieceIndex,
    link: Link,
    mailbox: Mailbox,
) {
    let from = Source::Neighbour(incoming.from());
    let digest = *shelf.digest();
    if incoming.header().link != link.fingerprint() {
        // It was checked there under other midstates than ours: nobody can say yet who is right.
        incoming.refuse(Refusal::NoMidstates);
        mailbox.tell(Told::Missed { digest, piece, from, fault: Fault::Broken });
        return;
    }
    let layout = *shelf.layout();
    let mut stream = incoming.accept(u64::from(layout.piece_len(piece)));
    let mut buffer = PieceBuffer::hashing_from(layout, piece, link.from).reusing(&shelf.spares);
    let fault = loop {
        match stream.read_chunk().await {
            Ok(Some(bytes)) if buffer.push(&bytes).is_ok() => shelf.sources.add(from, bytes.len() as u64),
            Ok(Some(_)) => break Some(Fault::WrongBytes),
            Ok(None) => break None,
            Err(error) => {
                tracing::debug!(%digest, %piece, ?from, %error, "a piece did not come whole");
                break Some(Fault::Broken);
            }
        }
    };
    let verified = match fault {
        None => buffer.verify(link).map_err(|refuted| {
            tracing::warn!(%digest, %piece, ?from, %refuted, "a peer sent wrong bytes");
            Fault::WrongBytes
        }),
        Some(fault) => Err(fault),
    };
    let told = match verified {
        Ok(verified) => store(&shelf, verified, from),
        Err(fault) => Told::Missed { digest, piece, from, fault },
    };
    mailbox.tell(told);
}

/// Puts a verified piece into the store.
pub(super) fn store(shelf: &Shelf, verified: shoal_blob::VerifiedPiece, from: Source) -> Told {
    let digest = *shelf.digest();
    shelf.comes(verified.index(), from);
    match tokio::task::block_in_place(|| shelf.blob().put(&verified)) {
        Ok(()) => {
            sync_if_due(shelf.blob());
            Told::Stored { digest, piece: verified, from }
        }
        Err(error) => Told::NoRoom { digest, piece: verified.index(), from, error },
    }
}

/// The disk works on while pieces come, and not only once all have.
fn sync_if_due(blob: &Arc<Blob>) {
    if !blob.is_sync_due() {
        return;
    }
    let blob = blob.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = blob.sync_ahead() {
            tracing::warn!(digest = %blob.digest(), %error, "pieces could not be synced; that is tried again at the end");
        }
    });
}
