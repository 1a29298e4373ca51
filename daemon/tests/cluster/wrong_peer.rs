//! A member that knows a blob's chain, says that it holds the blob, and sends what is wrong.
//!
//! It is made of the real control and data planes, proves the cluster key, and does everything as a member should up to
//! the one lie that it tells.

use std::{
    collections::HashMap,
    fs,
    io::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use shoal::cluster::Cluster;
use shoal_blob::{Layout, Link, Midstate, PieceBuffer, PieceSet};
use shoal_discovery::{Discovery, DiscoveryConfig};
use shoal_proto::{
    Authority, ClusterKeys, NodeId, NodeKey, PieceHeader, Segment, SignedSegment, Testimony, Visibility, codec,
    coordination::{Coordination, Holding, Probe, ToCoordinator, ToMember},
    trade::{Hello, Lacks, Letter, Message},
};
use shoal_registry::Blob;
use shoal_transfer::{Endpoint, Event, Peer, TransferConfig};
use tokio::{sync::mpsc, task::AbortHandle};

use crate::support::eventually;

/// Slots that one neighbour may have at a time.
const SLOTS: usize = 2;
/// Identities to choose from.
const DRAWS: u16 = 500;

/// What is wrong with its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// One bit of the bytes is flipped.
    Bytes,
    /// The bytes are right, and so is what is said of them, but a bit of a midstate was flipped after it was signed.
    Midstates,
}

/// The peer; gone when dropped.
pub(crate) struct WrongPeer {
    sent: Arc<AtomicU64>,
    task: AbortHandle,
    _planes: (Discovery, Endpoint),
}

struct Mind {
    key: NodeKey,
    lie: Lie,
    blob: Blob,
    layout: Layout,
    states: Vec<Midstate>,
    discovery: Discovery,
    /// Neighbours and how many slots each has.
    peers: HashMap<NodeId, (Peer, usize)>,
    next_slot: u32,
    sent: Arc<AtomicU64>,
}

impl WrongPeer {
    /// Joins a cluster whose daemons are all ready, and returns when all of them know it.
    pub(crate) async fn join(cluster: &Cluster, blob: &Blob, lie: Lie) -> Self {
        let digest = blob.digest();
        // Far from the digest, so that the coordinator is an honest one.
        let seeds = (0..DRAWS).map(|draw| NodeKey::from_seed(&[draw.to_le_bytes(); 16].concat().try_into().unwrap()));
        let key = seeds.max_by_key(|key| key.id().distance(&digest)).unwrap();
        let keys = ClusterKeys::parse(&fs::read_to_string(cluster.dir().join("cluster.key")).unwrap()).unwrap();
        let config = DiscoveryConfig {
            listen: vec![([127, 0, 0, 1], 0).into()],
            bootstrap: vec![cluster.peer_addr(0).to_string()],
            ..DiscoveryConfig::new(key.clone(), keys.clone())
        };
        let (discovery, told) = Discovery::start(config).await.unwrap();
        let address: SocketAddr = discovery.listen_addrs()[0];
        let (endpoint, events) = Endpoint::bind(address, &key, keys, TransferConfig::default()).unwrap();
        let sent = Arc::default();
        let layout = Layout::new(blob.len()).unwrap();
        let mind = Mind {
            states: chain(blob, layout),
            key,
            lie,
            blob: blob.clone(),
            layout,
            discovery: discovery.clone(),
            peers: HashMap::new(),
            next_slot: 0,
            sent: Arc::clone(&sent),
        };
        let task = tokio::spawn(mind.live(told, events)).abort_handle();
        eventually("all daemons see the wrong peer", async || {
            let mut all = discovery.live().len() == cluster.len();
            for node in 0..cluster.len() {
                all &= cluster.metric(node, "shoal_peers_connected").await.unwrap() == cluster.len() as f64;
            }
            all.then_some(())
        })
        .await;
        Self { sent, task, _planes: (discovery, endpoint) }
    }

    /// How many wrong pieces it has begun to send.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}

impl Drop for WrongPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The true midstates of a blob, one a boundary.
fn chain(blob: &Blob, layout: Layout) -> Vec<Midstate> {
    let mut states = vec![Midstate::initial(blob.digest().algorithm())];
    for index in layout.pieces() {
        let range = layout.byte_range(index);
        let mut buffer = PieceBuffer::new(layout, index);
        buffer.push(&blob.read(range.start, (range.end - range.start) as usize)).unwrap();
        states.push(buffer.extend(states[index.get() as usize]).unwrap().link().to);
    }
    states
}

/// The same segment with one bit of its last midstate flipped.
fn forged(signed: &SignedSegment) -> SignedSegment {
    let mut body = codec::body(signed, codec::MAX_PIECE_HEADER).unwrap();
    // Behind the midstates stand the signer and the signature.
    let last = body.len() - 32 - 64 - 1;
    body[last] ^= 1;
    codec::decode(&body).unwrap()
}

impl Mind {
    async fn live(mut self, mut told: mpsc::Receiver<shoal_discovery::Event>, mut events: mpsc::Receiver<Event>) {
        loop {
            tokio::select! {
                Some(event) = told.recv() => self.coordinate(event),
                Some(event) = events.recv() => self.trade(event),
                else => return,
            }
        }
    }

    fn coordinate(&self, event: shoal_discovery::Event) {
        let digest = self.blob.digest();
        let found = Probe { length: self.blob.len(), visibility: Visibility::Public };
        let (addresses, zone) = (self.discovery.my_addresses(), String::new());
        let say = |to, word| drop(self.discovery.send(to, Coordination::ToCoordinator(word)));
        match event {
            shoal_discovery::Event::View { live } => {
                for to in live {
                    let holdings = vec![Holding { digest, found }];
                    say(to, ToCoordinator::Announce { holdings, addresses: addresses.clone(), zone: zone.clone() });
                }
            }
            shoal_discovery::Event::Message { from, message: Coordination::ToMember(word) } => match word {
                ToMember::Ask { digest: asked } => {
                    let holding = (asked == digest).then_some(found);
                    say(from, ToCoordinator::Know { digest: asked, grant: None, holding, addresses, zone });
                }
                ToMember::Keep { grant } => {
                    let grant = grant.grant();
                    say(from, ToCoordinator::Kept { digest: grant.digest, epoch: grant.epoch });
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn trade(&mut self, event: Event) {
        match event {
            Event::Connected(peer) => drop(self.peers.insert(peer.node(), (peer, 0))),
            Event::Disconnected { node, .. } => drop(self.peers.remove(&node)),
            Event::Message { from, letter } if letter.digest == self.blob.digest() => {
                letter.messages.iter().for_each(|message| self.hear(from, message));
            }
            _ => {}
        }
    }

    fn say(&self, to: NodeId, message: Message) {
        if let Some((peer, _)) = self.peers.get(&to) {
            drop(peer.send(&Letter { digest: self.blob.digest(), messages: vec![message] }));
        }
    }

    fn hear(&mut self, from: NodeId, message: &Message) {
        match message {
            Message::Hello(_) => {
                let have = PieceSet::full(self.layout.count());
                let hello = Hello { length: self.blob.len(), have, wants: false, zone: String::new() };
                self.say(from, Message::Hello(hello));
                self.give_slots(from);
            }
            Message::Have { .. } | Message::Want { .. } => self.give_slots(from),
            Message::Pass { .. } => {
                if let Some((_, slots)) = self.peers.get_mut(&from) {
                    *slots = slots.saturating_sub(1);
                }
            }
            Message::Take { piece, lacks, .. } => {
                self.upload(from, *piece, *lacks);
                if let Some((_, slots)) = self.peers.get_mut(&from) {
                    *slots = slots.saturating_sub(1);
                }
                self.give_slots(from);
            }
            _ => {}
        }
    }

    /// The midstates that the receiver lacks, signed by this member, who has indeed closed the chain.
    fn proof(&self, piece: u32, lacks: Lacks) -> Vec<Testimony> {
        let lacking = [(lacks.before, piece), (lacks.behind, piece + 1)];
        let lacking = lacking.into_iter().filter(|(lacks, _)| *lacks || self.lie == Lie::Midstates);
        lacking
            .map(|(_, boundary)| {
                let state = [self.states[boundary as usize]];
                let segment = Segment::new(self.blob.digest(), self.blob.len(), Authority::Closed, boundary, &state);
                let signed = segment.sign(&self.key);
                if self.lie == Lie::Midstates { forged(&signed).testimony() } else { signed.testimony() }
            })
            .collect()
    }

    fn give_slots(&mut self, to: NodeId) {
        let Some((_, slots)) = self.peers.get_mut(&to) else { return };
        let more = SLOTS.saturating_sub(*slots);
        *slots += more;
        for _ in 0..more {
            self.next_slot += 1;
            self.say(to, Message::Slot { slot: self.next_slot });
        }
    }

    /// Sends the piece, with the lie.
    fn upload(&self, to: NodeId, piece: u32, lacks: Lacks) {
        let Some((peer, _)) = self.peers.get(&to).cloned() else { return };
        let Some(index) = self.layout.piece(piece) else { return };
        let range = self.layout.byte_range(index);
        let link = Link { from: self.states[piece as usize], to: self.states[piece as usize + 1] };
        let header = PieceHeader { piece, link: link.fingerprint(), proof: self.proof(piece, lacks) };
        let digest = self.blob.digest();
        let blob = self.blob.clone();
        let (lie, length) = (self.lie, range.end - range.start);
        let source = move |part: std::ops::Range<u64>| {
            let mut bytes = blob.read(range.start + part.start, (part.end - part.start) as usize).to_vec();
            if lie == Lie::Bytes && part.end == length {
                *bytes.last_mut().unwrap() ^= 1;
            }
            Ok::<_, Error>(Bytes::from(bytes))
        };
        self.sent.fetch_add(1, Relaxed);
        tokio::spawn(async move { peer.upload(digest, header, length, source).await });
    }
}
