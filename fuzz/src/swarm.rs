//! One swarm, driven as it has to be, among neighbours that say whatever they like.
//!
//! The driver keeps its side of the contract; the neighbours keep none.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use shoal_blob::{Digest, Layout, PieceSet};
use shoal_proto::{
    NodeId,
    codec::{self, MAX_TRADE_BODY},
    trade::{Hello, Lacks, MAX_BATCH, Message},
};
use shoal_swarm::{
    Time,
    trade::{Capacity, Fault, Input, Output, ReaderId, Settings, Source, Swarm},
};

use crate::menu::Menu;

const PIECES: u32 = 40;
const PIECE_BYTES: u32 = 1 << 20;
const INFLOW: u64 = 16 << 20;
const NODES: usize = 6;
/// More than a swarm of that size has to say after anything.
const MOST_OUTPUTS: usize = 20_000;
const DIGEST: Digest = Digest::Sha256([7; 32]);

/// Choices of what happens next.
pub fn eat(bytes: &[u8]) {
    let mut menu = Menu(bytes);
    let mut driver = Driver::new(&mut menu);
    while !menu.is_over() {
        driver.step(&mut menu);
    }
    driver.end();
}

struct Driver {
    now: Time,
    layout: Layout,
    swarm: Swarm,
    capacity: Capacity,
    stored: PieceSet,
    /// Which pieces are on their way here, and from whom.
    expected: BTreeSet<(u32, Source)>,
    /// Which pieces leave, by their slot.
    uploads: BTreeMap<u32, (NodeId, u32)>,
    /// Who has been introduced and not taken leave of.
    met: BTreeSet<NodeId>,
    leased: bool,
}

fn node(number: usize) -> NodeId {
    NodeId::from_bytes([number as u8; 32])
}

fn some_pieces(menu: &mut Menu<'_>) -> Vec<u32> {
    (0..menu.of(12)).map(|_| menu.near(PIECES)).collect()
}

fn some_set(menu: &mut Menu<'_>, size: u32) -> PieceSet {
    let mut set = if menu.yes() { PieceSet::full(size) } else { PieceSet::empty(size) };
    for piece in some_pieces(menu) {
        if menu.yes() {
            set.insert(piece)
        } else {
            set.remove(piece)
        };
    }
    set
}

fn message(menu: &mut Menu<'_>) -> Message {
    let (slot, piece) = (menu.near(40), menu.near(PIECES));
    match menu.of(14) {
        0 => {
            let size = if menu.byte() == 255 { menu.near(4000) } else { PIECES };
            let length = if menu.byte() == 255 { menu.u64() } else { u64::from(PIECES) << 20 };
            let zone = if menu.yes() { "there" } else { "" };
            Message::Hello(Hello { length, have: some_set(menu, size), wants: menu.yes(), zone: zone.to_owned() })
        }
        1 | 2 => Message::Have { pieces: some_pieces(menu), queue: menu.byte().into() },
        3 => Message::Lost { pieces: some_pieces(menu) },
        4 | 5 => Message::Slot { slot },
        6 => Message::Offer { slot, piece },
        7 | 8 => Message::Take { slot, piece, lacks: Lacks { before: menu.yes(), behind: menu.yes() } },
        9 => Message::Pass { slot },
        10 => Message::Want { piece },
        11 => Message::Cancel { piece },
        12 => Message::Refuse { slot, piece },
        // Whatever can be read.
        _ => codec::decode(menu.run()).unwrap_or(Message::Bye),
    }
}

impl Driver {
    fn new(menu: &mut Menu<'_>) -> Self {
        let layout = Layout::with_piece_bytes(u64::from(PIECES) << 20, PIECE_BYTES).expect("a layout");
        let zone = if menu.yes() { "here" } else { "" };
        let swarm =
            Swarm::new(Time::ZERO, node(0), DIGEST, layout, Settings::default(), zone.to_owned(), menu.byte().into());
        let mut stored = PieceSet::none_of(&layout);
        let mut chain = PieceSet::empty(PIECES + 1);
        if menu.yes() {
            stored = some_set(menu, PIECES);
            chain = some_set(menu, PIECES + 1);
        }
        let swarm = swarm.holding(stored.clone(), &chain);
        Self {
            now: Time::ZERO,
            layout,
            swarm,
            capacity: Capacity::new(1 + u32::from(menu.yes()), INFLOW),
            stored,
            expected: BTreeSet::new(),
            uploads: BTreeMap::new(),
            met: BTreeSet::new(),
            leased: false,
        }
    }

    fn step(&mut self, menu: &mut Menu<'_>) {
        let other = node(1 + menu.of(NODES));
        let input = match menu.of(25) {
            0 | 1 => {
                self.met.insert(other);
                Input::Met { node: other, rtt: menu.span() }
            }
            2..12 => Input::Heard { from: other, message: message(menu) },
            12 => {
                self.now = self.now + menu.span();
                Input::Turn
            }
            13 | 14 => return self.wake(),
            15 | 16 => match self.arrived(menu) {
                Some(input) => input,
                None => return,
            },
            17 => match self.uploads.keys().nth(menu.of(8)).copied() {
                Some(slot) => {
                    self.uploads.remove(&slot);
                    Input::Uploaded { slot, arrived: menu.yes() }
                }
                None => return,
            },
            18 => Input::Wants(menu.yes()),
            19 => {
                let reader = ReaderId(u64::from(menu.byte() & 3));
                match self.layout.piece(u32::from(menu.byte()) % PIECES) {
                    Some(piece) if menu.yes() => Input::ReaderAt { reader, piece },
                    _ => Input::ReaderGone { reader },
                }
            }
            20 => {
                self.leased = menu.yes();
                if self.leased { Input::Appointed { elsewhere: some_set(menu, PIECES) } } else { Input::Dismissed }
            }
            21 => {
                let first = u32::from(menu.byte()) % (PIECES + 1);
                let end = (first + u32::from(menu.byte() & 15)).min(PIECES + 1);
                if menu.byte() == 255 { Input::ChainFell } else { Input::Chained { boundaries: first..end } }
            }
            22 => {
                self.met.remove(&other);
                if menu.yes() { Input::Left { node: other } } else { Input::Parted { node: other } }
            }
            23 => Input::Importers((0..menu.of(NODES + 1)).map(node).collect()),
            _ => {
                let lost: Vec<u32> = some_pieces(menu).into_iter().filter(|piece| self.stored.remove(*piece)).collect();
                Input::Lost { pieces: lost }
            }
        };
        self.handle(input);
    }

    /// One of the pieces that are on their way has come, or has not.
    fn arrived(&mut self, menu: &mut Menu<'_>) -> Option<Input> {
        let (number, from) = *self.expected.iter().nth(menu.of(16))?;
        self.expected.remove(&(number, from));
        let piece = self.layout.piece(number)?;
        Some(match menu.of(4) {
            0 => Input::Missed { piece, from, fault: Fault::WrongBytes },
            1 => Input::Missed { piece, from, fault: Fault::Broken },
            _ => {
                self.stored.insert(number);
                Input::Stored { piece, from }
            }
        })
    }

    /// Sleeps until the swarm wants to be woken; what it wants then must not be at once, again and again.
    fn wake(&mut self) {
        let mut at_once = 0;
        while let Some((at, why)) = self.swarm.poll_timeout() {
            let later = at > self.now;
            if later && at_once > 0 {
                return;
            }
            self.now = self.now.max(at);
            self.handle(Input::TimeOut);
            at_once += 1;
            assert!(at_once < 200, "{why:?} is due again and again at {:?}", self.now);
            if later {
                return;
            }
        }
    }

    fn handle(&mut self, input: Input) {
        self.swarm.handle(self.now, input, &mut self.capacity);
        let mut outputs = 0;
        while let Some(output) = self.swarm.poll() {
            outputs += 1;
            assert!(outputs < MOST_OUTPUTS, "no end of outputs");
            self.take(output);
        }
        while self.capacity.next_turn().is_some() {
            self.swarm.handle(self.now, Input::Turn, &mut self.capacity);
            while let Some(output) = self.swarm.poll() {
                self.take(output);
            }
            outputs += 1;
            assert!(outputs < MOST_OUTPUTS, "no end of turns");
        }
        self.check();
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Send { message, .. } => {
                assert!(codec::body(&message, MAX_TRADE_BODY).is_ok(), "a message that no frame holds");
                match &message {
                    Message::Have { pieces, .. } => {
                        assert!(pieces.len() <= MAX_BATCH);
                        assert!(pieces.iter().all(|piece| self.stored.contains(*piece)), "{message:?} is not true");
                    }
                    Message::Offer { piece, .. } => assert!(self.stored.contains(*piece), "{message:?}"),
                    Message::Take { piece, .. } => assert!(*piece < PIECES && !self.stored.contains(*piece)),
                    _ => {}
                }
            }
            Output::FetchOrigin { piece } => {
                assert!(self.leased, "read without a lease");
                assert!(!self.stored.has(piece), "piece {piece} is here and is read again");
                assert!(self.expected.insert((piece.get(), Source::Origin)), "piece {piece} is read twice");
            }
            Output::CancelOrigin => self.expected.retain(|(_, from)| *from != Source::Origin),
            Output::Expect { piece, from, .. } => {
                assert!(!self.stored.has(piece), "piece {piece} is here and is taken again");
                // Twice of one is no fault: in a slot and as an offer, and one stream will do.
                self.expected.insert((piece.get(), Source::Neighbour(from)));
            }
            Output::Abandon { piece, from } => {
                self.expected.remove(&(piece.get(), Source::Neighbour(from)));
            }
            Output::Upload { to, piece, slot, .. } => {
                assert!(self.stored.has(piece), "piece {piece} is not here and is sent");
                assert!(self.uploads.insert(slot, (to, piece.get())).is_none(), "slot {slot} is used twice at a time");
            }
            Output::CancelUpload { slot } => {
                self.uploads.remove(&slot);
            }
            Output::ShutOut { span, .. } => assert!(span > Duration::ZERO),
            Output::Complete => assert!(self.stored.is_full()),
            Output::LeaseDone | Output::Orphaned => {}
        }
    }

    fn check(&self) {
        assert_eq!(self.swarm.have(), &self.stored, "what is stored");
        assert!(self.capacity.inflow() <= INFLOW, "{} bytes may come", self.capacity.inflow());
        let state = self.swarm.state();
        assert!(state.neighbours as usize <= self.met.len(), "{state:?} with {} met", self.met.len());
    }

    /// All that the swarm held of the node's capacity is free again.
    fn end(mut self) {
        self.swarm.dissolve(self.now, &mut self.capacity);
        assert_eq!(self.capacity.inflow(), 0, "bytes that nobody will send are still counted on");
        assert_eq!(self.capacity.open(), 0, "slots that nobody uses are still open");
    }
}
