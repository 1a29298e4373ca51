//! The pieces on their way here.

use shoal_proto::NodeId;

use super::Source;
use crate::Time;

/// A piece on its way here from one source.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) piece: u32,
    pub(super) from: Source,
    /// Whether it was offered: the seed waits for the word that it is here.
    pub(super) offered: bool,
    pub(super) since: Time,
    /// When it is picked elsewhere too; never for the origin, which has its own patience.
    pub(super) overdue_at: Option<Time>,
    pub(super) overdue: bool,
    /// When it is given up where it was.
    pub(super) steal_at: Option<Time>,
}

impl Flight {
    /// From the origin.
    pub(super) const fn from_origin(now: Time, piece: u32) -> Self {
        Self {
            piece,
            from: Source::Origin,
            offered: false,
            since: now,
            overdue_at: None,
            overdue: false,
            steal_at: None,
        }
    }
}

/// Each piece comes from one source or, when that is late, from a second one too. They are few: a list is faster than a map.
///
/// Invariant: they are in the order of their pieces, those of one piece in the order in which they began; for each the
/// piece's bytes are reserved of the node's capacity.
#[derive(Debug, Default)]
pub(super) struct Flights {
    list: Vec<Flight>,
    /// When a holder was last asked for a piece that a reader waits for.
    pub(super) called_at: Option<Time>,
}

impl Flights {
    pub(super) const fn count(&self) -> usize {
        self.list.len()
    }

    /// Those that are not overdue: what is late takes nobody's place.
    pub(super) fn awaited(&self) -> usize {
        self.list.iter().filter(|flight| !flight.overdue).count()
    }

    /// Those of them that this node picked: what it was offered comes when the seed's uplink gets to it.
    pub(super) fn picked(&self) -> usize {
        self.list.iter().filter(|flight| !flight.overdue && !flight.offered).count()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the piece is expected, and not overdue.
    pub(super) fn expects(&self, piece: u32) -> bool {
        self.list.iter().any(|flight| flight.piece == piece && !flight.overdue)
    }

    pub(super) fn comes(&self, piece: u32) -> bool {
        self.list.iter().any(|flight| flight.piece == piece)
    }

    pub(super) fn comes_from_origin(&self, piece: u32) -> bool {
        self.list.iter().any(|flight| flight.piece == piece && flight.from == Source::Origin)
    }

    pub(super) fn add(&mut self, flight: Flight) {
        let place = self.list.partition_point(|other| other.piece <= flight.piece);
        self.list.insert(place, flight);
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Flight> {
        self.list.iter()
    }

    /// Those whose piece comes from nowhere else, by ascending pieces.
    pub(super) fn alone(&self) -> impl Iterator<Item = &Flight> {
        let groups = self.list.chunk_by(|one, next| one.piece == next.piece);
        groups.filter_map(|group| if let [flight] = group { Some(flight) } else { None })
    }

    /// Removes the flights of a piece from a source, and returns how many there were: one that was late may have been taken
    /// there a second time.
    pub(super) fn remove(&mut self, piece: u32, from: Source) -> usize {
        let before = self.list.len();
        self.list.retain(|flight| flight.piece != piece || flight.from != from);
        before - self.list.len()
    }

    /// Removes all flights of a piece, and returns them.
    pub(super) fn land(&mut self, piece: u32) -> Vec<Flight> {
        self.list.extract_if(.., |flight| flight.piece == piece).collect()
    }

    /// Removes all flights from a source, and returns the piece of each.
    pub(super) fn remove_all(&mut self, from: Source) -> Vec<u32> {
        self.list.extract_if(.., |flight| flight.from == from).map(|flight| flight.piece).collect()
    }

    /// Those that are late from now on, and those that are given up: pieces, whom they should have come from, and since when.
    pub(super) fn expire(&mut self, now: Time) -> (Vec<NodeId>, Vec<(u32, NodeId, Time)>) {
        let (mut late, mut stolen) = (Vec::new(), Vec::new());
        for flight in &mut self.list {
            let Source::Neighbour(node) = flight.from else { continue };
            if !flight.overdue && flight.overdue_at.is_some_and(|at| at <= now) {
                flight.overdue = true;
                late.push(node);
            }
            if flight.steal_at.is_some_and(|at| at <= now) {
                stolen.push((flight.piece, node, flight.since));
            }
        }
        (late, stolen)
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, time::Duration};

    use shoal_blob::{Digest, Layout, PieceSet};
    use shoal_proto::trade::{Hello, Message};

    use super::*;
    use crate::trade::{Capacity, Fault, Input, LinkLimits, ReaderId, Settings, SlotId, Swarm};

    const FROM: NodeId = NodeId::from_bytes([2; 32]);

    /// One that reads the first of four pieces, and has a neighbour with all of them. Tells it something at a time, and returns how
    /// many bytes are on their way.
    fn reader(mut capacity: Capacity, layout: Layout) -> impl FnMut(Time, Input) -> u64 {
        let (me, digest) = (NodeId::from_bytes([1; 32]), Digest::Sha256([7; 32]));
        let mut swarm = Swarm::new(Time::ZERO, me, digest, layout, Settings::default(), String::new(), 1);
        let mut tell = move |now, input| {
            swarm.handle(now, input, &mut capacity);
            while swarm.poll().is_some() {}
            capacity.inflow()
        };
        let hello = Hello { length: 4 << 20, have: PieceSet::full(4), wants: true, zone: String::new() };
        tell(Time::ZERO, Input::Wants(true));
        tell(Time::ZERO, Input::ReaderAt { reader: ReaderId(0), piece: layout.piece(0).unwrap() });
        tell(Time::ZERO, Input::Met { node: FROM, rtt: Duration::from_millis(1) });
        tell(Time::ZERO, Input::Heard { from: FROM, message: Message::Hello(hello) });
        tell
    }

    fn slot(slot: SlotId) -> Input {
        Input::Heard { from: FROM, message: Message::Slot { slot } }
    }

    #[test]
    fn what_was_taken_twice_of_one_neighbour_is_given_back_twice() {
        let layout = Layout::with_piece_bytes(4 << 20, 1 << 20).unwrap();
        let mut tell = reader(Capacity::new(1, 64 << 20), layout);
        assert_eq!(tell(Time::ZERO, slot(0)), 1 << 20);
        let late = Time::ZERO + Settings::default().first_deadline;
        tell(late, Input::TimeOut);
        assert_eq!(tell(late, slot(1)), 2 << 20, "the reader waits");
        let piece = layout.piece(0).unwrap();
        assert_eq!(tell(late, Input::Missed { piece, from: Source::Neighbour(FROM), fault: Fault::Broken }), 0);
    }

    #[test]
    fn nobody_is_late_before_a_capped_downlink_can_have_brought_it() {
        let mut capacity = Capacity::new(1, 64 << 20);
        capacity.set_links(LinkLimits { up: None, down: NonZeroU64::new(125_000) });
        let mut tell = reader(capacity, Layout::with_piece_bytes(4 << 20, 1 << 20).unwrap());
        assert_eq!(tell(Time::ZERO, slot(0)), 1 << 20);
        // Two pieces take 17 s.
        let (early, late) = (Time::ZERO + Duration::from_secs(30), Time::ZERO + Duration::from_secs(34));
        tell(early, Input::TimeOut);
        assert_eq!(tell(early, slot(1)), 2 << 20, "another piece is picked");
        assert_eq!(tell(early, slot(2)), 2 << 20, "a third would only wait");
        tell(late, Input::TimeOut);
        assert_eq!(tell(late, slot(3)), 2 << 20, "what is late keeps its room");
    }
}
