//! Pieces from the origin, in few requests, over as many connections as it takes and not more.
//!
//! Pieces that are wanted one after the other and lie one after the other are fetched by one GET: a *run*. One connection
//! works first, so that the first piece has all of the bandwidth and leaves early; another one is opened when the runs
//! under way are about to end, or when they prove slow and all together bring more with it.

use std::{
    collections::VecDeque,
    ops::Range,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use shoal_blob::{Digest, Repository};

use crate::{
    breadth::Breadth,
    origins::Origins,
    run::{Run, RunEvent, Step, Wanted, cut},
    run_settings::RunSettings,
};

/// How often slowness is looked at while nothing else happens.
const TICK: Duration = Duration::from_millis(50);

/// Fetches wanted pieces of one blob.
///
/// Drive it so: [`want`](Self::want) pieces, the most urgent first, and take from [`next`](Self::next) until it gives `None`,
/// in a `select!` with whatever brings new wants. It has no task of its own: nothing is read from the network but inside
/// `next`, which is cancel-safe, so a caller that does not take holds everything back. Dropping it closes its connections.
///
/// Invariant: `active` is ordered by offset, its runs do not overlap, and what is asked for and not handed out is within
/// [`RunSettings::in_flight`] unless it is one piece.
#[derive(Debug)]
pub struct Runs {
    origins: Origins,
    repository: Repository,
    digest: Digest,
    total: u64,
    settings: RunSettings,
    queue: VecDeque<Wanted>,
    active: Vec<Run>,
    ready: VecDeque<RunEvent>,
    /// Whether callers have had a chance to queue what follows the last want.
    settled: bool,
    /// Time spent waiting for the network.
    waited: Duration,
    /// Bytes that all connections have brought.
    received: u64,
    breadth: Breadth,
}

impl Runs {
    /// Prepares for fetching pieces of a blob of `total` bytes. Asks for nothing yet. The registry is looked up for each run, so
    /// a reload of the configuration takes hold with the next.
    #[must_use]
    pub fn new(origins: Origins, repository: Repository, digest: Digest, total: u64, settings: RunSettings) -> Self {
        Self {
            origins,
            repository,
            digest,
            total,
            settings,
            queue: VecDeque::new(),
            active: Vec::new(),
            ready: VecDeque::new(),
            settled: false,
            waited: Duration::ZERO,
            received: 0,
            breadth: Breadth::new(),
        }
    }

    /// Wants a piece: `range` are its bytes in the blob. Queued behind those that were wanted before; one that is wanted already
    /// is not wanted twice. The caller bounds how many are wanted at once.
    pub fn want(&mut self, piece: u32, range: Range<u64>) {
        if self.wants(piece) {
            return;
        }
        if range.is_empty() {
            self.ready.push_back(RunEvent::Done { piece });
            return;
        }
        self.settled = false;
        self.queue.push_back(Wanted { piece, range });
    }

    /// Whether a piece is wanted and not done.
    #[must_use]
    pub fn wants(&self, piece: u32) -> bool {
        let mut under_way = self.active.iter().flat_map(|run| &run.pieces);
        self.queue.iter().any(|wanted| wanted.piece == piece) || under_way.any(|wanted| wanted.piece == piece)
    }

    /// Wants a piece no more: no event of it comes from now on. A run is closed when none of its pieces is wanted; bytes of a
    /// piece in the midst of one are read and dropped, if there are wanted ones behind them.
    pub fn cancel(&mut self, piece: u32) {
        self.queue.retain(|wanted| wanted.piece != piece);
        self.ready.retain(|event| event.piece() != piece);
        for run in &mut self.active {
            run.pieces.retain(|wanted| wanted.piece != piece);
            run.end = run.pieces.back().map_or(run.at, |last| last.range.end);
        }
        self.active.retain(|run| !run.pieces.is_empty());
    }

    /// Bytes that are asked for and not handed out.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.active.iter().map(|run| run.end - run.at).sum()
    }

    /// Connections in use.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.active.len()
    }

    /// Whether nothing is wanted and nothing is left to hand out.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.active.is_empty() && self.ready.is_empty()
    }

    /// The next event; `None` when nothing is wanted. Cancel-safe.
    pub async fn next(&mut self) -> Option<RunEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if !self.settled {
                // Wants come one by one: let the caller queue the neighbours before a run is cut.
                tokio::task::yield_now().await;
                self.settled = true;
            }
            self.open_runs();
            if self.active.is_empty() {
                return None;
            }
            let waiting = Waiting { since: Instant::now(), total: &mut self.waited };
            let active = &mut self.active;
            let step = std::future::poll_fn(|context| poll_lowest(active, context));
            let outcome = tokio::time::timeout(TICK, step).await;
            drop(waiting);
            if let Ok((index, step)) = outcome {
                self.apply(index, step);
            }
        }
    }

    /// Opens runs while there is reason and room.
    fn open_runs(&mut self) {
        while let Some(first) = self.queue.front() {
            let most = self.settings.in_flight.max(1);
            let room = most.saturating_sub(self.in_flight());
            let fits = self.active.is_empty() || first.range.end - first.range.start <= room;
            if !fits || !self.has_reason() {
                return;
            }
            // Several connections get a share each, and one that is only tried no more than a piece.
            let share = most / self.breadth.connections() as u64;
            let longest = if self.breadth.is_trial() { 1 } else { share.min(self.settings.run_bytes) };
            let pieces = cut(&mut self.queue, longest.min(room));
            self.begin(pieces);
        }
    }

    fn has_reason(&mut self) -> bool {
        if self.active.is_empty() {
            return true;
        }
        let most = self.settings.connections.max(1);
        if self.active.len() >= most {
            return false;
        }
        if self.in_flight() < self.settings.overlap {
            return true;
        }
        self.breadth.judge(self.waited, self.received, self.settings.watch);
        // One that brings half of what the limit lets through is not slow: more of them would share the same.
        let fast = self.origins.limit().map_or(u64::MAX, |limit| limit.bytes() / 2);
        let settings = RunSettings { slow: self.settings.slow.min(fast), ..self.settings };
        if self.active.iter().all(|run| run.is_slow(self.waited, &settings)) {
            let rate = self.active.iter().map(|run| run.rate(self.waited)).sum();
            self.breadth.slow(self.waited, self.received, rate);
        }
        self.active.len() < self.breadth.connections().min(most)
    }

    fn begin(&mut self, pieces: VecDeque<Wanted>) {
        let (Some(first), Some(last)) = (pieces.front(), pieces.back()) else { return };
        let range = first.range.start..last.range.end;
        let (origins, repository, digest, total) =
            (self.origins.clone(), self.repository.clone(), self.digest, self.total);
        let asked = range.clone();
        let step = Box::pin(async move { Ok((origins.open(&repository, &digest, asked, Some(total)).await?, None)) });
        let run = Run { pieces, at: range.start, end: range.end, received: 0, since: self.waited, step };
        let place = self.active.partition_point(|other| other.at < run.at);
        self.active.insert(place, run);
    }

    fn apply(&mut self, index: usize, step: Step) {
        let run = &mut self.active[index];
        let (mut stream, bytes) = match step {
            Ok(came) => came,
            Err(error) => {
                let failed = self.active.remove(index).pieces;
                self.ready.extend(
                    failed.into_iter().map(|Wanted { piece, .. }| RunEvent::Failed { piece, error: error.clone() }),
                );
                return;
            }
        };
        if let Some(bytes) = bytes {
            self.received += bytes.len() as u64;
            run.deliver(bytes, &mut self.ready);
        }
        if run.pieces.is_empty() {
            self.active.remove(index);
        } else {
            run.step = Box::pin(async move {
                let bytes = stream.chunk().await?;
                Ok((stream, bytes))
            });
        }
    }
}

/// Adds the time until it is dropped, also when the wait was given up.
struct Waiting<'a> {
    since: Instant,
    total: &'a mut Duration,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *self.total += self.since.elapsed();
    }
}

/// The run with the lowest offset that has something.
fn poll_lowest(active: &mut [Run], context: &mut Context<'_>) -> Poll<(usize, Step)> {
    for (index, run) in active.iter_mut().enumerate() {
        if let Poll::Ready(step) = run.step.as_mut().poll(context) {
            return Poll::Ready((index, step));
        }
    }
    Poll::Pending
}
