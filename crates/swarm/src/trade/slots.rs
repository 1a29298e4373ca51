//! The slots that a node has opened to its neighbours.

use std::collections::BTreeMap;

use shoal_proto::NodeId;

use super::{SlotId, pace::Pace};
use crate::Time;

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The neighbour may pick.
    Open { lapses_at: Time },
    /// This piece was offered.
    Offered { piece: u32, lapses_at: Time },
    /// This piece is on its way.
    Uploading { piece: u32 },
    /// It has been for so long that its slot is used otherwise: perhaps the neighbour is gone.
    Stalled { piece: u32 },
}

impl Use {
    /// The piece that is on its way.
    pub(super) const fn carries(self) -> Option<u32> {
        match self {
            Self::Uploading { piece } | Self::Stalled { piece } => Some(piece),
            Self::Open { .. } | Self::Offered { .. } => None,
        }
    }
}

/// One slot.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) to: NodeId,
    /// When it was given, or when the neighbour took the piece.
    pub(super) since: Time,
    pub(super) used: Use,
}

/// The slots that this swarm has opened.
///
/// Invariant: each is one of the node's capacity, and is given back when it goes.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) open: BTreeMap<SlotId, Slot>,
    pub(super) next: SlotId,
    /// How long uploads take from the Take on.
    pub(super) pace: Pace,
}

impl Slots {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn uploading(&self) -> usize {
        self.open.values().filter(|slot| matches!(slot.used, Use::Uploading { .. })).count()
    }

    pub(super) fn add(&mut self, now: Time, to: NodeId, used: Use) -> SlotId {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(id, Slot { to, since: now, used });
        id
    }

    /// A slot that was given to this neighbour and not answered yet.
    pub(super) fn unanswered(&self, id: SlotId, node: NodeId) -> bool {
        let unanswered = |slot: &Slot| matches!(slot.used, Use::Open { .. } | Use::Offered { .. });
        self.open.get(&id).is_some_and(|slot| slot.to == node && unanswered(slot))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shoal_blob::{Digest, Layout, PieceSet};
    use shoal_proto::trade::{Hello, Lacks, Message};

    use super::*;
    use crate::trade::{Capacity, Input, Output, Settings, Swarm};

    const PIECES: u32 = 64;
    const OTHER: NodeId = NodeId::from_bytes([2; 32]);

    /// A node that has everything, and a neighbour that wants it.
    struct Scene {
        now: Time,
        swarm: Swarm,
        capacity: Capacity,
        given: Vec<SlotId>,
    }

    impl Scene {
        fn new() -> Self {
            let layout = Layout::with_piece_bytes(u64::from(PIECES) << 20, 1 << 20).unwrap();
            let (me, digest) = (NodeId::from_bytes([1; 32]), Digest::Sha256([7; 32]));
            let swarm = Swarm::new(Time::ZERO, me, digest, layout, Settings::default(), String::new(), 1);
            let swarm = swarm.holding(PieceSet::full(PIECES), &PieceSet::full(PIECES + 1));
            let mut this = Self { now: Time::ZERO, swarm, capacity: Capacity::new(1, 0), given: Vec::new() };
            this.tell(Input::Met { node: OTHER, rtt: Duration::from_millis(1) });
            let have = PieceSet::empty(PIECES);
            this.hear(Message::Hello(Hello { length: layout.length(), have, wants: true, zone: String::new() }));
            this
        }

        fn tell(&mut self, input: Input) {
            self.swarm.handle(self.now, input, &mut self.capacity);
            while let Some(output) = self.swarm.poll() {
                if let Output::Send { message: Message::Slot { slot }, .. } = output {
                    self.given.push(slot);
                }
            }
        }

        fn hear(&mut self, message: Message) {
            self.tell(Input::Heard { from: OTHER, message });
        }

        fn wait(&mut self, span: Duration) {
            let until = self.now + span;
            while let Some((at, _)) = self.swarm.poll_timeout().filter(|(at, _)| *at <= until) {
                self.now = self.now.max(at);
                self.tell(Input::TimeOut);
            }
            self.now = until;
        }

        fn last(&self) -> SlotId {
            *self.given.last().expect("a slot was given")
        }

        /// The neighbour takes a piece with the last slot, which is on its way for so long.
        fn upload(&mut self, piece: u32, span: Duration) {
            let slot = self.last();
            self.hear(Message::Take { slot, piece, lacks: Lacks { before: false, behind: false } });
            self.wait(span);
            self.tell(Input::Uploaded { slot, arrived: true });
            self.hear(Message::Have { pieces: vec![piece], queue: 0 });
        }
    }

    #[test]
    fn uploads_that_were_given_up_teach_how_long_they_take() {
        let mut scene = Scene::new();
        (0..3).for_each(|piece| scene.upload(piece, Duration::from_millis(10)));
        let slow = Duration::from_secs(2);
        (3..20).for_each(|piece| scene.upload(piece, slow));
        assert_eq!(scene.swarm.slots.pace.median(), Some(slow));
    }
}
