//! A range of a blob as a stream of chunks, in order, as its pieces come.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use shoal_mirror::{ByteStream, Failure, ReadEnded};
use shoal_swarm::trade::ReaderId;
use tokio::sync::watch;

use super::{
    mailbox::{Mailbox, Told},
    shelf::{Shelf, Standing},
};

/// How much is read from the store at a time.
const CHUNK: u64 = 256 << 10;
/// A reader for which nothing came, of any piece, for so long ends short: its client then goes on at the origin.
const STALLED_AFTER: Duration = Duration::from_secs(30);

struct Reader {
    shelf: Arc<Shelf>,
    standing: watch::Receiver<Standing>,
    rest: Range<u64>,
    /// Tells the engine where the reader is; `None` for a complete blob, where nobody needs to know.
    place: Option<Place>,
}

/// The reader's place in the swarm; dropped, the reader is gone.
struct Place {
    id: ReaderId,
    piece: Option<u32>,
    shelf: Arc<Shelf>,
    mailbox: Mailbox,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.mailbox.tell(Told::ReaderGone { digest: *self.shelf.digest(), reader: self.id });
    }
}

/// Streams a range that lies within the blob. With a mailbox the engine learns where the reader is.
pub(super) fn read(shelf: Arc<Shelf>, range: Range<u64>, mailbox: Option<(ReaderId, Mailbox)>) -> ByteStream {
    let place = mailbox.map(|(id, mailbox)| Place { id, piece: None, shelf: shelf.clone(), mailbox });
    let reader = Reader { standing: shelf.watch(), shelf, rest: range, place };
    stream::try_unfold(reader, |mut reader| async move {
        match reader.next().await {
            Ok(Some(bytes)) => Ok(Some((bytes, reader))),
            Ok(None) => Ok(None),
            Err(failure) => Err(ReadEnded(failure)),
        }
    })
    .boxed()
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let layout = *self.shelf.layout();
        let Some(piece) = layout.piece_at(self.rest.start).filter(|_| !self.rest.is_empty()) else {
            return Ok(None);
        };
        if let Some(place) = &mut self.place
            && place.piece.replace(piece.get()) != Some(piece.get())
        {
            place.mailbox.tell(Told::ReaderAt { digest: *self.shelf.digest(), reader: place.id, piece });
        }
        while !self.shelf.may_read(piece) {
            if let Some(failure) = &self.standing.borrow_and_update().ended {
                return Err(failure.clone());
            }
            // It may have come between the look at the store and the look at the standing.
            if self.shelf.may_read(piece) {
                break;
            }
            match tokio::time::timeout(STALLED_AFTER, self.standing.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Failure::Draining),
                Err(_) => {
                    let reason = format!("no piece of {} came for {STALLED_AFTER:?}", self.shelf.digest());
                    return Err(Failure::Stalled { reason });
                }
            }
        }
        let end = self.rest.end.min(layout.byte_range(piece).end).min(self.rest.start + CHUNK);
        let (blob, range) = (self.shelf.blob().clone(), self.rest.start..end);
        let read = tokio::task::spawn_blocking(move || blob.read_bytes(range)).await;
        let bytes = read.map_err(internal)?.map_err(internal)?;
        self.rest.start = end;
        Ok(Some(bytes))
    }
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::Internal { reason: error.to_string() }
}
