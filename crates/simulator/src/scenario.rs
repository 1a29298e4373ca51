//! What a run is made of: the fleet, its links, and what goes wrong.

use serde::{Deserialize, Serialize};

/// One run, whole: the same scenario gives the same result on every machine.
///
/// Rates are in bytes a second, times in milliseconds unless their names say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// How many nodes there are; every one wants the blob, unless `begin` says otherwise.
    pub nodes: u32,
    /// How many pieces the blob has: of 1 MiB below 4,096 pieces, of 16 MiB from there on.
    pub pieces: u32,
    /// Pieces of 16 MiB also for fewer; from 2,048 on.
    pub large_pieces: bool,
    /// All chance comes from here.
    pub seed: u64,
    /// A node's uplink.
    pub up: u64,
    /// A node's downlink.
    pub down: u64,
    /// What the origin sends in all.
    pub origin_rate: u64,
    /// What it sends on one connection, and how many a seed opens; `None` where one fills the link.
    pub origin_per_connection: Option<(u64, u32)>,
    /// One way, in microseconds.
    pub latency_us: u64,
    /// Added to it for control messages, at most, in microseconds.
    pub jitter_us: u64,
    /// What part of the control messages is lost.
    pub loss: f64,
    /// What part of the coordination messages comes after later ones.
    pub reordered: f64,
    /// Whether pieces share the links that they have in common, as streams do: dear to reckon, so for small fleets. Else each
    /// link carries one thing after another, which is the best that could be.
    #[serde(default)]
    pub shared_links: bool,
    /// How many zones the nodes are spread over, evenly.
    pub zones: u16,
    /// What each zone's links out and in carry; `None` where they are no limit.
    pub zone_rate: Option<u64>,
    /// How it begins.
    pub begin: Begin,
    /// Nodes whose readers begin not at the beginning but at this percentage.
    pub readers_at: Vec<(u32, u32)>,
    /// How many of the first nodes that ask the origin are answered 401.
    pub refused: u32,
    /// Nodes that are slower than the others from the start.
    pub slow: Option<Slow>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Begin {
    /// Nodes that have known each other for long all want the blob, within ten milliseconds.
    Together,
    /// The same, but so many of a hundred come later, at random within so long.
    Late {
        /// How many of a hundred.
        percent: u32,
        /// Within how long.
        within: u64,
    },
    /// All nodes start, know nobody, and want the blob at once.
    Cold,
    /// All nodes have just started again, holding the blob, but the last, which wants it.
    Holding,
}

/// Nodes that are slower than the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slow {
    /// How many of a hundred.
    pub percent: u32,
    /// What part of the others' rates they have, in a hundred.
    pub speed: u32,
    /// Whether they know, as one does whose operator has set a limit.
    #[serde(default)]
    pub known: bool,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When.
    pub when: When,
    /// To whom.
    pub whom: Whom,
    /// What.
    pub what: What,
}

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// So long after the beginning.
    At(u64),
    /// When so many of a hundred pieces have been read from the origin.
    Read(u32),
}

/// Whom something happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whom {
    /// The node that holds the lease then.
    Seed,
    /// The live node closest to the digest.
    Coordinator,
    /// This one.
    Node(u32),
    /// So many of a hundred, neither the first seed nor the coordinator, each at a random moment from then until so much
    /// later.
    Percent(u32, u64),
    /// Everybody.
    All,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// The process dies, and comes back with its pieces after so long, if at all. Its kernel answers for it, so that those
    /// who are connected hear of it at once; when the machine is gone, they only notice.
    Dies {
        /// Whether the machine is gone.
        silent: bool,
        /// After how long it is back.
        back: Option<u64>,
    },
    /// It does nothing for so long; its connections stay.
    Hangs(u64),
    /// Its links have so many of a hundred of their rates from then on.
    Slows(u32),
    /// The nodes with odd numbers are cut off from the others for so long.
    Parted(u64),
}

impl Scenario {
    /// Many nodes of 200 Mbit/s that want a blob at the same moment, from an origin that is as fast as one of them.
    #[must_use]
    pub const fn flash(nodes: u32, pieces: u32) -> Self {
        const RATE: u64 = 25_000_000;
        Self {
            nodes,
            pieces,
            large_pieces: false,
            seed: 1,
            up: RATE,
            down: RATE,
            origin_rate: RATE,
            origin_per_connection: None,
            latency_us: 500,
            jitter_us: 100,
            loss: 0.0,
            reordered: 0.0,
            shared_links: false,
            zones: 1,
            zone_rate: None,
            begin: Begin::Together,
            readers_at: Vec::new(),
            refused: 0,
            slow: None,
            faults: Vec::new(),
        }
    }

    /// How large a piece is, in bytes.
    #[must_use]
    pub const fn piece_bytes(&self) -> u64 {
        if self.large_pieces || self.pieces >= 4096 { 16 << 20 } else { 1 << 20 }
    }

    /// How long the blob is, in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.piece_bytes() * self.pieces as u64
    }

    /// How fast one seed can read the origin.
    #[must_use]
    pub fn reading_rate(&self) -> u64 {
        let connections =
            self.origin_per_connection.map_or(u64::MAX, |(rate, count)| rate.saturating_mul(count.into()));
        self.origin_rate.min(connections)
    }

    /// Whether it can be run at all.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let wrong = if self.nodes == 0 || self.nodes > 100_000 {
            format!("{} nodes: from 1 to 100000 can be simulated", self.nodes)
        } else if self.pieces == 0 || self.pieces > 1 << 20 {
            format!("{} pieces: a blob has from 1 to 1048576", self.pieces)
        } else if self.large_pieces && self.pieces < 2048 {
            format!("{} pieces of 16 MiB: a blob of fewer than 2048 is cut into smaller ones", self.pieces)
        } else if self.up.min(self.down).min(self.reading_rate()) == 0 {
            "a rate of nothing".to_owned()
        } else if self.zones == 0 || u32::from(self.zones) > self.nodes {
            format!("{} zones for {} nodes", self.zones, self.nodes)
        } else if self.readers_at.iter().any(|(node, percent)| *node >= self.nodes || *percent >= 100) {
            "a reader of a node that is not there, or that begins behind the end".to_owned()
        } else if self.slow.is_some_and(|slow| slow.percent > 100 || slow.speed == 0) {
            "nodes that are slow beyond all measure".to_owned()
        } else if !(0.0..1.0).contains(&self.loss) || !(0.0..=1.0).contains(&self.reordered) {
            format!("a loss of {} and {} out of order: both are parts of one", self.loss, self.reordered)
        } else {
            return Ok(());
        };
        Err(wrong)
    }
}
