//! A blob's bytes on their way to one client: generated, paced, held back, cut, and counted.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::watch;

use crate::{
    Blob,
    answer::Body,
    faults::{Cut, Mischief},
    ledger::{Account, Ledger},
    pacer::Pacer,
    severed::Severed,
    wire::Ending,
};

/// The most bytes that are handed over at a time.
const CHUNK_BYTES: u64 = 128 * 1024;

/// A body being sent.
///
/// Invariant: each byte is entered in the books right before it is handed over, with no wait in between, so a body that is
/// dropped has counted exactly what it handed over.
pub(crate) struct Sending {
    blob: Blob,
    left: Range<u64>,
    cut: Option<Cut>,
    delay: Duration,
    pacer: Option<Pacer>,
    buffer: BytesMut,
    mischief: watch::Receiver<Arc<Mischief>>,
    ending: Arc<Ending>,
    books: Books,
}

struct Books {
    ledger: Arc<Ledger>,
    account: Arc<Account>,
    whole: bool,
}

impl Sending {
    /// The body for a range of a blob; how it ends is decided here.
    pub(crate) fn new(
        blob: Blob,
        range: Range<u64>,
        mischief: watch::Receiver<Arc<Mischief>>,
        ending: Arc<Ending>,
        ledger: Arc<Ledger>,
        account: Arc<Account>,
    ) -> Self {
        account.bodies.up();
        ledger.tell();
        let (cut, delay, pacer) = {
            let mischief = mischief.borrow();
            (mischief.next_cut(range.end - range.start), mischief.first_byte_delay(), mischief.own_pacer())
        };
        let books = Books { ledger, account, whole: range.is_empty() };
        let cut = cut.map(|cut| Cut { after: range.start + cut.after, ..cut });
        Self { blob, left: range, cut, delay, pacer, buffer: BytesMut::new(), mischief, ending, books }
    }

    /// The body as the HTTP server takes it.
    pub(crate) fn into_body(self) -> Body {
        let frames = stream::unfold(self, |mut sending| async move {
            let chunk = sending.next().await?;
            Some((chunk.map(Frame::data), sending))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    async fn next(&mut self) -> Option<Result<Bytes, Severed>> {
        if !self.delay.is_zero() {
            tokio::time::sleep(std::mem::take(&mut self.delay)).await;
        }
        loop {
            let end = self.cut.map_or(self.left.end, |cut| cut.after);
            let wanted = end.saturating_sub(self.left.start).min(CHUNK_BYTES);
            if wanted == 0 {
                return self.end().await;
            }
            let room = self.books.account.gate_open().await;
            let mischief = Arc::clone(&self.mischief.borrow());
            let mut wanted = wanted.min(room);
            for pacer in [&mischief.pacer, &self.pacer].into_iter().flatten() {
                wanted = wanted.min(pacer.step());
                pacer.pay(wanted).await;
            }
            // Another body of the same blob may have used the room in the meantime.
            let allowed = self.books.account.enter(wanted);
            if allowed > 0 {
                return Some(Ok(self.take(allowed, &mischief)));
            }
        }
    }

    fn take(&mut self, bytes: u64, mischief: &Mischief) -> Bytes {
        let range = self.left.start..self.left.start + bytes;
        let mut chunk = self.blob.read_with(range.start, bytes as usize, &mut self.buffer);
        let wrong: Vec<u64> = mischief.wrong_bytes(&self.blob.digest(), &range).collect();
        if !wrong.is_empty() {
            let mut spoilt = chunk.to_vec();
            for at in wrong {
                spoilt[(at - range.start) as usize] ^= 0xff;
            }
            chunk = spoilt.into();
        }
        self.left.start = range.end;
        self.books.account.gave(range);
        self.books.whole = self.left.is_empty();
        self.books.ledger.tell();
        chunk
    }

    async fn end(&mut self) -> Option<Result<Bytes, Severed>> {
        let cut = self.cut?;
        self.ending.flushed().await;
        if cut.reset {
            self.ending.reset();
        }
        Some(Err(Severed { digest: self.blob.digest(), at: self.left.start }))
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        if !self.whole {
            self.account.bodies_cut.add();
        }
        self.account.bodies.down();
        self.ledger.tell();
    }
}
