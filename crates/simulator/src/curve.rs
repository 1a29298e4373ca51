//! How the run went, moment by moment.

use serde::Serialize;

/// One moment of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Moment {
    /// Seconds since the beginning.
    pub seconds: f64,
    /// Nodes that have the whole blob.
    pub complete: u32,
    /// Copies of a piece: of the rarest, the median one, and the commonest.
    pub copies: [u32; 3],
}

/// The moments of a run, and how often each piece is there.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) moments: Vec<Moment>,
    pub(crate) copies: Vec<u32>,
    pub(crate) complete: u32,
    /// Pieces that came a second time.
    pub(crate) duplicates: u64,
    /// How far readers were behind the origin, in pieces.
    pub(crate) lags: Vec<u32>,
}

impl Curve {
    pub(crate) fn new(pieces: u32) -> Self {
        Self { moments: Vec::new(), copies: vec![0; pieces as usize], complete: 0, duplicates: 0, lags: Vec::new() }
    }

    pub(crate) fn sample(&mut self, seconds: f64) {
        let mut sorted = self.copies.clone();
        sorted.sort_unstable();
        let at = |part: usize| sorted.get(part * (sorted.len() - 1) / 2).copied().unwrap_or(0);
        self.moments.push(Moment { seconds, complete: self.complete, copies: [at(0), at(1), at(2)] });
    }

    /// The lag that so many of a hundred readers' moments did not exceed.
    pub(crate) fn lag(&self, percent: usize) -> u32 {
        let mut sorted = self.lags.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0)
    }
}
