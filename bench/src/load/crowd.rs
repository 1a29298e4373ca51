//! Many clients at once, each of which asks for one range after another until the time is over.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use shoal_registry::{Blob, Noise};

use super::client::{Client, Ends, KEPT};

/// The shortest and the longest range.
const LEAST: u64 = 64 << 10;
const MOST: u64 = 4 << 20;

/// What a server offers: a path for each of the layers.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) server: SocketAddr,
    pub(super) paths: Vec<String>,
}

/// What became of a crowd.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) bytes: u64,
    pub(super) time: Duration,
    /// How long each request took, to the end of its body.
    pub(super) latencies: Vec<Duration>,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.time += other.time;
        self.latencies.extend(other.latencies);
    }

    pub(super) fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64()
    }

    /// The latency that this part of the requests, of one, did not exceed.
    pub(super) fn quantile(&mut self, part: f64) -> Duration {
        self.latencies.sort_unstable();
        let at = (self.latencies.len() as f64 * part).ceil() as usize;
        self.latencies.get(at.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// Has `clients` of them read ranges of the layers for so long. Blocks.
///
/// # Errors
/// When a single answer is not what was asked for.
pub(super) fn load(offer: &Offer, layers: &[Blob], clients: u64, seed: u64, time: Duration) -> anyhow::Result<Tally> {
    let begun = Instant::now();
    let outcomes: Vec<anyhow::Result<Tally>> = thread::scope(|scope| {
        let work = |number| move || one(offer, layers, seed ^ (number << 32), begun + time);
        let threads: Vec<_> = (0..clients).map(|number| scope.spawn(work(number))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let mut all = Tally::default();
    for outcome in outcomes {
        all.add(outcome?);
    }
    all.time = begun.elapsed();
    Ok(all)
}

fn one(offer: &Offer, layers: &[Blob], seed: u64, until: Instant) -> anyhow::Result<Tally> {
    let mut client = Client::connect(offer.server)?;
    let (noise, mut drawn) = (Noise::new(seed), 0);
    let mut draw = |below: u64| {
        drawn += 1;
        noise.word(drawn) % below.max(1)
    };
    let mut tally = Tally::default();
    while Instant::now() < until {
        let which = usize::try_from(draw(layers.len() as u64))?;
        let (layer, path) = (&layers[which], &offer.paths[which]);
        let length = (LEAST + draw(MOST - LEAST)).min(layer.len());
        let from = draw(layer.len() - length + 1);
        let asked = Instant::now();
        let ends = client.read(path, from, length);
        let ends = ends.with_context(|| format!("{length} bytes from {from} of {path}, at {}", offer.server))?;
        tally.latencies.push(asked.elapsed());
        tally.bytes += length;
        let right = Ends {
            first: layer.read(from, KEPT).to_vec(),
            last: layer.read(from + length - KEPT as u64, KEPT).to_vec(),
        };
        anyhow::ensure!(ends == right, "wrong bytes: {length} from {from} of {path}, at {}", offer.server);
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_latency_that_occurred() {
        let ms = Duration::from_millis;
        let mut tally = Tally { latencies: (1..=200).rev().map(ms).collect(), ..Tally::default() };
        assert_eq!((tally.quantile(0.5), tally.quantile(0.99), tally.quantile(1.0)), (ms(100), ms(198), ms(200)));
        assert_eq!(Tally::default().quantile(0.99), Duration::ZERO);
    }
}
