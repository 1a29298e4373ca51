//! One blob that this node is concerned with: looked for, pulled, or given to others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use shoal_blob::{Digest, PieceSet, Repository};
use shoal_mirror::Failure;
use shoal_proto::{
    Epoch, NodeId, SignedGrant,
    coordination::{Neighbour, Probe},
    trade::Message,
};
use shoal_swarm::{
    Time,
    coordination::Member,
    trade::{ReaderId, SlotId, Swarm},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use crate::node::{book::Book, mailbox::Opener, reading::Order, shelf::Shelf};

/// Repositories that clients named for one blob; the latest is asked first.
const MOST_REPOSITORIES: usize = 4;
/// Leases of one blob that are remembered until its book is open.
const MOST_GRANTS: usize = 4;
/// Words of neighbours that are kept until the store has opened the blob.
const MOST_EARLY: usize = 1024;

/// One blob: who asks for it here, what the coordinator said, and once its length is known, its body.
pub(super) struct Pursuit {
    pub(super) digest: Digest,
    pub(super) repositories: Vec<Repository>,
    pub(super) member: Member,
    pub(super) found: Option<Probe>,
    pub(super) finders: Vec<oneshot::Sender<Result<Probe, Failure>>>,
    pub(super) openers: Vec<Opening>,
    pub(super) readers: BTreeSet<ReaderId>,
    pub(super) neighbours: BTreeMap<NodeId, Neighbour>,
    /// Through whom pieces come into this node's zone.
    pub(super) importers: Vec<NodeId>,
    pub(super) lease: Option<Lease>,
    /// The latest leases that were heard of, for the book that opens with the body.
    pub(super) grants: Vec<SignedGrant>,
    pub(super) stage: Stage,
    /// How often the seed had lost patience when it was last counted.
    pub(super) impatience: u32,
    /// Said before the body was there.
    pub(super) early: Vec<(NodeId, Message)>,
    /// Whether a client of this node is waited for, or was until a moment ago.
    pub(super) wanted: bool,
    /// What clients are told who ask for what is not here, and until when: nothing of it came just now.
    pub(super) rest: Option<(Time, Failure)>,
    /// Since when nobody here reads it.
    pub(super) unread_since: Time,
    /// Since when nobody anywhere was seen to need it of this node.
    pub(super) idle_since: Time,
}

/// A client that waits until it can read.
pub(super) struct Opening {
    pub(super) reader: ReaderId,
    pub(super) offset: u64,
    pub(super) reply: Opener,
}

/// The right to read the origin.
pub(super) struct Lease {
    pub(super) epoch: Epoch,
    pub(super) elsewhere: PieceSet,
}

/// The task that reads the origin.
pub(super) struct Reader {
    pub(super) id: u64,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) task: AbortHandle,
}

/// How far a pursuit has come.
pub(super) enum Stage {
    /// Its length is not known.
    Seeking,
    /// The store makes room, or checks what it has.
    Admitting,
    /// Pieces can come and go.
    Open(Box<Body>),
}

/// The blob's body: its pieces in the store, its chain, and the tasks that move them.
pub(super) struct Body {
    pub(super) shelf: Arc<Shelf>,
    pub(super) swarm: Swarm,
    pub(super) book: Book,
    /// Where pieces of the origin are ordered, while this node is the seed.
    pub(super) reading: Option<Reader>,
    /// The lease under which they were last ordered: by its right what comes of it is signed, also when it comes late.
    pub(super) read_under: Option<Epoch>,
    /// Pieces whose streams may come, and from whom.
    pub(super) expected: HashSet<(u32, NodeId)>,
    pub(super) receiving: HashMap<(u32, NodeId), AbortHandle>,
    pub(super) uploads: HashMap<SlotId, AbortHandle>,
}

impl Pursuit {
    pub(super) fn new(now: Time, digest: Digest, member: Member) -> Self {
        Self {
            digest,
            repositories: Vec::new(),
            member,
            found: None,
            finders: Vec::new(),
            openers: Vec::new(),
            readers: BTreeSet::new(),
            neighbours: BTreeMap::new(),
            importers: Vec::new(),
            lease: None,
            grants: Vec::new(),
            stage: Stage::Seeking,
            impatience: 0,
            early: Vec::new(),
            wanted: false,
            rest: None,
            unread_since: now,
            idle_since: now,
        }
    }

    pub(super) fn named(&mut self, repository: Repository) {
        self.repositories.retain(|known| *known != repository);
        self.repositories.insert(0, repository);
        self.repositories.truncate(MOST_REPOSITORIES);
    }

    pub(super) fn granted(&mut self, grant: &SignedGrant) {
        self.grants.retain(|known| known.grant().epoch != grant.grant().epoch);
        self.grants.insert(0, grant.clone());
        self.grants.truncate(MOST_GRANTS);
    }

    pub(super) fn body(&self) -> Option<&Body> {
        match &self.stage {
            Stage::Open(body) => Some(body),
            _ => None,
        }
    }

    pub(super) fn body_mut(&mut self) -> Option<&mut Body> {
        match &mut self.stage {
            Stage::Open(body) => Some(body),
            _ => None,
        }
    }

    /// Whether a client here reads it, or waits for it.
    pub(super) fn is_read(&self) -> bool {
        !(self.readers.is_empty() && self.finders.is_empty() && self.openers.is_empty())
    }

    /// Why nothing of it can be had now.
    pub(super) fn resting(&self, now: Time) -> Option<Failure> {
        self.rest.as_ref().filter(|(until, _)| now < *until).map(|(_, failure)| failure.clone())
    }

    /// What is stored; nothing, of no known size, while the store has not been asked.
    pub(super) fn held(&self) -> PieceSet {
        self.body().map_or_else(|| PieceSet::empty(0), |body| body.swarm.have().clone())
    }

    /// Keeps a neighbour's word until the body is there. Beyond the bound it is dropped, with that neighbour's others: it
    /// will be greeted anew.
    pub(super) fn keep_early(&mut self, from: NodeId, message: Message) {
        if self.early.len() < MOST_EARLY {
            self.early.push((from, message));
        } else {
            self.early.retain(|(node, _)| *node != from);
        }
    }

    /// Tells everybody who waits for the blob that it will not come.
    pub(super) fn fail(&mut self, failure: &Failure) {
        for finder in self.finders.drain(..) {
            let _ = finder.send(Err(failure.clone()));
        }
        for opening in self.openers.drain(..) {
            self.readers.remove(&opening.reader);
            let _ = opening.reply.send(Err(failure.clone()));
        }
        if let Some(body) = self.body() {
            body.shelf.end(failure.clone());
        }
    }
}

impl Body {
    /// Stops reading the origin.
    pub(super) fn stop_reading(&mut self) {
        if let Some(reader) = self.reading.take() {
            reader.task.abort();
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.stop_reading();
        for task in self.receiving.values().chain(self.uploads.values()) {
            task.abort();
        }
    }
}
