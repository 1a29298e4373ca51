//! Words before pieces, also where the peer's window is full.
//!
//! What opens of a window goes to whoever writes first, whatever the priorities of their streams: a piece always has more to
//! write, and a word would have to be lucky. A peer with a limit has its window full all the time.

use std::{pin::pin, slice, task::Poll};

use bytes::Bytes;
use quinn::{SendStream, WriteError};
use tokio::sync::watch;

/// Whether a word waits to be written.
#[derive(Debug)]
pub(crate) struct Precedence(watch::Sender<bool>);

impl Default for Precedence {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

/// Says that the word waits no more, also when it was given up.
struct Said<'a>(&'a Precedence);

impl Drop for Said<'_> {
    fn drop(&mut self) {
        self.0.0.send_replace(false);
    }
}

impl Precedence {
    /// Writes a word.
    pub(crate) async fn word(&self, stream: &mut SendStream, bytes: Bytes) -> Result<(), WriteError> {
        let mut writing = pin!(stream.write_chunk(bytes));
        // As long as there is room nobody has to be told.
        if let Poll::Ready(written) = futures::poll!(&mut writing) {
            return written;
        }
        self.0.send_replace(true);
        let _said = Said(self);
        writing.await
    }

    /// Writes a part of a piece, while no word waits. Not cancel-safe: a part of it may have been written.
    pub(crate) async fn piece(&self, stream: &mut SendStream, mut bytes: Bytes) -> Result<(), WriteError> {
        let mut waits = self.0.subscribe();
        while !bytes.is_empty() {
            // The sender is here, so neither wait can fail.
            let _ = waits.wait_for(|waits| !waits).await;
            tokio::select! {
                biased;
                _ = waits.wait_for(|waits| *waits) => {}
                written = stream.write_chunks(slice::from_mut(&mut bytes)) => {
                    written?;
                }
            }
        }
        Ok(())
    }
}
