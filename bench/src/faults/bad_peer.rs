//! A member that proves the cluster key and does as a member should, but for one thing: it sends no piece, or reads none.
//!
//! It is a process of its own in the node's namespace, made of the real control and data planes: it says `ready` when it sees
//! all daemons, and on the end of its standard input what it has met.

use std::{collections::HashMap, fs, io::Write, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use shoal::cluster::{Cluster, Host};
use shoal_blob::{Digest, Layout, PieceSet};
use shoal_discovery::{Discovery, DiscoveryConfig};
use shoal_proto::{
    ClusterKeys, NodeId, NodeKey, Visibility,
    coordination::{Coordination, Join, Probe, ToCoordinator, ToMember},
    trade::{Hello, Lacks, Letter, Message},
};
use shoal_registry::Blob;
use shoal_transfer::{Endpoint, Event, IncomingPiece, Peer, PieceStream, TransferConfig};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
    sync::mpsc,
    time::interval,
};

use crate::lab::within;

const READY: &str = "ready";
const PORT: u16 = 5051;
/// Slots that one neighbour is promised at a time.
const SLOTS: usize = 2;
/// Pieces that it lets come at a time.
const COMING: usize = 8;
/// Names to choose from.
const DRAWS: u16 = 500;
/// How often a member says that it is one.
const JOIN_EVERY: Duration = Duration::from_secs(1);

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Manner {
    /// It never sends.
    Mute,
    /// It never reads.
    Deaf,
}

/// The arguments of the bad peer.
#[derive(clap::Args, Debug)]
pub(crate) struct BadPeerArgs {
    #[arg(long)]
    manner: Manner,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    cluster_key_file: PathBuf,
    #[arg(long)]
    digest: Digest,
    #[arg(long)]
    length: u64,
    /// How many daemons there are.
    #[arg(long)]
    daemons: usize,
}

/// What it has met.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Met {
    /// Pieces that others began to send it.
    pub(super) offered: u64,
    /// Pieces that others asked of it, and that it did not send.
    pub(super) asked: u64,
}

/// A bad peer that runs.
pub(super) struct BadPeer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl BadPeer {
    /// Starts it on a host, and waits until it knows all daemons.
    pub(super) async fn join(host: &Host, cluster: &Cluster, manner: Manner, layer: &Blob) -> anyhow::Result<Self> {
        let mut command = within(host, &std::env::current_exe()?.to_string_lossy());
        command.arg("bad-peer").arg(format!("--manner={}", if manner == Manner::Mute { "mute" } else { "deaf" }));
        command.arg(format!("--listen={}", SocketAddr::new(host.address, PORT)));
        command.arg(format!("--bootstrap={}", cluster.peer_addr(0)));
        command.arg("--cluster-key-file").arg(cluster.dir().join("cluster.key"));
        command.arg(format!("--digest={}", layer.digest())).arg(format!("--length={}", layer.len()));
        command.arg(format!("--daemons={}", cluster.len()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("start the bad peer")?;
        let mut lines = BufReader::new(child.stdout.take().context("the bad peer has no standard output")?).lines();
        ensure!(lines.next_line().await?.as_deref() == Some(READY), "the bad peer ended before it was ready");
        Ok(Self { child, lines })
    }

    /// Ends it.
    pub(super) async fn end(mut self) -> anyhow::Result<Met> {
        drop(self.child.stdin.take());
        let line = self.lines.next_line().await?.context("the bad peer ended without a word")?;
        self.child.wait().await?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// The peer itself: lives until its standard input ends.
pub(crate) fn run(args: &BadPeerArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let met = runtime.block_on(Box::pin(live(args)))?;
    println!("{}", serde_json::to_string(&met)?);
    Ok(())
}

async fn live(args: &BadPeerArgs) -> anyhow::Result<Met> {
    // Far from the digest, so that the coordinator is a good one.
    let names = (0..DRAWS).filter_map(|draw| [draw.to_le_bytes(); 16].concat().try_into().ok());
    let names = names.map(|seed: [u8; 32]| NodeKey::from_seed(&seed));
    let key = names.max_by_key(|key| key.id().distance(&args.digest)).context("there is no name to choose")?;
    let keys = ClusterKeys::parse(&fs::read_to_string(&args.cluster_key_file)?)?;
    let config = DiscoveryConfig {
        listen: vec![args.listen],
        bootstrap: vec![args.bootstrap.clone()],
        ..DiscoveryConfig::new(key.clone(), keys.clone())
    };
    let (discovery, mut told) = Discovery::start(config).await?;
    let (endpoint, mut events) = Endpoint::bind(args.listen, &key, keys, TransferConfig::default())?;
    let layout = Layout::new(args.length)?;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut mind = Mind {
        manner: args.manner,
        digest: args.digest,
        layout,
        have: PieceSet::none_of(&layout),
        coming: HashMap::new(),
        discovery: discovery.clone(),
        endpoint,
        peers: HashMap::new(),
        next_slot: 0,
        arrived,
        unread: Vec::new(),
        met: Met::default(),
    };
    let (mut ticks, mut stdin, mut end) = (interval(JOIN_EVERY), tokio::io::stdin(), Vec::new());
    let mut is_ready = false;
    loop {
        tokio::select! {
            _ = stdin.read_to_end(&mut end) => return Ok(mind.met),
            _ = ticks.tick() => {
                if !is_ready && discovery.live().len() == args.daemons {
                    is_ready = true;
                    println!("{READY}");
                    std::io::stdout().flush()?;
                }
                mind.join().await;
            }
            Some(event) = told.recv() => mind.coordinate(event),
            Some(event) = events.recv() => mind.trade(event),
            Some(piece) = arrivals.recv() => mind.took(piece),
        }
    }
}

struct Mind {
    manner: Manner,
    digest: Digest,
    layout: Layout,
    have: PieceSet,
    /// Pieces on their way here, and from whom.
    coming: HashMap<u32, NodeId>,
    discovery: Discovery,
    endpoint: Endpoint,
    peers: HashMap<NodeId, Neighbour>,
    next_slot: u32,
    arrived: mpsc::UnboundedSender<u32>,
    /// What it lets be sent and does not read.
    unread: Vec<PieceStream>,
    met: Met,
}

struct Neighbour {
    peer: Peer,
    have: PieceSet,
    /// Slots that it was promised and has not answered.
    slots: usize,
}

impl Mind {
    /// Says to the coordinator that it is in the swarm.
    async fn join(&self) {
        let Some(coordinator) = self.discovery.closest(&self.digest).await.first().copied() else { return };
        let join = Join {
            digest: self.digest,
            length: Some(self.layout.length()),
            wants: true,
            can_seed: false,
            held: self.have.clone(),
            addresses: self.discovery.my_addresses(),
            zone: String::new(),
            highest: None,
            neighbours: 0,
        };
        self.write(coordinator, ToCoordinator::Join(join));
    }

    fn write(&self, to: NodeId, word: ToCoordinator) {
        // What is lost is said again.
        let _ = self.discovery.send(to, Coordination::ToCoordinator(word));
    }

    fn coordinate(&self, event: shoal_discovery::Event) {
        let shoal_discovery::Event::Message { from, message: Coordination::ToMember(word) } = event else { return };
        match word {
            ToMember::Joined { digest, neighbours: Some(neighbours), .. } if digest == self.digest => {
                for neighbour in neighbours {
                    let endpoint = self.endpoint.clone();
                    tokio::spawn(async move { endpoint.connect(neighbour.node, &neighbour.addresses).await.map(drop) });
                }
            }
            ToMember::Survey { digest } if digest == self.digest => {
                self.write(from, ToCoordinator::Report { digest, held: self.have.clone() });
            }
            ToMember::Ask { digest } => {
                let (addresses, zone) = (self.discovery.my_addresses(), String::new());
                self.write(from, ToCoordinator::Know { digest, grant: None, holding: None, addresses, zone });
            }
            ToMember::Keep { grant } => {
                let grant = grant.grant();
                self.write(from, ToCoordinator::Kept { digest: grant.digest, epoch: grant.epoch });
            }
            ToMember::Probe { digest } => {
                let found = Probe { length: self.layout.length(), visibility: Visibility::Public };
                self.write(from, ToCoordinator::Probed { digest, outcome: Ok(found) });
            }
            _ => {}
        }
    }

    fn trade(&mut self, event: Event) {
        match event {
            Event::Connected(peer) => {
                let node = peer.node();
                self.peers.insert(node, Neighbour { peer, have: PieceSet::none_of(&self.layout), slots: 0 });
                self.greet(node);
            }
            Event::Disconnected { node, .. } => {
                self.peers.remove(&node);
                self.coming.retain(|_, from| *from != node);
            }
            Event::Message { from, letter } if letter.digest == self.digest => {
                letter.messages.into_iter().for_each(|message| self.hear(from, message));
            }
            Event::Piece(incoming) => self.sent(incoming),
            _ => {}
        }
    }

    fn greet(&self, node: NodeId) {
        let (length, have) = (self.layout.length(), self.have.clone());
        self.say(node, Message::Hello(Hello { length, have, wants: true, zone: String::new() }));
    }

    fn say(&self, to: NodeId, message: Message) {
        if let Some(neighbour) = self.peers.get(&to) {
            // To one that has just gone there is nothing to say.
            let _ = neighbour.peer.send(&Letter { digest: self.digest, messages: vec![message] });
        }
    }

    fn hear(&mut self, from: NodeId, message: Message) {
        match message {
            Message::Hello(hello) => {
                if let Some(neighbour) = self.peers.get_mut(&from) {
                    neighbour.have = hello.have;
                }
                self.give_slots(from);
            }
            Message::Have { pieces, .. } => {
                if let Some(neighbour) = self.peers.get_mut(&from) {
                    for piece in pieces {
                        neighbour.have.insert(piece);
                    }
                }
            }
            Message::Slot { slot } => {
                let lacking = |piece: &u32| !self.have.contains(*piece) && !self.coming.contains_key(piece);
                let found = self.peers.get(&from).and_then(|neighbour| neighbour.have.iter().find(lacking));
                self.answer(from, slot, found);
            }
            Message::Offer { slot, piece } => {
                let wanted = !self.have.contains(piece) && !self.coming.contains_key(&piece);
                self.answer(from, slot, Some(piece).filter(|_| wanted));
            }
            Message::Take { .. } => {
                // It was promised, and never comes.
                self.met.asked += 1;
                self.answered(from);
            }
            Message::Pass { .. } => self.answered(from),
            Message::Refuse { piece, .. } => drop(self.coming.remove(&piece)),
            _ => {}
        }
    }

    fn answer(&mut self, from: NodeId, slot: u32, piece: Option<u32>) {
        match piece.filter(|_| self.coming.len() < COMING) {
            Some(piece) => {
                self.coming.insert(piece, from);
                let lacks = Lacks { before: true, behind: true };
                self.say(from, Message::Take { slot, piece, lacks });
            }
            None => self.say(from, Message::Pass { slot }),
        }
    }

    fn answered(&mut self, from: NodeId) {
        if let Some(neighbour) = self.peers.get_mut(&from) {
            neighbour.slots = neighbour.slots.saturating_sub(1);
        }
        self.give_slots(from);
    }

    /// Promises pieces to a neighbour, once there is something to promise.
    fn give_slots(&mut self, to: NodeId) {
        let Some(neighbour) = self.peers.get_mut(&to).filter(|_| !self.have.is_empty()) else { return };
        let more = SLOTS.saturating_sub(neighbour.slots);
        neighbour.slots += more;
        for _ in 0..more {
            self.next_slot += 1;
            self.say(to, Message::Slot { slot: self.next_slot });
        }
    }

    /// Somebody begins to send a piece.
    fn sent(&mut self, incoming: IncomingPiece) {
        self.met.offered += 1;
        let piece = incoming.header().piece;
        let Some(index) = self.layout.piece(piece) else { return };
        let mut stream = incoming.accept(u64::from(self.layout.piece_len(index)));
        if self.manner == Manner::Deaf {
            self.unread.push(stream);
            return;
        }
        let arrived = self.arrived.clone();
        tokio::spawn(async move {
            while let Ok(Some(_)) = stream.read_chunk().await {}
            let _ = arrived.send(piece);
        });
    }

    /// A piece is here: all hear of it, and are promised it.
    fn took(&mut self, piece: u32) {
        self.coming.remove(&piece);
        self.have.insert(piece);
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            self.say(node, Message::Have { pieces: vec![piece], queue: 0 });
            self.give_slots(node);
        }
    }
}
