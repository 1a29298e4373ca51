//! Many clients at once, on all nodes, each of which reads one thing after the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Serialize;
use shoal_blob::Digest;
use shoal_registry::Blob;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{client, stock::Stock};

/// One read in so many is of a part.
const PARTS: u32 = 6;
/// One read in so many is given up somewhere.
const GIVEN_UP: u32 = 8;
/// A client that gives up does so within this time.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Clients at work.
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    working: JoinSet<Pulled>,
    failures: tokio::sync::Mutex<mpsc::UnboundedReceiver<anyhow::Error>>,
}

/// What all clients together have met.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Pulled {
    pub(super) whole: u64,
    pub(super) parts: u64,
    pub(super) given_up: u64,
    pub(super) bytes: u64,
    pub(super) broken: u64,
    pub(super) errors: u64,
}

impl Clients {
    pub(super) fn begin(
        seed: u64,
        each: usize,
        nodes: usize,
        stock: &Stock,
        url: impl Fn(usize, &Digest) -> String,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (fail, failures) = mpsc::unbounded_channel();
        let mut working = JoinSet::new();
        for client in 0..nodes * each {
            let node = client % nodes;
            let shelf: Vec<(String, Blob)> =
                stock.blobs().iter().map(|blob| (url(node, &blob.digest()), blob.clone())).collect();
            let (stop, fail) = (Arc::clone(&stop), fail.clone());
            let mut rng = StdRng::seed_from_u64(seed ^ ((client as u64 + 1) << 32));
            working.spawn(async move {
                let mut pulled = Pulled::default();
                while !stop.load(Relaxed) {
                    if let Err(error) = one(&mut rng, &shelf, &mut pulled).await {
                        let _ = fail.send(error);
                        break;
                    }
                }
                pulled
            });
        }
        Self { stop, working, failures: tokio::sync::Mutex::new(failures) }
    }

    /// Returns when a client has got something wrong, or nothing for too long.
    pub(super) async fn failed(&self) -> anyhow::Error {
        match self.failures.lock().await.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Lets each come to the end of what it reads.
    ///
    /// # Errors
    /// When one gets something wrong, or nothing for too long.
    pub(super) async fn end(mut self) -> anyhow::Result<Pulled> {
        self.stop.store(true, Relaxed);
        let mut all = Pulled::default();
        while let Some(pulled) = self.working.join_next().await {
            all.add(&pulled?);
        }
        match self.failures.get_mut().try_recv() {
            Ok(error) => Err(error),
            Err(_) => Ok(all),
        }
    }
}

/// Reads one blob, or a part of it, or gives up on it.
async fn one(rng: &mut StdRng, shelf: &[(String, Blob)], pulled: &mut Pulled) -> anyhow::Result<()> {
    let (url, blob) = &shelf[rng.random_range(0..shelf.len())];
    if rng.random_ratio(1, GIVEN_UP) {
        let patience = rng.random_range(Duration::ZERO..PATIENCE);
        if let Ok(outcome) = timeout(patience, client::pull(url, blob)).await {
            outcome?;
        }
        pulled.given_up += 1;
        return Ok(());
    }
    let part = if rng.random_ratio(1, PARTS) {
        let start = rng.random_range(0..blob.len());
        pulled.parts += 1;
        start..rng.random_range(start..blob.len()) + 1
    } else {
        pulled.whole += 1;
        0..blob.len()
    };
    let read = client::read(url, blob, part).await?;
    pulled.bytes += read.bytes;
    pulled.broken += read.broken;
    pulled.errors += read.errors;
    Ok(())
}

impl Pulled {
    fn add(&mut self, other: &Self) {
        let Self { whole, parts, given_up, bytes, broken, errors } = other;
        self.whole += whole;
        self.parts += parts;
        self.given_up += given_up;
        self.bytes += bytes;
        self.broken += broken;
        self.errors += errors;
    }
}
