//! Who is connected: at most one connection for each node.
//!
//! Two nodes that dial each other at once keep the connection that the node with the smaller name dialled. The rule is kept
//! by listeners, before a connection is answered and so before it can be used: the smaller node leaves the other's knock
//! unanswered while its own dial is under way, and refuses it once that has succeeded; the larger one answers at once and gives up its own dial.
//! So no message is ever said on the connection that falls. A peer that was started anew is told by its life: its new connection
//! takes the place of the old one, which cannot know yet that it is dead.
//!
//! Invariant: an entry has a live connection, or a dial under way, or a last connection whose events are not all out.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use shoal_proto::NodeId;
use tokio_util::sync::CancellationToken;

use crate::{AdmissionError, Disconnect, Peer};

#[derive(Debug)]
pub(crate) struct Table {
    me: NodeId,
    most: usize,
    entries: Mutex<HashMap<NodeId, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    live: Option<Peer>,
    dial: Option<DialState>,
    /// The last connection's word that its events are out.
    retiring: Option<CancellationToken>,
}

#[derive(Clone, Debug)]
struct DialState {
    overtaken: CancellationToken,
    over: CancellationToken,
}

/// How to connect to a node.
pub(crate) enum Begin {
    /// It is connected.
    Live(Peer),
    /// Somebody dials it: wait, then ask again.
    Wait(CancellationToken),
    /// Dial it.
    Dial(Dial),
    /// There are as many connections as may be.
    Full,
}

/// The right to dial a node; given back when dropped.
pub(crate) struct Dial {
    table: Arc<Table>,
    node: NodeId,
    state: DialState,
}

/// What is to be done with a connection that a peer dialled.
pub(crate) enum Verdict {
    /// It is the node's connection now; its first event waits for that word, if there is one.
    Keep(Option<CancellationToken>),
    /// It is refused.
    Refuse(AdmissionError),
    /// Our own dial goes before: wait until it is over, then ask again.
    Wait(CancellationToken),
}

impl Entry {
    fn live(&self) -> Option<&Peer> {
        self.live.as_ref().filter(|peer| peer.is_connected())
    }

    fn is_idle(&self) -> bool {
        let retired = self.retiring.as_ref().is_none_or(CancellationToken::is_cancelled);
        self.live.is_none() && self.dial.is_none() && retired
    }

    /// Makes a connection the node's own; its first event waits for that word, if there is one.
    fn keep(&mut self, peer: Peer) -> Option<CancellationToken> {
        let predecessor = match self.live.replace(peer) {
            Some(old) => Some(old.0.retired.clone()),
            None => self.retiring.clone(),
        };
        predecessor.filter(|retired| !retired.is_cancelled())
    }
}

impl Table {
    pub(crate) fn new(me: NodeId, most: usize) -> Arc<Self> {
        Arc::new(Self { me, most, entries: Mutex::default() })
    }

    /// The peer of that name, while connected.
    pub(crate) fn get(&self, node: NodeId) -> Option<Peer> {
        self.entries.lock().get(&node)?.live().cloned()
    }

    /// All connected peers.
    pub(crate) fn all(&self) -> Vec<Peer> {
        self.entries.lock().values().filter_map(|entry| entry.live().cloned()).collect()
    }

    /// Begins to connect to a node.
    pub(crate) fn begin(self: &Arc<Self>, node: NodeId) -> Begin {
        let mut entries = self.entries.lock();
        let full = entries.len() >= self.most && !entries.contains_key(&node);
        if full {
            return Begin::Full;
        }
        let entry = entries.entry(node).or_default();
        if let Some(peer) = entry.live() {
            return Begin::Live(peer.clone());
        }
        if let Some(dial) = &entry.dial {
            return Begin::Wait(dial.over.clone());
        }
        let state = DialState { overtaken: CancellationToken::new(), over: CancellationToken::new() };
        entry.dial = Some(state.clone());
        Begin::Dial(Dial { table: Arc::clone(self), node, state })
    }

    /// Takes in a connection that this node dialled and the listener has answered; gives back the connection that there is
    /// already, where there is one.
    pub(crate) fn dialled(&self, peer: Peer) -> Result<Option<CancellationToken>, Peer> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(peer.node()).or_default();
        match entry.live() {
            Some(live) => Err(live.clone()),
            None => Ok(entry.keep(peer)),
        }
    }

    /// Takes in a connection that the peer dialled, before it is answered. `patient` is whether our own dial may go before.
    pub(crate) fn accepted(&self, peer: Peer, patient: bool) -> Verdict {
        let node = peer.node();
        let mut entries = self.entries.lock();
        if entries.len() >= self.most && !entries.contains_key(&node) {
            return Verdict::Refuse(AdmissionError::Full);
        }
        let entry = entries.entry(node).or_default();
        if let Some(live) = entry.live() {
            if live.0.life == peer.0.life {
                return Verdict::Refuse(AdmissionError::Duplicate);
            }
            live.close_for(Disconnect::Replaced);
        } else if let Some(dial) = &entry.dial {
            if patient && self.me < node {
                return Verdict::Wait(dial.over.clone());
            }
            dial.overtaken.cancel();
        }
        Verdict::Keep(entry.keep(peer))
    }

    /// Notes that a connection has ended, before its last event goes out.
    pub(crate) fn ended(&self, peer: &Peer) {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(&peer.node()) else { return };
        if entry.live.as_ref().is_some_and(|live| Arc::ptr_eq(&live.0, &peer.0)) {
            entry.live = None;
            entry.retiring = Some(peer.0.retired.clone());
        }
    }

    /// Notes that the last event of a connection is out.
    pub(crate) fn retired(&self, peer: &Peer) {
        peer.0.retired.cancel();
        self.sweep(peer.node());
    }

    fn sweep(&self, node: NodeId) {
        let mut entries = self.entries.lock();
        if entries.get(&node).is_some_and(Entry::is_idle) {
            entries.remove(&node);
        }
    }
}

impl Dial {
    /// Resolves when the node's own dial was answered instead.
    pub(crate) async fn overtaken(&self) {
        self.state.overtaken.cancelled().await;
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        if let Some(entry) = self.table.entries.lock().get_mut(&self.node) {
            entry.dial = None;
        }
        self.state.over.cancel();
        self.table.sweep(self.node);
    }
}
