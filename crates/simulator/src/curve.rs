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
    /// Pieces that came a second time.
    pub(crate) duplicates: u64,
    /// How often readers were so many pieces behind the origin.
    lags: Vec<u64>,
}

impl Curve {
    pub(crate) fn new(pieces: u32) -> Self {
        Self { moments: Vec::new(), copies: vec![0; pieces as usize], duplicates: 0, lags: Vec::new() }
    }

    pub(crate) fn sample(&mut self, seconds: f64, complete: u32) {
        let mut sorted = self.copies.clone();
        sorted.sort_unstable();
        let at = |part: usize| sorted.get(part * (sorted.len() - 1) / 2).copied().unwrap_or(0);
        self.moments.push(Moment { seconds, complete, copies: [at(0), at(1), at(2)] });
    }

    /// A reader has moved on, so many pieces behind the origin.
    pub(crate) fn lagged(&mut self, pieces: u32) {
        let place = pieces as usize;
        if self.lags.len() <= place {
            self.lags.resize(place + 1, 0);
        }
        self.lags[place] += 1;
    }

    /// The lag that so many of a hundred readers' moments did not exceed.
    pub(crate) fn lag(&self, percent: u64) -> u32 {
        let count: u64 = self.lags.iter().sum();
        let mut before = count.saturating_sub(1) * percent / 100;
        let found = self.lags.iter().position(|&times| {
            let here = before < times;
            before = before.saturating_sub(times);
            here
        });
        found.unwrap_or(0) as u32
    }
}
