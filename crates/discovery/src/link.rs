//! A peer that is connected: its connections, and whether it still answers.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::swarm::ConnectionId;

/// After how long a peer counts as settled although its identification never came.
const SETTLED_ANYWAY: Duration = Duration::from_secs(2);

/// A connected peer.
#[derive(Debug)]
pub(crate) struct Link {
    /// Its connections, and whether each still answers.
    connections: HashMap<ConnectionId, bool>,
    since: Instant,
    identified: bool,
}

impl Link {
    pub(crate) fn new(now: Instant) -> Self {
        Self { connections: HashMap::new(), since: now, identified: false }
    }

    pub(crate) fn opened(&mut self, connection: ConnectionId) {
        self.connections.insert(connection, true);
    }

    /// Returns whether any connection is left.
    pub(crate) fn closed(&mut self, connection: ConnectionId) -> bool {
        self.connections.remove(&connection);
        !self.connections.is_empty()
    }

    /// Pings were not answered. Returns whether the connection was thought to answer until now.
    pub(crate) fn silent(&mut self, connection: ConnectionId) -> bool {
        self.connections.get_mut(&connection).is_some_and(std::mem::take)
    }

    pub(crate) fn identified(&mut self) {
        self.identified = true;
    }

    /// Whether any connection answers.
    pub(crate) fn is_live(&self) -> bool {
        self.connections.values().any(|answers| *answers)
    }

    /// Whether its addresses are known, so that it can be told of to others and asked.
    pub(crate) fn is_settled(&self, now: Instant) -> bool {
        self.identified || self.age(now) > SETTLED_ANYWAY
    }

    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    pub(crate) fn connections(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.connections.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_live_while_any_connection_answers() {
        let (one, two) = (ConnectionId::new_unchecked(1), ConnectionId::new_unchecked(2));
        let mut link = Link::new(Instant::now());
        link.opened(one);
        link.opened(two);
        assert!(link.silent(one) && !link.silent(one));
        assert!(link.is_live());
        assert!(link.silent(two));
        assert!(!link.is_live());
        assert!(link.closed(one) && !link.closed(two));
    }
}
