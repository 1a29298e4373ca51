//! What is done from time to time.

use std::time::{Duration, Instant};

use super::Node;
use crate::{Readiness, address::multiaddr, identity::peer_id};

const SWEEP: Duration = Duration::from_secs(1);
/// After joining, a peer is asked for introductions soon, then ever more rarely.
const FIRST_ASK: Duration = Duration::from_millis(500);
const LAST_ASK: Duration = Duration::from_secs(10);

/// When what is due.
#[derive(Debug)]
pub(super) struct Schedule {
    sweep: Instant,
    ask: Instant,
    pause: Duration,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        Self { sweep: now, ask: now + FIRST_ASK, pause: FIRST_ASK }
    }

    pub(super) fn joined(&mut self, now: Instant) {
        *self = Self { sweep: self.sweep, ..Self::new(now) };
    }
}

impl Node {
    pub(super) fn on_tick(&mut self) {
        let now = Instant::now();
        if self.schedule.sweep <= now {
            self.schedule.sweep = now + SWEEP;
            self.book.expire(now);
            self.choose_mesh();
            self.trim(now);
        }
        self.look_up_bootstrap(now);
        self.renew_connections(now);
        self.dial_due(now);
        if self.joining.is_done() && self.schedule.ask <= now {
            self.schedule.ask = now + self.schedule.pause;
            self.schedule.pause = (self.schedule.pause * 2).min(LAST_ASK);
            if let Some(node) = self.any_settled_peer(now) {
                self.ask_for_introductions(node);
            }
        }
        let waited = now.saturating_duration_since(self.started);
        if self.readiness() == Readiness::Searching && waited >= self.config.alone_after {
            self.set_readiness(Readiness::AloneAfterTimeout);
        }
        // Peers settle, and limits pass, with time alone.
        self.changed = true;
    }

    /// Tells peers, and handles, where I am, when that has changed.
    pub(super) fn publish_own_addresses(&mut self) {
        let told = self.own.told();
        let mut published = self.shared.published.write();
        published.listening = self.own.listening();
        if published.mine == told {
            return;
        }
        let gone: Vec<_> = self.swarm.external_addresses().cloned().collect();
        gone.iter().for_each(|address| self.swarm.remove_external_address(address));
        told.iter().for_each(|address| self.swarm.add_external_address(multiaddr(*address)));
        published.mine = told;
        drop(published);
        let peers: Vec<_> = self.links.keys().map(|node| peer_id(*node)).collect();
        self.swarm.behaviour_mut().identify.push(peers);
    }
}
