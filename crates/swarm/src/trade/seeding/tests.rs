//! What a seed reads, and gives out.

use shoal_blob::{Digest, Layout};
use shoal_proto::{
    NodeId,
    trade::{Hello, Lacks, Message},
};

use super::*;
use crate::trade::{Fault, Input, ReaderId, Settings};

const PIECES: u32 = 4;
const OTHER: NodeId = NodeId::from_bytes([2; 32]);

/// One node and its neighbour.
struct Scene {
    now: Time,
    swarm: Swarm,
    capacity: Capacity,
    said: Vec<Output>,
}

impl Scene {
    /// A node that has `mine`, and a neighbour that has `theirs`.
    fn of(mine: PieceSet, theirs: PieceSet) -> Self {
        let layout = Layout::with_piece_bytes(u64::from(PIECES) << 20, 1 << 20).unwrap();
        let (me, digest) = (NodeId::from_bytes([1; 32]), Digest::Sha256([7; 32]));
        let mut chain = PieceSet::empty(PIECES + 1);
        for piece in mine.iter() {
            chain.insert(piece + 1);
        }
        let swarm =
            Swarm::new(Time::ZERO, me, digest, layout, Settings::default(), String::new(), 1).holding(mine, &chain);
        let mut this = Self { now: Time::ZERO, swarm, capacity: Capacity::new(1, 64 << 20), said: Vec::new() };
        this.tell(Input::Wants(true));
        this.tell(Input::Met { node: OTHER, rtt: Duration::from_millis(1) });
        let zone = String::new();
        this.hear(Message::Hello(Hello { length: layout.length(), have: theirs, wants: true, zone }));
        this
    }

    /// A node that has the first piece, and awaits the second of a neighbour that has them all.
    fn new() -> Self {
        let mut first = PieceSet::empty(PIECES);
        first.insert(0);
        let mut this = Self::of(first, PieceSet::full(PIECES));
        let piece = this.swarm.layout.piece(1).unwrap();
        this.tell(Input::ReaderAt { reader: ReaderId(0), piece });
        this.hear(Message::Slot { slot: 0 });
        assert!(this.said.iter().any(|output| matches!(output, Output::Expect { piece, .. } if piece.get() == 1)));
        this
    }

    fn tell(&mut self, input: Input) {
        self.swarm.handle(self.now, input, &mut self.capacity);
        self.said.extend(std::iter::from_fn(|| self.swarm.poll()));
    }

    fn hear(&mut self, message: Message) {
        self.tell(Input::Heard { from: OTHER, message });
    }

    /// The neighbour has none of it any longer, and this node is to read what is missing.
    fn succeed(&mut self) {
        self.hear(Message::Lost { pieces: (0..PIECES).collect() });
        self.appoint(PieceSet::empty(PIECES));
        assert_eq!(self.read(), [], "the second piece may still come, and those behind it cannot be hashed");
    }

    fn appoint(&mut self, elsewhere: PieceSet) {
        self.tell(Input::Appointed { elsewhere });
    }

    /// What the origin was asked for.
    fn read(&self) -> Vec<u32> {
        let read = |output: &Output| if let Output::FetchOrigin { piece } = output { Some(piece.get()) } else { None };
        self.said.iter().filter_map(read).collect()
    }

    fn stored(&mut self, piece: u32, from: Source) {
        let piece = self.swarm.layout.piece(piece).unwrap();
        self.tell(Input::Stored { piece, from });
    }

    fn wait_for(&mut self, limit: Duration, until: impl Fn(&Self) -> bool) {
        while !until(self) {
            let (at, _) = self.swarm.poll_timeout().expect("it has something to wait for");
            assert!(at <= Time::ZERO + limit, "nothing came of it in {limit:?}: {:?}", self.said);
            self.now = self.now.max(at);
            self.tell(Input::TimeOut);
        }
    }

    /// A seed that has nothing yet, and one neighbour that has nothing either.
    fn empty() -> Self {
        let mut this = Self::of(PieceSet::empty(PIECES), PieceSet::empty(PIECES));
        this.appoint(PieceSet::empty(PIECES));
        this
    }

    /// The neighbour takes what was offered last.
    fn take_offer(&mut self) {
        let last = self.said.iter().rev().find_map(|output| match output {
            Output::Send { message: Message::Offer { slot, piece }, .. } => Some((*slot, *piece)),
            _ => None,
        });
        let (slot, piece) = last.expect("something was offered");
        self.hear(Message::Take { slot, piece, lacks: Lacks { before: false, behind: true } });
    }

    fn slots(&self) -> usize {
        let slot = |output: &&Output| matches!(output, Output::Send { message: Message::Slot { .. }, .. });
        self.said.iter().filter(slot).count()
    }
}

#[test]
fn a_seed_gives_no_second_copy_while_it_reads() {
    let mut scene = Scene::empty();
    assert_eq!(scene.read(), [0, 1, 2, 3]);
    for piece in 0..PIECES {
        assert_eq!(scene.slots(), 0, "its neighbour lacks what is on its way, and may not pick it");
        scene.stored(piece, Source::Origin);
        scene.take_offer();
    }
    assert_eq!(scene.slots(), 0, "the uplink is busy");
    scene.hear(Message::Have { pieces: vec![1, 2, 3], queue: 0 });
    for slot in 1..PIECES {
        scene.tell(Input::Uploaded { slot, arrived: true });
    }
    assert_eq!(scene.slots(), 1, "all is read: it may pick the first, which is late");
}

/// Found by a test in which a seed threw away what it had given out: its successor had passed over a piece that the
/// other was to send, was refused it, and waited for ever.
#[test]
fn what_a_neighbour_does_not_send_after_all_is_read_from_the_origin() {
    let mut refused = Scene::new();
    refused.succeed();
    refused.hear(Message::Refuse { slot: 0, piece: 1 });
    assert_eq!(refused.read(), [1, 2, 3]);

    let mut broken = Scene::new();
    broken.succeed();
    let piece = broken.swarm.layout.piece(1).unwrap();
    broken.tell(Input::Missed { piece, from: Source::Neighbour(OTHER), fault: Fault::Broken });
    assert_eq!(broken.read(), [1, 2, 3]);

    let mut silent = Scene::new();
    silent.succeed();
    silent.wait_for(Duration::from_secs(11), |scene| !scene.read().is_empty());
    assert_eq!(silent.read(), [1, 2, 3]);
}

/// Found by the simulation of a seed that died: its neighbours held what it had read for theirs until its connections
/// were given up, ten seconds later.
#[test]
fn what_only_one_who_does_not_answer_has_is_read_from_the_origin() {
    let mut scene = Scene::new();
    scene.hear(Message::Refuse { slot: 0, piece: 1 });
    scene.appoint(PieceSet::empty(PIECES));
    scene.wait_for(Duration::from_secs(6), |scene| !scene.read().is_empty());
    let calls = scene.said.iter().filter(|output| matches!(output, Output::Send { message: Message::Want { .. }, .. }));
    assert!(calls.count() > 0, "it was asked before");
    assert_eq!(scene.read(), [1, 2, 3]);

    let mut answered = Scene::new();
    answered.hear(Message::Refuse { slot: 0, piece: 1 });
    answered.appoint(PieceSet::empty(PIECES));
    for _ in 0..100 {
        answered.now = answered.now + Duration::from_millis(500);
        answered.tell(Input::TimeOut);
        answered.hear(Message::Have { pieces: vec![0], queue: 0 });
    }
    assert_eq!(answered.read(), [], "it is only slow");
}

#[test]
fn what_others_have_no_longer_by_the_word_of_the_coordinator_is_read() {
    let mut scene = Scene::new();
    scene.tell(Input::Parted { node: OTHER });
    scene.appoint(PieceSet::full(PIECES));
    assert_eq!(scene.read(), []);
    scene.appoint(PieceSet::empty(PIECES));
    assert_eq!(scene.read(), [1, 2, 3]);
}

#[test]
fn a_piece_that_comes_from_both_sides_is_counted_once() {
    let mut scene = Scene::new();
    scene.succeed();
    scene.wait_for(Duration::from_secs(11), |scene| !scene.read().is_empty());
    // It had come just before it was given up, and that was not known yet.
    scene.stored(1, Source::Neighbour(OTHER));
    for piece in 1..PIECES {
        scene.stored(piece, Source::Origin);
    }
    let (origin_in_flight, inflow) = (scene.swarm.seeding.as_ref().unwrap().in_flight, scene.capacity.inflow());
    assert_eq!((origin_in_flight, inflow), (0, 0));
}
