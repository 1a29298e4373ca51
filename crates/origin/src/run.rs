//! One run: pieces that follow one another, fetched by one GET, and what comes of them.

use std::{collections::VecDeque, fmt, future::Future, ops::Range, pin::Pin, time::Duration};

use bytes::Bytes;

use crate::{error::OriginError, run_settings::RunSettings, stream::BlobStream};

/// What comes of wanted pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEvent {
    /// The next bytes of a piece, in order within the piece; those of several pieces may be interleaved.
    Chunk {
        /// The caller's name for the piece.
        piece: u32,
        /// Some of its bytes, never none.
        bytes: Bytes,
    },
    /// All bytes of the piece have been handed out.
    Done {
        /// The piece.
        piece: u32,
    },
    /// The rest of the piece will not come. It is forgotten, and may be wanted again.
    Failed {
        /// The piece.
        piece: u32,
        /// Why.
        error: OriginError,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) piece: u32,
    pub(crate) range: Range<u64>,
}

pub(crate) struct Run {
    pub(crate) pieces: VecDeque<Wanted>,
    /// The blob's offset of the next byte.
    pub(crate) at: u64,
    pub(crate) end: u64,
    pub(crate) received: u64,
    /// [`Runs::waited`] when it began.
    pub(crate) since: Duration,
    pub(crate) step: Pin<Box<dyn Future<Output = Step> + Send>>,
}

/// What one wait for a run brings; the stream comes back with it.
pub(crate) type Step = Result<(BlobStream, Option<Bytes>), OriginError>;

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("pieces", &self.pieces).field("at", &self.at).field("end", &self.end).finish()
    }
}

impl Run {
    /// Hands bytes out to the pieces they belong to; those of pieces that are not wanted any more are dropped.
    pub(crate) fn deliver(&mut self, mut bytes: Bytes, ready: &mut VecDeque<RunEvent>) {
        self.received += bytes.len() as u64;
        while !bytes.is_empty() {
            let Some(Wanted { piece, range }) = self.pieces.front().cloned() else { return };
            let skipped = range.start.saturating_sub(self.at).min(bytes.len() as u64);
            let _ = bytes.split_to(usize::try_from(skipped).unwrap_or(bytes.len()));
            self.at += skipped;
            let part = (range.end - self.at).min(bytes.len() as u64);
            let part = bytes.split_to(usize::try_from(part).unwrap_or(bytes.len()));
            self.at += part.len() as u64;
            if !part.is_empty() {
                ready.push_back(RunEvent::Chunk { piece, bytes: part });
            }
            if self.at == range.end {
                self.pieces.pop_front();
                ready.push_back(RunEvent::Done { piece });
            }
        }
    }

    /// Bytes a second of waiting.
    pub(crate) fn rate(&self, waited: Duration) -> f64 {
        self.received as f64 / waited.saturating_sub(self.since).as_secs_f64().max(1e-3)
    }

    pub(crate) fn is_slow(&self, waited: Duration, settings: &RunSettings) -> bool {
        waited.saturating_sub(self.since) >= settings.watch && self.rate(waited) < settings.slow as f64
    }
}

impl RunEvent {
    /// The piece it is about.
    #[must_use]
    pub const fn piece(&self) -> u32 {
        match self {
            Self::Chunk { piece, .. } | Self::Done { piece } | Self::Failed { piece, .. } => *piece,
        }
    }
}

/// Takes the pieces at the front of the queue that follow one another, `longest` bytes of them at most, but one at least.
pub(crate) fn cut(queue: &mut VecDeque<Wanted>, longest: u64) -> VecDeque<Wanted> {
    let mut pieces: VecDeque<Wanted> = queue.pop_front().into_iter().collect();
    while let (Some(first), Some(last), Some(next)) = (pieces.front(), pieces.back(), queue.front()) {
        if next.range.start != last.range.end || next.range.end - first.range.start > longest {
            break;
        }
        pieces.extend(queue.pop_front());
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted(piece: u32, range: Range<u64>) -> Wanted {
        Wanted { piece, range }
    }

    #[test]
    fn neighbours_are_cut_into_one_run() {
        let mut queue: VecDeque<_> =
            [wanted(0, 0..4), wanted(1, 4..8), wanted(2, 8..12), wanted(5, 20..24)].into_iter().collect();
        assert_eq!(cut(&mut queue, 8), [wanted(0, 0..4), wanted(1, 4..8)]);
        assert_eq!(cut(&mut queue, 8), [wanted(2, 8..12)]);
        assert_eq!(cut(&mut queue, 1), [wanted(5, 20..24)]);
        assert!(cut(&mut queue, 8).is_empty());
    }

    proptest! {
        #[test]
        fn bytes_reach_the_pieces_they_belong_to(
            lengths in prop::collection::vec(1u64..20, 1..12), cancelled in any::<u16>(), chunk in 1usize..30,
        ) {
            let data: Vec<u8> = (0..lengths.iter().sum::<u64>()).map(|i| i as u8).collect();
            let mut at = 0;
            let mut pieces = VecDeque::new();
            for (piece, length) in (0u32..).zip(&lengths) {
                if cancelled >> piece & 1 == 0 {
                    pieces.push_back(wanted(piece, at..at + length));
                }
                at += length;
            }
            let expected: Vec<_> = pieces.iter().cloned().collect();
            let mut run = Run {
                pieces, at: 0, end: at, received: 0, since: Duration::ZERO, step: Box::pin(std::future::pending()),
            };
            let mut ready = VecDeque::new();
            for part in data.chunks(chunk) {
                run.deliver(Bytes::copy_from_slice(part), &mut ready);
            }
            for Wanted { piece, range } in expected {
                let mut got = Vec::new();
                let mut done = 0;
                for event in ready.iter().filter(|event| event.piece() == piece) {
                    match event {
                        RunEvent::Chunk { bytes, .. } => { prop_assert_eq!(done, 0); got.extend_from_slice(bytes); }
                        RunEvent::Done { .. } => done += 1,
                        RunEvent::Failed { .. } => unreachable!(),
                    }
                }
                prop_assert_eq!(&got[..], &data[range.start as usize..range.end as usize]);
                prop_assert_eq!(done, 1);
            }
        }
    }
}
