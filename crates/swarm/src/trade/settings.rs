//! The numbers of the policy, with the values that the simulations found best.

use std::time::Duration;

/// How a swarm behaves. The defaults are right for links of 100 Mbit/s to 25 Gbit/s within one site.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many uploads side by side fill the uplink. One fills the link of an idle receiver, but receivers are busy: each of
    /// several senders has only a part of the downlink, and more than one receiver is needed to fill an uplink.
    pub streams: u32,
    /// How many pieces beyond a reader's position may be picked. 32 costs 6 % of the fleet's time, 16 costs 10 to 20 %.
    pub window: u32,
    /// A reader that has waited for so many median piece times is starved: then what it needs is picked, not the rarest.
    pub starved: u32,
    /// How long a slot stays open beyond two round trips.
    pub slot_grace: Duration,
    /// A neighbour that passed on a slot gets no other until so many pieces should have come to it, unless it says something
    /// new before.
    pub bar_pieces: u32,
    /// No such bar is longer than this.
    pub bar: Duration,
    /// How long announcements of new pieces are gathered at least, for those that nothing else is said to.
    pub batch: Duration,
    /// The same in median piece times: news matters when a slot is given, and goes with it.
    pub batch_pieces: u32,
    /// A piece is picked elsewhere after so many median piece times.
    pub overdue: u32,
    /// It is given up where it was after so many.
    pub steal: u32,
    /// No deadline is shorter than this, whatever the median says.
    pub shortest_deadline: Duration,
    /// The deadline while there is no median yet.
    pub first_deadline: Duration,
    /// How many missed deadlines demote a neighbour.
    pub strikes: u32,
    /// How long a demoted neighbour is taken from only for want of others; doubled each time.
    pub demotion: Duration,
    /// Bytes read from the origin that no other member has yet, in flight or stored here alone, at most.
    pub sole_bytes: u64,
    /// Bytes asked of the origin and not yet stored, at most.
    pub origin_in_flight: u64,
    /// The seed waits at most so many piece times for a second holder before it reads one more piece.
    pub patience: u32,
    /// After so many median piece times the second importer of a zone may take a piece from abroad, and anybody.
    pub import_after: [u32; 2],
    /// A member that gets nothing for so long says that it is orphaned.
    pub orphaned_after: Duration,
}

impl Settings {
    /// For links whose queues may be full: one answer in ten takes 0.2 s behind them then, and whatever was offered in its place
    /// would be sent twice.
    #[must_use]
    pub fn behind_queues() -> Self {
        Self { slot_grace: Duration::from_millis(500), ..Self::default() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            streams: 3,
            window: 128,
            starved: 2,
            slot_grace: Duration::from_millis(50),
            bar_pieces: 2,
            bar: Duration::from_millis(500),
            batch: Duration::from_millis(5),
            batch_pieces: 4,
            overdue: 4,
            steal: 10,
            shortest_deadline: Duration::from_millis(500),
            first_deadline: Duration::from_secs(5),
            strikes: 3,
            demotion: Duration::from_secs(10),
            sole_bytes: 64 << 20,
            origin_in_flight: 32 << 20,
            patience: 8,
            import_after: [32, 128],
            orphaned_after: Duration::from_secs(2),
        }
    }
}
