//! Questions for the nodes closest to a digest that only a walk through Kademlia can answer.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::kad::QueryId;
use shoal_blob::Digest;
use shoal_proto::NodeId;
use tokio::sync::oneshot;

const FRESH: Duration = Duration::from_secs(2);
const MOST_CACHED: usize = 1024;
const MOST_WALKS: usize = 64;

pub(crate) type Answer = oneshot::Sender<Vec<NodeId>>;

/// Walks under way and answers that are still fresh.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    cached: HashMap<Digest, (Instant, Vec<NodeId>)>,
    walks: HashMap<QueryId, Digest>,
    waiting: HashMap<Digest, Vec<Answer>>,
}

impl Lookups {
    /// What a walk found less than two seconds ago.
    pub(crate) fn cached(&self, digest: &Digest, now: Instant) -> Option<Vec<NodeId>> {
        let (at, nodes) = self.cached.get(digest)?;
        (now.saturating_duration_since(*at) < FRESH).then(|| nodes.clone())
    }

    /// Whether another walk may begin.
    pub(crate) fn has_room(&self) -> bool {
        self.walks.len() < MOST_WALKS
    }

    /// Joins a walk that is under way. Gives the answer's channel back when there is none.
    pub(crate) fn join(&mut self, digest: &Digest, answer: Answer) -> Result<(), Answer> {
        match self.waiting.get_mut(digest) {
            Some(waiting) => {
                waiting.retain(|other| !other.is_closed());
                waiting.push(answer);
                Ok(())
            }
            None => Err(answer),
        }
    }

    pub(crate) fn begun(&mut self, walk: QueryId, digest: Digest, answer: Answer) {
        self.walks.insert(walk, digest);
        self.waiting.insert(digest, vec![answer]);
    }

    /// A walk has ended: for which digest. The answer goes to [`Lookups::answer`].
    pub(crate) fn ended(&mut self, walk: QueryId) -> Option<Digest> {
        self.walks.remove(&walk)
    }

    pub(crate) fn answer(&mut self, digest: Digest, nodes: Vec<NodeId>, now: Instant) {
        for answer in self.waiting.remove(&digest).unwrap_or_default() {
            // Whoever asked may have gone.
            let _ = answer.send(nodes.clone());
        }
        if self.cached.len() >= MOST_CACHED {
            self.cached.retain(|_, (at, _)| now.saturating_duration_since(*at) < FRESH);
        }
        if self.cached.len() < MOST_CACHED {
            self.cached.insert(digest, (now, nodes));
        }
    }
}
