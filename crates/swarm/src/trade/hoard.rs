//! What neighbours were given by the seed and have not passed on.
//!
//! A member that takes pieces and sends none is never busy: by what it says of its load it would be offered each fresh piece, the
//! seed would count on it to spread them, and the fleet would wait until the seed comes back to them. So what a neighbour alone
//! has counts as its load, and what it has had alone for far longer than others have theirs is offered once more, to another.

use std::{collections::VecDeque, time::Duration};

use shoal_proto::NodeId;

use super::{Swarm, Why};
use crate::Time;

/// How many times as long as its like a neighbour may keep a piece for itself. In a large fleet a piece goes round among those
/// whom the seed does not see first: how long that takes only the other neighbours tell.
const LONGER: u32 = 3;
/// It may keep a piece for so long in any case.
const ALWAYS: Duration = Duration::from_secs(2);

/// The pieces that one neighbour has of this seed and that no other neighbour has yet, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Hoard(VecDeque<(Time, u32)>);

impl Hoard {
    pub(super) fn count(&self) -> u32 {
        self.0.len() as u32
    }

    fn since(&self) -> Option<Time> {
        self.0.front().map(|(since, _)| *since)
    }

    fn remove(&mut self, piece: u32) {
        self.0.retain(|(_, hoarded)| *hoarded != piece);
    }
}

impl Swarm {
    /// A neighbour said that it has a piece, and its copies were counted.
    pub(super) fn note_spread(&mut self, now: Time, node: NodeId, piece: u32) {
        if self.seeding.is_none() || !self.have.contains(piece) {
            return;
        }
        match self.copies[piece as usize] {
            1 => {
                if let Some(neighbour) = self.neighbours.get_mut(&node).filter(|neighbour| !neighbour.abroad) {
                    neighbour.hoard.0.push_back((now, piece));
                }
            }
            2 => self.neighbours.values_mut().for_each(|neighbour| neighbour.hoard.remove(piece)),
            _ => {}
        }
    }

    /// The neighbour that hoards the oldest piece, since when, and since when the others do, by the median of them.
    fn hoarder(&self) -> Option<(NodeId, Time, Option<Time>)> {
        self.seeding.as_ref()?;
        let near = self.neighbours.iter().filter(|(_, neighbour)| neighbour.greeted && !neighbour.abroad);
        let mut all: Vec<(Option<Time>, NodeId)> =
            near.map(|(node, neighbour)| (neighbour.hoard.since(), *node)).collect();
        // Those that hoard nothing come last.
        all.sort_unstable_by_key(|(since, _)| (since.is_none(), *since));
        let ((first, node), others) = all.split_first()?;
        let (usual, _) = others.get(others.len() / 2)?;
        Some((*node, (*first)?, *usual))
    }

    /// When somebody may be found to hoard, if nothing happens before.
    pub(super) fn hoards_end(&self) -> Option<(Time, Why)> {
        let (looked_at, (_, since, _)) = (self.seeding.as_ref()?.looked_at, self.hoarder()?);
        Some((since + ALWAYS, Why::Hoarded)).filter(|(at, _)| *at > looked_at)
    }

    /// What was given out under another lease says nothing of the next.
    pub(super) fn forget_hoards(&mut self) {
        self.neighbours.values_mut().for_each(|neighbour| neighbour.hoard.0.clear());
    }

    /// Offers to others what somebody hoards.
    pub(super) fn break_hoards(&mut self, now: Time) {
        let Some(seeding) = &mut self.seeding else { return };
        seeding.looked_at = now;
        while let Some((node, since, usual)) = self.hoarder() {
            let usual = usual.map_or(Duration::ZERO, |usual| now.since(usual));
            if now.since(since) < ALWAYS.max(usual * LONGER) {
                return;
            }
            let Some(neighbour) = self.neighbours.get_mut(&node) else { return };
            let Some((_, piece)) = neighbour.hoard.0.pop_front() else { return };
            // Who has it may have been told otherwise than by a Have.
            let alone = self.have.contains(piece) && self.copies[piece as usize] <= 1;
            if let Some(seeding) = self.seeding.as_mut().filter(|_| alone) {
                seeding.withheld(piece);
                if !neighbour.demoted(now) {
                    neighbour.demote(now, self.settings.demotion);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use shoal_blob::{Digest, Layout, PieceSet};
    use shoal_proto::trade::{Hello, Lacks, Message};

    use super::*;
    use crate::trade::{Capacity, Input, Output};

    const PIECES: u32 = 40;
    const MUTE: NodeId = NodeId::from_bytes([2; 32]);
    const OTHERS: [NodeId; 2] = [NodeId::from_bytes([3; 32]), NodeId::from_bytes([4; 32])];

    /// A seed that has the whole blob from the origin, and three neighbours that take what they are offered at once. Two of them
    /// say that they are busy, and have from each other within 100 ms what one of them has.
    struct Scene {
        now: Time,
        swarm: Swarm,
        capacity: Capacity,
        /// What each was given, in order.
        given: Vec<(NodeId, u32)>,
    }

    impl Scene {
        fn new() -> Self {
            let layout = Layout::with_piece_bytes(u64::from(PIECES) << 20, 1 << 20).unwrap();
            let (me, digest) = (NodeId::from_bytes([1; 32]), Digest::Sha256([7; 32]));
            let settings = crate::trade::Settings::default();
            let full = (PieceSet::full(PIECES), PieceSet::full(PIECES + 1));
            let swarm = Swarm::new(Time::ZERO, me, digest, layout, settings, String::new(), 1).holding(full.0, &full.1);
            let mut this = Self { now: Time::ZERO, swarm, capacity: Capacity::new(1, 64 << 20), given: Vec::new() };
            this.tell(Input::Wants(true));
            for node in [MUTE].into_iter().chain(OTHERS) {
                this.tell(Input::Met { node, rtt: Duration::from_millis(1) });
                let (length, zone) = (layout.length(), String::new());
                this.hear(node, Message::Hello(Hello { length, have: PieceSet::empty(PIECES), wants: true, zone }));
            }
            // What they were barred for has passed.
            this.now = this.now + Duration::from_secs(1);
            this.tell(Input::Appointed { elsewhere: PieceSet::empty(PIECES) });
            this
        }

        /// Tells the seed something, and does what it says until it says nothing more.
        fn tell(&mut self, input: Input) {
            self.swarm.handle(self.now, input, &mut self.capacity);
            let said: Vec<Output> = std::iter::from_fn(|| self.swarm.poll()).collect();
            for output in said {
                match output {
                    Output::Send { to, message: Message::Slot { slot } } => self.hear(to, Message::Pass { slot }),
                    Output::Send { to, message: Message::Offer { slot, piece } } => {
                        let lacks = Lacks::default();
                        self.hear(to, Message::Take { slot, piece, lacks });
                    }
                    Output::Upload { to, piece, slot, .. } => {
                        self.now = self.now + Duration::from_millis(20);
                        self.given.push((to, piece.get()));
                        self.tell(Input::Uploaded { slot, arrived: true });
                        let queue = if to == MUTE { 0 } else { 3 };
                        self.hear(to, Message::Have { pieces: vec![piece.get()], queue });
                        if let Some(other) = OTHERS.iter().find(|other| OTHERS.contains(&to) && **other != to) {
                            self.hear(*other, Message::Have { pieces: vec![piece.get()], queue });
                        }
                    }
                    _ => {}
                }
            }
        }

        fn hear(&mut self, from: NodeId, message: Message) {
            self.tell(Input::Heard { from, message });
        }
    }

    #[test]
    fn who_passes_nothing_on_is_given_little_and_that_is_given_to_others_too() {
        let mut scene = Scene::new();
        let first = scene.given.len();
        assert_eq!(first as u32, PIECES, "each is given out once");
        let hoarded: Vec<u32> = scene.given.iter().filter(|(to, _)| *to == MUTE).map(|(_, piece)| *piece).collect();
        assert!((1..=5).contains(&hoarded.len()), "the least loaded by its own word was given {hoarded:?}");

        while let Some((at, why)) = scene.swarm.poll_timeout().filter(|(at, _)| *at <= Time::ZERO + ALWAYS * 4) {
            assert!(at > scene.now || why != Why::Hoarded, "it would be woken for ever");
            scene.now = scene.now.max(at);
            scene.tell(Input::TimeOut);
        }
        let again: Vec<(NodeId, u32)> = scene.given[first..].to_vec();
        assert!(again.iter().all(|(to, _)| *to != MUTE), "{again:?}");
        assert_eq!(again.iter().map(|(_, piece)| *piece).collect::<Vec<_>>(), hoarded);
    }
}
