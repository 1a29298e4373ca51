//! What one decision of the trade costs while a blob of 1,024, 16,384 or 262,144 pieces is on its way.
//!
//! A node with 20 neighbours has half of the blob; one thing happens, and all that the swarm then says is taken. What has to
//! be done before it can happen again is not measured. The three times of one line should be the same.

use std::{cell::RefCell, hint::black_box, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use shoal_blob::{Digest, Layout, PieceSet};
use shoal_proto::{
    NodeId,
    trade::{Hello, Lacks, Message},
};
use shoal_swarm::{
    Time,
    trade::{Capacity, Fault, Input, Output, ReaderId, Settings, SlotId, Source, Swarm},
};

const SIZES: [u32; 3] = [1024, 16_384, 262_144];
const NEIGHBOURS: u8 = 20;
/// One size for all blobs, so that nothing but the number of pieces differs.
const PIECE_BYTES: u32 = 1 << 20;
const DIGEST: Digest = Digest::Sha256([7; 32]);
const READER: ReaderId = ReaderId(0);
const RTT: Duration = Duration::from_millis(1);
/// How long an upload takes.
const PIECE_TIME: Duration = Duration::from_millis(10);
/// How far the nodes differ, in pieces from the half on.
const AHEAD: u32 = 128;
/// The neighbour that is behind, or was demoted.
const ODD_ONE: u8 = 3;

/// A swarm in the midst of a transfer, and what it said last.
struct Trading {
    swarm: Swarm,
    capacity: Capacity,
    layout: Layout,
    now: Time,
    said: Vec<Output>,
    /// Slots that it gives and offers it makes at this moment, with the pieces it offers.
    given: Vec<(NodeId, SlotId, Option<u32>)>,
    /// The slot whose piece is on its way from here.
    uploading: Option<SlotId>,
    /// The piece that was taken last, and from whom.
    taken: Option<(u32, Source)>,
    /// The pieces that were asked of the origin and have not come, in order.
    ordered: Vec<u32>,
    turn: u32,
}

fn neighbour(number: u8) -> NodeId {
    NodeId::from_bytes([number + 1; 32])
}

fn first(many: u32, pieces: u32) -> PieceSet {
    let mut set = PieceSet::empty(pieces);
    for piece in 0..many {
        set.insert(piece);
    }
    set
}

impl Trading {
    /// All have the first half and, behind it, some others each.
    fn halfway(pieces: u32) -> Self {
        let mut chance = Xoshiro256PlusPlus::seed_from_u64(1);
        Self::new(pieces, |_| {
            let mut have = first(pieces / 2, pieces);
            for piece in pieces / 2 + 1..pieces / 2 + AHEAD {
                if chance.random_bool(0.5) {
                    have.insert(piece);
                }
            }
            have
        })
    }

    /// The same, and one neighbour has far less.
    fn with_one_behind(pieces: u32) -> Self {
        Self::new(pieces, |who| first(if who == Some(ODD_ONE) { 500 } else { pieces / 2 }, pieces))
    }

    /// Halfway, with a reader that has hardly begun.
    fn with_a_slow_reader(pieces: u32) -> Self {
        let mut this = Self::halfway(pieces);
        this.read_at(10);
        this
    }

    /// One neighbour has missed three deadlines.
    fn with_one_demoted(pieces: u32) -> Self {
        let mut this = Self::halfway(pieces);
        for _ in 0..3 {
            this.get_slot(neighbour(ODD_ONE));
        }
        for _ in 0..2 {
            this.now = this.now + Settings::default().shortest_deadline * 2;
            this.tell(Input::TimeOut);
        }
        this.note();
        this.taken = None;
        this
    }

    /// It holds the lease, and all others are a few pieces behind.
    fn seeding(pieces: u32) -> Self {
        let mut this = Self::new(pieces, |who| first(pieces / 2 - if who.is_some() { 4 } else { 0 }, pieces));
        this.tell(Input::Appointed { elsewhere: PieceSet::empty(pieces) });
        this.note();
        this
    }

    /// It holds the lease and cannot read on: the midstate comes with a piece that a neighbour has.
    fn seeding_behind_a_gap(pieces: u32) -> Self {
        let have = |who: Option<u8>| first(pieces / 2 + if who.is_some() { 8 } else { 0 }, pieces);
        let mut this = Self::new(pieces, have);
        this.tell(Input::Appointed { elsewhere: PieceSet::empty(pieces) });
        this.note();
        assert!(this.ordered.is_empty(), "nothing can be read");
        this
    }

    /// This node has what `have` says of nobody, each neighbour what it says of its number.
    fn new(pieces: u32, mut have: impl FnMut(Option<u8>) -> PieceSet) -> Self {
        let length = u64::from(pieces) * u64::from(PIECE_BYTES);
        let layout = Layout::with_piece_bytes(length, PIECE_BYTES).expect("a blob of less than 16 TiB");
        let mine = have(None);
        let mut chain = PieceSet::empty(pieces + 1);
        for piece in mine.iter() {
            chain.insert(piece);
            chain.insert(piece + 1);
        }
        let me = NodeId::from_bytes([0; 32]);
        let swarm = Swarm::new(Time::ZERO, me, DIGEST, layout, Settings::default(), "here".to_owned(), 1);
        let mut this = Self {
            swarm: swarm.holding(mine, &chain),
            capacity: Capacity::new(2, 64 << 20),
            layout,
            now: Time::ZERO,
            said: Vec::new(),
            given: Vec::new(),
            uploading: None,
            taken: None,
            ordered: Vec::new(),
            turn: 0,
        };
        this.tell(Input::Wants(true));
        for number in 0..NEIGHBOURS {
            let node = neighbour(number);
            let hello = Hello { length, have: have(Some(number)), wants: true, zone: "here".to_owned() };
            this.tell(Input::Met { node, rtt: RTT });
            this.say(node, Message::Hello(hello));
        }
        this.read_at(pieces / 2);
        // So that it knows how long a piece takes.
        for _ in 0..3 {
            let from = this.next_neighbour();
            this.get_slot(from);
            this.now = this.now + PIECE_TIME;
            if this.taken.is_some() {
                let stored = this.comes();
                this.tell(stored);
                this.lose();
            }
        }
        this
    }

    /// One thing happens: what is measured.
    fn tell(&mut self, input: Input) {
        self.swarm.handle(self.now, input, &mut self.capacity);
        while let Some(output) = self.swarm.poll() {
            self.said.push(output);
        }
        black_box(self.swarm.poll_timeout());
    }

    /// Takes note of what was said.
    fn note(&mut self) {
        for output in self.said.drain(..) {
            match output {
                Output::Send { to, message: Message::Slot { slot } } => self.given.push((to, slot, None)),
                Output::Send { to, message: Message::Offer { slot, piece } } => {
                    self.given.push((to, slot, Some(piece)));
                }
                Output::Expect { piece, from, .. } => self.taken = Some((piece.get(), Source::Neighbour(from))),
                Output::FetchOrigin { piece } => self.ordered.push(piece.get()),
                _ => {}
            }
        }
    }

    fn say(&mut self, from: NodeId, message: Message) {
        self.tell(Input::Heard { from, message });
        self.note();
    }

    fn read_at(&mut self, piece: u32) {
        let piece = self.layout.piece(piece).expect("a piece of the blob");
        self.tell(Input::ReaderAt { reader: READER, piece });
        self.note();
    }

    /// Each neighbour in turn, but the odd one.
    fn next_neighbour(&mut self) -> NodeId {
        self.turn += 1;
        let number = (self.turn % u32::from(NEIGHBOURS)) as u8;
        neighbour(if number == ODD_ONE { number + 1 } else { number })
    }

    fn slot_of(&mut self, from: NodeId) -> Input {
        self.turn += 1;
        Input::Heard { from, message: Message::Slot { slot: self.turn } }
    }

    fn get_slot(&mut self, from: NodeId) {
        let slot = self.slot_of(from);
        self.tell(slot);
        self.note();
    }

    /// The piece that was taken last comes.
    fn comes(&mut self) -> Input {
        let (piece, from) = self.taken.expect("a piece was taken");
        Input::Stored { piece: self.layout.piece(piece).expect("a piece of the blob"), from }
    }

    /// The piece that was taken last is no longer in the store.
    fn lose(&mut self) {
        if let Some((piece, _)) = self.taken.take() {
            self.tell(Input::Lost { pieces: vec![piece] });
            self.note();
        }
    }

    /// The piece that was taken last does not come.
    fn miss(&mut self) {
        if let Some((piece, from)) = self.taken.take() {
            let piece = self.layout.piece(piece).expect("a piece of the blob");
            self.tell(Input::Missed { piece, from, fault: Fault::Broken });
            self.note();
        }
    }

    /// A neighbour answers the slot that it was given last, with a piece that was offered or an early one.
    fn take(&mut self) -> Input {
        let (from, slot, offered) = self.given.pop().expect("a slot was given");
        self.uploading = Some(slot);
        Input::Heard { from, message: Message::Take { slot, piece: offered.unwrap_or(1), lacks: Lacks::default() } }
    }

    fn arrives(&mut self) -> Input {
        let slot = self.uploading.take().expect("a piece is on its way");
        Input::Uploaded { slot, arrived: true }
    }
}

/// Measures one input, which `prepare` makes ready again and again.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    make: impl Fn(u32) -> Trading,
    prepare: impl Fn(&mut Trading) -> Input,
) {
    let mut group = criterion.benchmark_group(name);
    for pieces in SIZES {
        let trading = RefCell::new(make(pieces));
        group.bench_function(BenchmarkId::from_parameter(pieces), |bencher| {
            let setup = || {
                let mut trading = trading.borrow_mut();
                trading.note();
                prepare(&mut trading)
            };
            bencher.iter_batched(setup, |input| trading.borrow_mut().tell(input), BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn receiving(criterion: &mut Criterion) {
    let next_slot = |trading: &mut Trading| {
        trading.miss();
        let from = trading.next_neighbour();
        trading.slot_of(from)
    };
    let slot_of_odd_one = |trading: &mut Trading| {
        assert_eq!(trading.taken, None, "it was passed");
        trading.slot_of(neighbour(ODD_ONE))
    };
    measure(criterion, "slot is answered by a take", Trading::halfway, next_slot);
    measure(criterion, "slot, while a reader is far behind", Trading::with_a_slow_reader, next_slot);
    measure(criterion, "slot of one that has nothing", Trading::with_one_behind, slot_of_odd_one);
    measure(criterion, "slot of one that was demoted", Trading::with_one_demoted, slot_of_odd_one);
    measure(criterion, "piece has come", Trading::halfway, |trading| {
        trading.lose();
        let from = trading.next_neighbour();
        trading.get_slot(from);
        trading.comes()
    });
    measure(criterion, "its have goes to all", Trading::halfway, |trading| {
        trading.lose();
        for (from, slot, _) in std::mem::take(&mut trading.given) {
            trading.say(from, Message::Pass { slot });
        }
        let from = trading.next_neighbour();
        trading.get_slot(from);
        let stored = trading.comes();
        trading.tell(stored);
        trading.note();
        trading.now = trading.now + 8 * PIECE_TIME;
        Input::TimeOut
    });
    measure(criterion, "have is heard", Trading::halfway, have_is_heard);
}

fn have_is_heard(trading: &mut Trading) -> Input {
    let (from, piece) = (trading.next_neighbour(), trading.layout.count() / 2 + 200);
    trading.say(from, Message::Lost { pieces: vec![piece] });
    Input::Heard { from, message: Message::Have { pieces: vec![piece], queue: 2 } }
}

fn giving(criterion: &mut Criterion) {
    measure(criterion, "take is given", Trading::with_one_behind, |trading| {
        if trading.uploading.is_some() {
            let arrived = trading.arrives();
            trading.tell(arrived);
            trading.note();
        }
        trading.take()
    });
    measure(criterion, "slot is free for another", Trading::halfway, |trading| {
        let take = trading.take();
        trading.tell(take);
        trading.note();
        trading.arrives()
    });
}

fn seeding(criterion: &mut Criterion) {
    measure(criterion, "seed has read a piece and offers it", Trading::seeding, |trading| {
        // What it read last is taken, and is told to be there.
        while let Some((from, _, offered)) = trading.given.last().copied() {
            let take = trading.take();
            trading.tell(take);
            let arrived = trading.arrives();
            trading.tell(arrived);
            trading.say(from, Message::Have { pieces: offered.into_iter().collect(), queue: 1 });
            trading.given.retain(|(_, _, offered)| offered.is_some());
        }
        if trading.ordered.last().is_some_and(|&piece| piece + 2 > trading.layout.count()) {
            *trading = Trading::seeding(trading.layout.count());
        }
        let piece = trading.layout.piece(trading.ordered.remove(0)).expect("a piece of the blob");
        Input::Stored { piece, from: Source::Origin }
    });
    measure(criterion, "have is heard by a seed behind a gap", Trading::seeding_behind_a_gap, |trading| {
        assert!(trading.ordered.is_empty(), "nothing can be read");
        have_is_heard(trading)
    });
}

criterion_group! {
    name = decisions;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = receiving, giving, seeding
}
criterion_main!(decisions);
