//! One node of the fleet: the state machines that the daemon has, and what a driver keeps beside them.

use std::collections::{BTreeMap, BTreeSet};

use shoal_blob::PieceSet;
use shoal_proto::{Epoch, NodeId, NodeKey, coordination::Probe, trade::Message};
use shoal_swarm::{
    Time,
    coordination::{Coordinator, Member},
    trade::{Capacity, LinkLimits, Swarm},
};

use crate::network::NodeIndex;

/// Room for pieces on their way in, in bytes: the daemon's default.
pub(crate) const INFLOW: u64 = 64 << 20;

/// A connection on the data plane, as one of its ends keeps it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer {
    /// Which of the other end's lives it leads to.
    pub(crate) life: u32,
    /// When the last message on its stream arrives: no later one overtakes it.
    pub(crate) stream: Time,
    /// The last lease that the other end was told of.
    pub(crate) told: Option<Epoch>,
    /// Whether it has been said there which blob is spoken of.
    pub(crate) named: bool,
}

/// A piece that was asked of the origin: from when to when it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) piece: u32,
    pub(crate) begins: Time,
    pub(crate) ends: Time,
}

pub(crate) struct Node {
    pub(crate) key: NodeKey,
    pub(crate) id: NodeId,
    pub(crate) zone: u16,
    pub(crate) coordinator: Coordinator,
    pub(crate) member: Option<Member>,
    pub(crate) swarm: Option<Swarm>,
    pub(crate) capacity: Capacity,
    /// What its operator has limited its links to.
    links: LinkLimits,
    /// How many slots it could open at a time, at most, in this life.
    pub(crate) most_slots: u32,
    /// What is on its disk, while no swarm has it.
    pub(crate) disk: PieceSet,
    pub(crate) found: Option<Probe>,
    pub(crate) alive: bool,
    /// Counts its lives: what was meant for an earlier one is dropped.
    pub(crate) life: u32,
    pub(crate) hangs_until: Time,
    pub(crate) wants: bool,
    /// Whether the run waits for it: it wants the blob, or will.
    pub(crate) awaited: bool,
    pub(crate) asked_at: Option<Time>,
    pub(crate) done_at: Option<Time>,
    pub(crate) failed: bool,
    /// Whether the origin has refused it.
    pub(crate) refused: bool,
    /// Counted apart: slow, came late, was hit by a fault.
    pub(crate) slow: bool,
    pub(crate) late: bool,
    pub(crate) hit: bool,
    /// Nodes that discovery knows of.
    pub(crate) view: BTreeSet<NodeIndex>,
    pub(crate) peers: BTreeMap<NodeIndex, Peer>,
    pub(crate) dialling: BTreeSet<NodeIndex>,
    pub(crate) named: BTreeSet<NodeIndex>,
    /// Those of its zone, as the coordinator said last.
    pub(crate) importers: Vec<NodeId>,
    pub(crate) early: Vec<(NodeIndex, Message)>,
    pub(crate) expected: BTreeSet<(u32, NodeIndex)>,
    /// Uploads by slot, as the fleet numbers them.
    pub(crate) uploads: BTreeMap<u32, u32>,
    pub(crate) lease: Option<(Epoch, PieceSet)>,
    pub(crate) reading: Vec<Read>,
    pub(crate) reads: u32,
    /// Where its reader is, and where it began.
    pub(crate) reader: u32,
    /// When each state machine wants to be woken, and when that was last entered.
    pub(crate) wakes: [Option<Time>; 3],
    pub(crate) wake_at: Option<Time>,
    /// When it was last woken, and how often in that moment.
    pub(crate) woken: (Time, u32),
}

impl Node {
    pub(crate) fn new(key: NodeKey, zone: u16, started: Time, seed: u64, streams: u32) -> Self {
        Self {
            id: key.id(),
            coordinator: Coordinator::new(key.clone(), started, seed, Default::default()),
            key,
            zone,
            member: None,
            swarm: None,
            capacity: Capacity::new(streams, INFLOW),
            links: LinkLimits::default(),
            most_slots: 0,
            disk: PieceSet::empty(0),
            found: None,
            alive: true,
            life: 0,
            hangs_until: Time::ZERO,
            wants: false,
            awaited: false,
            asked_at: None,
            done_at: None,
            failed: false,
            refused: false,
            slow: false,
            late: false,
            hit: false,
            view: BTreeSet::new(),
            peers: BTreeMap::new(),
            dialling: BTreeSet::new(),
            named: BTreeSet::new(),
            importers: Vec::new(),
            early: Vec::new(),
            expected: BTreeSet::new(),
            uploads: BTreeMap::new(),
            lease: None,
            reading: Vec::new(),
            reads: 0,
            reader: 0,
            wakes: [None; 3],
            wake_at: None,
            woken: (Time::ZERO, 0),
        }
    }

    /// Limits its links, and says so.
    pub(crate) const fn limit(&mut self, links: LinkLimits) {
        self.links = links;
        self.capacity.set_links(links);
    }

    /// What it has of the blob.
    pub(crate) fn held(&self) -> &PieceSet {
        self.swarm.as_ref().map_or(&self.disk, Swarm::have)
    }

    /// How many trade the blob with it.
    pub(crate) fn neighbours(&self) -> u32 {
        self.swarm.as_ref().map_or(0, |swarm| swarm.state().neighbours)
    }

    /// Its process ends: only the disk stays.
    pub(crate) fn dies(&mut self) {
        self.disk = self.held().clone();
        self.alive = false;
        self.hangs_until = Time::ZERO;
        self.life += 1;
        self.reads += 1;
        (self.member, self.swarm, self.lease, self.found) = (None, None, None, None);
        self.peers.clear();
        self.dialling.clear();
        self.named.clear();
        self.importers.clear();
        self.early.clear();
        self.expected.clear();
        self.uploads.clear();
        (self.wakes, self.wake_at) = ([None; 3], None);
    }

    /// A new process on the same disk.
    pub(crate) fn restarts(&mut self, now: Time, seed: u64, streams: u32) {
        self.alive = true;
        self.coordinator = Coordinator::new(self.key.clone(), now, seed, Default::default());
        self.capacity = Capacity::new(streams, INFLOW);
        self.capacity.set_links(self.links);
        self.most_slots = 0;
    }
}
