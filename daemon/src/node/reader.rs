//! A range of a blob as a stream of chunks, in order, as its pieces come.

use std::{fs::File, ops::Range, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use shoal_blob::PieceSet;
use shoal_mirror::{ByteStream, Chunk, Failure, Lent, LentFile, ReadEnded, Source};
use tokio::sync::watch;

use super::{
    mailbox::Told,
    seat::Seat,
    shelf::{Shelf, Standing},
};

/// How much of the data file is lent to the mirror at a time.
const LEND: u64 = 1 << 20;
/// How much is read at a time where the store has no file to lend.
const READ: u64 = 256 << 10;
/// A reader for which nothing came, not a byte of any piece, for so long ends short: its client then goes on at the origin.
/// Long enough for a second seed where the first had nothing for 10 s.
const STALLED_AFTER: Duration = Duration::from_secs(20);

struct Reader {
    shelf: Arc<Shelf>,
    standing: watch::Receiver<Standing>,
    rest: Range<u64>,
    /// What was stored when it began; `None` for a complete blob.
    here: Option<PieceSet>,
    /// The data file, where it can be lent.
    file: Option<Arc<OnShelf>>,
    /// Tells the engine where the reader is; `None` for a complete blob, where nobody needs to know.
    place: Option<Place>,
}

/// Where the reader is in the swarm.
struct Place {
    seat: Seat,
    piece: Option<u32>,
}

/// A data file as the mirror borrows it; the blob stays in the store meanwhile.
struct OnShelf(shoal_store::Lent);

impl LentFile for OnShelf {
    fn file(&self) -> &File {
        self.0.file()
    }

    fn may_send(&self, range: Range<u64>) -> bool {
        self.0.may_read(range)
    }
}

/// Streams a range that lies within the blob. With a seat the engine learns where the reader is.
pub(super) fn read(shelf: Arc<Shelf>, range: Range<u64>, seat: Option<Seat>) -> ByteStream {
    let place = seat.map(|seat| Place { seat, piece: None });
    let file = shelf.lend().unwrap_or_else(|error| {
        tracing::debug!(digest = %shelf.digest(), %error, "a data file cannot be lent; it is read");
        None
    });
    let file = file.map(|lent| Arc::new(OnShelf(lent)));
    let here = place.is_some().then(|| shelf.blob().pieces());
    let reader = Reader { standing: shelf.watch(), shelf, rest: range, here, file, place };
    stream::try_unfold(reader, |mut reader| async move {
        match reader.next().await {
            Ok(Some(chunk)) => Ok(Some((chunk, reader))),
            Ok(None) => Ok(None),
            Err(failure) => Err(ReadEnded(failure)),
        }
    })
    .boxed()
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Chunk>, Failure> {
        let layout = *self.shelf.layout();
        let Some(piece) = layout.piece_at(self.rest.start).filter(|_| !self.rest.is_empty()) else {
            return Ok(None);
        };
        if let Some(place) = &mut self.place
            && place.piece.replace(piece.get()) != Some(piece.get())
        {
            let (digest, reader) = (*self.shelf.digest(), place.seat.id());
            place.seat.tell(Told::ReaderAt { digest, reader, piece });
        }
        while !self.shelf.may_read(piece) {
            if let Some(failure) = &self.standing.borrow_and_update().ended {
                return Err(failure.clone());
            }
            // It may have come between the look at the store and the look at the standing.
            if self.shelf.may_read(piece) {
                break;
            }
            let came = self.shelf.sources.all();
            match tokio::time::timeout(STALLED_AFTER, self.standing.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Failure::Draining),
                // A large piece over a slow link.
                Err(_) if self.shelf.sources.all() > came => {}
                Err(_) => {
                    let digest = *self.shelf.digest();
                    let failure =
                        Failure::Stalled { reason: format!("nothing of {digest} came for {STALLED_AFTER:?}") };
                    if let Some(place) = &self.place {
                        place.seat.tell(Told::Stalled { digest, failure: failure.clone() });
                    }
                    return Err(failure);
                }
            }
        }
        let step = if self.file.is_some() { LEND } else { READ };
        let end = self.rest.end.min(layout.byte_range(piece).end).min(self.rest.start + step);
        let chunk = self.chunk(self.rest.start..end).await?;
        self.rest.start = end;
        let source = self.here.as_ref().map_or(Source::Store, |here| self.shelf.source(here, piece));
        Ok(Some(chunk.from_source(source)))
    }

    /// Bytes that may be read. What has to come from the disk is waited for on a thread that may block.
    async fn chunk(&self, range: Range<u64>) -> Result<Chunk, Failure> {
        let Some(file) = self.file.clone() else {
            let blob = self.shelf.blob().clone();
            let read = tokio::task::spawn_blocking(move || blob.read_bytes(range)).await;
            return Ok(read.map_err(internal)?.map_err(internal)?.into());
        };
        if !file.0.is_in_memory(range.clone()) {
            let (file, range) = (file.clone(), range.clone());
            let brought = tokio::task::spawn_blocking(move || file.0.bring_into_memory(range)).await;
            brought.map_err(internal)?.map_err(internal)?;
        }
        Ok(Lent::new(file, range).into())
    }
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::Internal { reason: error.to_string() }
}
