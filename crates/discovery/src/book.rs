//! The address book: who is known, where, and when to dial again.
//!
//! Invariant: an entry is connected, or it has a moment for its next dial, or a dial is under way. Entries that have not
//! been connected for [`EXPIRY`] are forgotten; at most [`MOST_ENTRIES`] are kept.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    time::{Duration, Instant},
};

use shoal_proto::NodeId;

use crate::address::MOST_ADDRESSES;

/// How long a node that is not connected is remembered.
pub(crate) const EXPIRY: Duration = Duration::from_secs(600);
const MOST_ENTRIES: usize = 4096;
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// How long to wait for somebody else's dial to the same node.
const YIELD: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contact {
    Connected,
    Dialling,
    Waiting { until: Instant },
}

#[derive(Debug)]
struct Entry {
    addresses: Vec<SocketAddr>,
    contact: Contact,
    /// Dials that failed since it was last connected.
    failures: u32,
    /// When it was last connected, or first heard of.
    last_here: Instant,
}

/// Who is known, where, and when to dial again.
#[derive(Debug)]
pub(crate) struct Book {
    me: NodeId,
    entries: HashMap<NodeId, Entry>,
    touched: BTreeSet<NodeId>,
}

impl Book {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, entries: HashMap::new(), touched: BTreeSet::new() }
    }

    /// How many nodes are known that are not failing to answer.
    pub(crate) fn promising(&self) -> usize {
        self.entries.values().filter(|e| e.contact == Contact::Connected || e.failures == 0).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.entries.keys().copied()
    }

    pub(crate) fn addresses(&self, node: NodeId) -> &[SocketAddr] {
        self.entries.get(&node).map_or(&[], |entry| &entry.addresses)
    }

    /// The nodes whose addresses changed since this was last called.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.touched)
    }

    fn entry(&mut self, node: NodeId, now: Instant) -> Option<&mut Entry> {
        if node == self.me {
            return None;
        }
        if !self.entries.contains_key(&node) && self.entries.len() >= MOST_ENTRIES {
            let oldest = self.entries.iter().filter(|(_, e)| e.contact != Contact::Connected);
            let oldest = oldest.min_by_key(|(_, e)| e.last_here).map(|(node, _)| *node)?;
            self.forget(oldest);
        }
        self.touched.insert(node);
        Some(self.entries.entry(node).or_insert_with(|| Entry {
            addresses: Vec::new(),
            contact: Contact::Waiting { until: now },
            failures: 0,
            last_here: now,
        }))
    }

    fn forget(&mut self, node: NodeId) {
        self.entries.remove(&node);
        self.touched.insert(node);
    }

    /// Somebody says that a node is there. Addresses that are known already keep their rank.
    pub(crate) fn heard(&mut self, node: NodeId, addresses: impl IntoIterator<Item = SocketAddr>, now: Instant) {
        let mut addresses = addresses.into_iter().peekable();
        if addresses.peek().is_none() {
            return;
        }
        let Some(entry) = self.entry(node, now) else { return };
        for address in addresses {
            if entry.addresses.len() < MOST_ADDRESSES && !entry.addresses.contains(&address) {
                entry.addresses.push(address);
            }
        }
    }

    /// A node itself says where it is. Returns whether that is news.
    pub(crate) fn identified(&mut self, node: NodeId, mut addresses: Vec<SocketAddr>, now: Instant) -> bool {
        addresses.truncate(MOST_ADDRESSES);
        let Some(entry) = self.entry(node, now) else { return false };
        if addresses.is_empty() || entry.addresses == addresses {
            return false;
        }
        entry.addresses = addresses;
        true
    }

    /// An address turned out to be another node's.
    pub(crate) fn not_at(&mut self, node: NodeId, address: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.addresses.retain(|known| *known != address);
            self.touched.insert(node);
        }
    }

    pub(crate) fn connected(&mut self, node: NodeId, now: Instant) {
        if let Some(entry) = self.entry(node, now) {
            entry.contact = Contact::Connected;
            entry.failures = 0;
            entry.last_here = now;
        }
    }

    /// The last connection to a node ended: it is dialled again at once, for it may be restarting.
    pub(crate) fn dropped(&mut self, node: NodeId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.contact = Contact::Waiting { until: now + FIRST_RETRY };
            entry.last_here = now;
        }
    }

    pub(crate) fn dialling(&mut self, node: NodeId) {
        if let Some(entry) = self.entries.get_mut(&node).filter(|entry| entry.contact != Contact::Connected) {
            entry.contact = Contact::Dialling;
        }
    }

    /// Somebody else is dialling it: Kademlia, for one of its walks.
    pub(crate) fn dialled_by_others(&mut self, node: NodeId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&node).filter(|entry| entry.contact != Contact::Connected) {
            entry.contact = Contact::Waiting { until: now + YIELD };
        }
    }

    /// A dial led to nobody: the next one waits twice as long, give or take a quarter.
    pub(crate) fn failed(&mut self, node: NodeId, now: Instant, jitter: f64) {
        if let Some(entry) = self.entries.get_mut(&node).filter(|entry| entry.contact != Contact::Connected) {
            let wait = FIRST_RETRY.saturating_mul(1 << entry.failures.min(10)).min(LAST_RETRY);
            entry.failures += 1;
            entry.contact = Contact::Waiting { until: now + wait.mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 2.0) };
        }
    }

    /// The nodes to dial now.
    pub(crate) fn due(&self, now: Instant) -> Vec<NodeId> {
        let due = |entry: &Entry| {
            matches!(entry.contact, Contact::Waiting { until } if until <= now) && !entry.addresses.is_empty()
        };
        self.entries.iter().filter(|(_, entry)| due(entry)).map(|(node, _)| *node).collect()
    }

    /// Whether it is not known yet if a node can be reached: it was not tried, or is being tried for the first time.
    pub(crate) fn is_untried(&self, node: NodeId) -> bool {
        self.entries
            .get(&node)
            .is_some_and(|e| e.contact != Contact::Connected && e.failures == 0 && !e.addresses.is_empty())
    }

    /// Whether an address is that of a connected node.
    pub(crate) fn is_connected_at(&self, address: SocketAddr) -> bool {
        self.entries.values().any(|e| e.contact == Contact::Connected && e.addresses.contains(&address))
    }

    /// Forgets who has not been here for long.
    pub(crate) fn expire(&mut self, now: Instant) {
        let gone = |e: &Entry| e.contact != Contact::Connected && now.saturating_duration_since(e.last_here) > EXPIRY;
        let gone: Vec<_> = self.entries.iter().filter(|(_, e)| gone(e)).map(|(node, _)| *node).collect();
        gone.into_iter().for_each(|node| self.forget(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn a_node_that_dropped_is_dialled_again_ever_more_slowly_and_then_forgotten() {
        let (mut book, start) = (Book::new(node(0)), Instant::now());
        book.heard(node(1), [at(1)], start);
        assert_eq!(book.due(start), [node(1)]);
        book.dialling(node(1));
        assert!(book.due(start).is_empty() && book.is_untried(node(1)));
        book.connected(node(1), start);
        book.dropped(node(1), start);
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..12 {
            let mut wait = Duration::ZERO;
            while book.due(now + wait).is_empty() {
                wait += Duration::from_millis(50);
            }
            waits.push(wait);
            now += wait;
            book.dialling(node(1));
            book.failed(node(1), now, 0.5);
        }
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
        assert_eq!(waits.last(), Some(&LAST_RETRY));
        assert!(!book.is_untried(node(1)));
        book.expire(start + EXPIRY + Duration::from_secs(1));
        assert_eq!(book.len(), 0);
        assert!(book.take_touched().contains(&node(1)));
    }

    #[test]
    fn what_a_node_says_of_itself_counts_more_than_hearsay() {
        let (mut book, now) = (Book::new(node(0)), Instant::now());
        book.heard(node(1), [at(1), at(2)], now);
        assert!(book.identified(node(1), vec![at(3)], now));
        assert!(!book.identified(node(1), vec![at(3)], now));
        book.heard(node(1), [at(4)], now);
        assert_eq!(book.addresses(node(1)), [at(3), at(4)]);
        book.not_at(node(1), at(3));
        assert_eq!(book.addresses(node(1)), [at(4)]);
        book.heard(node(0), [at(9)], now);
        assert_eq!(book.addresses(node(0)), [], "I am not in my own book");
    }

    #[test]
    fn is_bounded_and_never_forgets_the_connected() {
        let (mut book, now) = (Book::new(node(0)), Instant::now());
        book.connected(node(1), now);
        for i in 0..5000u32 {
            let mut id = [9; 32];
            id[..4].copy_from_slice(&i.to_be_bytes());
            book.heard(NodeId::from_bytes(id), (0..20).map(at), now + Duration::from_millis(i.into()));
        }
        assert_eq!(book.len(), MOST_ENTRIES);
        assert!(book.nodes().any(|n| n == node(1)));
        assert!(book.nodes().all(|n| book.addresses(n).len() <= MOST_ADDRESSES));
    }
}
