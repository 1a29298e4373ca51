//! The books: counters that requests write while they are served, and the gates that hold bodies back.
//!
//! Invariant: a blob's `sent` never exceeds its gate once the gate is set, because bytes are entered before they are
//! handed over, and only as many as the gate leaves.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use shoal_blob::Digest;
use tokio::sync::{Notify, watch};

use crate::{BlobCounts, Counts, spans::Spans};

/// How many ranges are kept for each blob.
const MOST_RANGES: usize = 4096;

/// A counter that only grows.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

/// How many there are now, and how many there were at most.
#[derive(Debug, Default)]
pub(crate) struct Level {
    now: AtomicU64,
    peak: AtomicU64,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    blobs: RwLock<BTreeMap<Digest, Arc<Account>>>,
    pub(crate) manifest_gets: Tally,
    pub(crate) manifest_heads: Tally,
    pub(crate) token_requests: Tally,
    pub(crate) tokens_issued: Tally,
    pub(crate) unauthorized: Tally,
    pub(crate) errors: Tally,
    pub(crate) hung: Tally,
    pub(crate) with_authorization: Tally,
    pub(crate) accepted: Tally,
    pub(crate) connections: Level,
    changed: Notify,
}

/// What is counted for one blob, and its gate.
#[derive(Debug)]
pub(crate) struct Account {
    sent: AtomicU64,
    spans: Mutex<Spans>,
    repeated: AtomicU64,
    /// How many bytes may be sent in all.
    gate: watch::Sender<u64>,
    pub(crate) gets: Tally,
    pub(crate) heads: Tally,
    pub(crate) refused: Tally,
    pub(crate) redirected: Tally,
    pub(crate) range_gets: Tally,
    ranges: Mutex<Vec<Range<u64>>>,
    pub(crate) bodies: Level,
    pub(crate) bodies_cut: Tally,
}

impl Tally {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Level {
    pub(crate) fn up(&self) {
        let now = self.now.fetch_add(1, Relaxed) + 1;
        self.peak.fetch_max(now, Relaxed);
    }

    pub(crate) fn down(&self) {
        self.now.fetch_sub(1, Relaxed);
    }
}

impl Ledger {
    /// The account of a blob, opened when it is first asked for.
    pub(crate) fn account(&self, digest: &Digest) -> Arc<Account> {
        if let Some(account) = self.blobs.read().unwrap_or_else(PoisonError::into_inner).get(digest) {
            return Arc::clone(account);
        }
        let mut blobs = self.blobs.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(blobs.entry(*digest).or_insert_with(|| Arc::new(Account::new())))
    }

    /// Wakes whoever waits for the figures to change.
    pub(crate) fn tell(&self) {
        self.changed.notify_waiters();
    }

    pub(crate) fn snapshot(&self) -> Counts {
        let blobs = self.blobs.read().unwrap_or_else(PoisonError::into_inner);
        Counts {
            blobs: blobs.iter().map(|(digest, account)| (*digest, account.snapshot())).collect(),
            manifest_gets: self.manifest_gets.get(),
            manifest_heads: self.manifest_heads.get(),
            token_requests: self.token_requests.get(),
            tokens_issued: self.tokens_issued.get(),
            unauthorized: self.unauthorized.get(),
            errors: self.errors.get(),
            hung: self.hung.get(),
            with_authorization: self.with_authorization.get(),
            connections_now: self.connections.now.load(Relaxed),
            connections_peak: self.connections.peak.load(Relaxed),
            connections: self.accepted.get(),
        }
    }

    pub(crate) async fn until(&self, mut met: impl FnMut(&Counts) -> bool) -> Counts {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a change between the look and the wait is not missed.
            changed.as_mut().enable();
            let counts = self.snapshot();
            if met(&counts) {
                return counts;
            }
            changed.await;
        }
    }
}

impl Account {
    fn new() -> Self {
        Self {
            sent: AtomicU64::new(0),
            spans: Mutex::default(),
            repeated: AtomicU64::new(0),
            gate: watch::Sender::new(u64::MAX),
            gets: Tally::default(),
            heads: Tally::default(),
            refused: Tally::default(),
            redirected: Tally::default(),
            range_gets: Tally::default(),
            ranges: Mutex::new(Vec::new()),
            bodies: Level::default(),
            bodies_cut: Tally::default(),
        }
    }

    pub(crate) fn set_gate(&self, bytes: u64) {
        self.gate.send_replace(bytes);
    }

    /// Returns once the gate leaves room, and how much that was.
    pub(crate) async fn gate_open(&self) -> u64 {
        let room = |gate: u64| gate.saturating_sub(self.sent.load(Relaxed));
        let now = room(*self.gate.borrow());
        if now > 0 {
            return now;
        }
        let mut gate = self.gate.subscribe();
        let open = gate.wait_for(|gate| room(*gate) > 0).await;
        room(*open.expect("the account owns the sender and outlives this borrow"))
    }

    /// Enters up to `bytes` as sent and returns how many the gate allowed.
    pub(crate) fn enter(&self, bytes: u64) -> u64 {
        let gate = *self.gate.borrow();
        let allowed = |sent: u64| bytes.min(gate.saturating_sub(sent));
        let before = self.sent.fetch_update(Relaxed, Relaxed, |sent| Some(sent + allowed(sent)));
        allowed(before.unwrap_or_else(|sent| sent))
    }

    /// Notes which bytes it was that were entered.
    pub(crate) fn gave(&self, range: Range<u64>) {
        let before = self.spans.lock().unwrap_or_else(PoisonError::into_inner).add(range);
        self.repeated.fetch_add(before, Relaxed);
    }

    pub(crate) fn saw(&self, range: &Range<u64>) {
        self.range_gets.add();
        let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        if ranges.len() < MOST_RANGES {
            ranges.push(range.clone());
        }
    }

    fn snapshot(&self) -> BlobCounts {
        BlobCounts {
            bytes_sent: self.sent.load(Relaxed),
            bytes_repeated: self.repeated.load(Relaxed),
            gets: self.gets.get(),
            heads: self.heads.get(),
            refused: self.refused.get(),
            redirected: self.redirected.get(),
            range_gets: self.range_gets.get(),
            ranges: self.ranges.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            bodies_now: self.bodies.now.load(Relaxed),
            bodies_peak: self.bodies.peak.load(Relaxed),
            bodies_cut: self.bodies_cut.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_exactly_its_bytes_through() {
        let account = Account::new();
        account.set_gate(100);
        assert_eq!(account.enter(70), 70);
        assert_eq!(account.enter(70), 30);
        assert_eq!(account.enter(70), 0);
        account.set_gate(u64::MAX);
        assert_eq!(account.enter(70), 70);
        assert_eq!(account.snapshot().bytes_sent, 170);
    }

    #[tokio::test]
    async fn a_waiter_wakes_when_its_condition_is_met() {
        let ledger = Arc::new(Ledger::default());
        let waiting = tokio::spawn({
            let ledger = Arc::clone(&ledger);
            async move { ledger.until(|counts| counts.manifest_gets == 100).await }
        });
        for _ in 0..100 {
            ledger.manifest_gets.add();
            ledger.tell();
            tokio::task::yield_now().await;
        }
        assert_eq!(waiting.await.unwrap().manifest_gets, 100);
    }
}
