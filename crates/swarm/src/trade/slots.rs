//! The slots that a node has opened to its neighbours.

use std::collections::{BTreeMap, VecDeque};

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
    Uploading { piece: u32, since: Time },
    /// It has been for so long that its slot is used otherwise: perhaps the neighbour is gone.
    Stalled { piece: u32, since: Time },
}

impl Use {
    /// The piece that is on its way.
    pub(super) const fn carries(self) -> Option<u32> {
        match self {
            Self::Uploading { piece, .. } | Self::Stalled { piece, .. } => Some(piece),
            Self::Open { .. } | Self::Offered { .. } => None,
        }
    }
}

/// How many slots are remembered that have lapsed.
const MOST_LAPSED: usize = 32;

/// One slot.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) to: NodeId,
    pub(super) given: Time,
    pub(super) used: Use,
}

/// The slots that this swarm has opened.
///
/// Invariant: each is one of the node's capacity, and is given back when it goes.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) open: BTreeMap<SlotId, Slot>,
    pub(super) next: SlotId,
    /// The last that lapsed, with their neighbours and when they were given: what answers late is to be known for it.
    lapsed: VecDeque<(SlotId, NodeId, Time)>,
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
        self.open.insert(id, Slot { to, given: now, used });
        id
    }

    /// Remembers a slot that is about to go without an answer.
    pub(super) fn note_lapse(&mut self, id: SlotId) {
        let Some(slot) = self.open.get(&id) else { return };
        if self.lapsed.len() == MOST_LAPSED {
            self.lapsed.pop_front();
        }
        self.lapsed.push_back((id, slot.to, slot.given));
    }

    /// When the slot that this neighbour answers now was given, if that is its first answer.
    pub(super) fn answered(&mut self, id: SlotId, node: NodeId) -> Option<Time> {
        if self.unanswered(id, node) {
            return self.open.get(&id).map(|slot| slot.given);
        }
        let place = self.lapsed.iter().position(|(lapsed, to, _)| *lapsed == id && *to == node)?;
        self.lapsed.remove(place).map(|(_, _, given)| given)
    }

    /// A slot that was given to this neighbour and not answered yet.
    pub(super) fn unanswered(&self, id: SlotId, node: NodeId) -> bool {
        let unanswered = |slot: &Slot| matches!(slot.used, Use::Open { .. } | Use::Offered { .. });
        self.open.get(&id).is_some_and(|slot| slot.to == node && unanswered(slot))
    }
}
