//! Links that all who send over them share at the same time, as real streams do.
//!
//! Each two nodes have a connection; on it pieces go one after another. All connections get what is fair between them: no one
//! can have more without another that has no more than it getting less (max-min fairness, by filling progressively; Bertsekas
//! and Gallager, Data Networks, 1992, section 6.5.2). Congestion control comes near to that, and where it does not it is worse.
//! Each change costs O(connections * links), so this is for small fleets.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use shoal_swarm::Time;

use super::{NodeIndex, Parcel};

/// What is on its way between two nodes.
#[derive(Debug)]
struct Connection {
    /// The first is on its way, the others wait for it.
    parcels: VecDeque<Parcel>,
    /// What is left of the first, in bytes.
    left: f64,
    /// Bytes a second.
    rate: f64,
    /// The links that it goes over.
    over: Vec<usize>,
}

/// All that is on its way.
///
/// Invariant: a connection is there while it has parcels, and rates are those of all connections that are there.
#[derive(Debug, Default)]
pub(super) struct Shared {
    connections: BTreeMap<(NodeIndex, NodeIndex), Connection>,
    /// Up to when all have been carried on.
    at: Time,
}

impl Shared {
    /// Gives a parcel to a connection; `over` are the links between the two, by any numbers.
    pub(super) fn send(&mut self, from: NodeIndex, parcel: Parcel, over: Vec<usize>) {
        let new = || Connection { parcels: VecDeque::new(), left: 0.0, rate: 0.0, over };
        let connection = self.connections.entry((from, parcel.to)).or_insert_with(new);
        if connection.parcels.is_empty() {
            connection.left = parcel.bytes as f64;
        }
        connection.parcels.push_back(parcel);
    }

    /// Takes back a parcel, wherever it is on its way.
    pub(super) fn withdraw(&mut self, from: NodeIndex, token: u32) -> bool {
        self.take_back(from, |parcel| parcel.token == token).pop().is_some()
    }

    /// Takes back all of a node's.
    pub(super) fn withdraw_all(&mut self, from: NodeIndex) -> Vec<u32> {
        self.take_back(from, |_| true)
    }

    fn take_back(&mut self, from: NodeIndex, which: impl Fn(&Parcel) -> bool) -> Vec<u32> {
        let mut taken = Vec::new();
        for (_, connection) in self.connections.range_mut((from, 0)..=(from, NodeIndex::MAX)) {
            let first = connection.parcels.front().map(|parcel| parcel.token);
            taken.extend(connection.parcels.iter().filter(|parcel| which(parcel)).map(|parcel| parcel.token));
            connection.parcels.retain(|parcel| !which(parcel));
            if let Some(now_first) = connection.parcels.front().filter(|parcel| Some(parcel.token) != first) {
                connection.left = now_first.bytes as f64;
            }
        }
        self.connections.retain(|_, connection| !connection.parcels.is_empty());
        taken
    }

    /// Carries all on until now; `arrived` hears of each parcel whose last byte has left.
    pub(super) fn carry(&mut self, now: Time, mut arrived: impl FnMut(NodeIndex, Parcel)) {
        let seconds = now.since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        for ((from, _), connection) in &mut self.connections {
            connection.left -= connection.rate * seconds;
            // Less than a byte is rounding, for times are in nanoseconds.
            if connection.left < 1.0
                && let Some(parcel) = connection.parcels.pop_front()
            {
                connection.left = connection.parcels.front().map_or(0.0, |next| next.bytes as f64);
                arrived(*from, parcel);
            }
        }
        self.connections.retain(|_, connection| !connection.parcels.is_empty());
    }

    /// Shares the links anew; returns when the next parcel will have left. `rate` is a link's.
    pub(super) fn share(&mut self, rate: impl Fn(usize) -> f64) -> Option<Time> {
        let mut links: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
        for connection in self.connections.values_mut() {
            connection.rate = f64::NAN;
            for &link in &connection.over {
                links.entry(link).or_insert_with(|| (rate(link), 0)).1 += 1;
            }
        }
        loop {
            let shares = links.iter().filter(|(_, (_, many))| *many > 0);
            let shares = shares.map(|(&link, &(left, many))| (link, left.max(0.0) / many as f64));
            let Some((tightest, share)) = shares.min_by(|(_, one), (_, other)| one.total_cmp(other)) else { break };
            let open = self.connections.values_mut().filter(|connection| connection.rate.is_nan());
            for connection in open.filter(|connection| connection.over.contains(&tightest)) {
                connection.rate = share;
                for link in &connection.over {
                    if let Some((left, many)) = links.get_mut(link) {
                        *left -= share;
                        *many -= 1;
                    }
                }
            }
        }
        let spans = self.connections.values().map(|connection| connection.left / connection.rate.max(1e-3));
        let soonest = spans.min_by(f64::total_cmp)?;
        // A nanosecond later than the last byte, so that it has left by then.
        Some(self.at + Duration::from_secs_f64(soonest) + Duration::from_nanos(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Uplinks have even numbers, downlinks odd ones.
    fn send(shared: &mut Shared, from: NodeIndex, to: NodeIndex, token: u32) {
        let over = vec![2 * from as usize, 2 * to as usize + 1];
        shared.send(from, Parcel { to, bytes: 1_000_000, token }, over);
    }

    fn rate(shared: &Shared, from: NodeIndex, to: NodeIndex) -> f64 {
        shared.connections[&(from, to)].rate
    }

    /// When each parcel has left, in milliseconds, if all links carry a megabyte a second.
    fn runs(shared: &mut Shared) -> Vec<(u32, u128)> {
        let mut left = Vec::new();
        while let Some(at) = shared.share(|_| 1e6) {
            shared.carry(at, |_, parcel| left.push((parcel.token, at.since(Time::ZERO).as_millis())));
        }
        left
    }

    #[test]
    fn who_shares_no_link_with_others_has_it_alone() {
        let mut shared = Shared::default();
        send(&mut shared, 0, 1, 0);
        send(&mut shared, 2, 1, 1);
        send(&mut shared, 2, 3, 2);
        send(&mut shared, 4, 5, 3);
        shared.share(|_| 1e6);
        let rates = [(0, 1), (2, 1), (2, 3), (4, 5)].map(|(from, to)| rate(&shared, from, to) / 1e6);
        assert_eq!(rates, [0.5, 0.5, 0.5, 1.0]);
        // A slow downlink leaves its sender's uplink to the others.
        shared.share(|link| if link == 7 { 1e5 } else { 1e6 });
        assert_eq!([(2, 3), (2, 1)].map(|(from, to)| rate(&shared, from, to) / 1e6), [0.1, 0.5]);
    }

    #[test]
    fn pieces_on_one_connection_go_one_after_another() {
        let mut shared = Shared::default();
        (0..3).for_each(|token| send(&mut shared, 0, 1, token));
        assert_eq!(runs(&mut shared), [(0, 1000), (1, 2000), (2, 3000)]);
    }

    #[test]
    fn what_ends_leaves_its_part_to_the_others() {
        let mut shared = Shared::default();
        send(&mut shared, 0, 1, 0);
        send(&mut shared, 0, 2, 1);
        let at = Time::after(Duration::from_secs(1));
        shared.share(|_| 1e6);
        shared.carry(at, |_, _| panic!("each is half way"));
        assert!(shared.withdraw(0, 0) && !shared.withdraw(0, 0));
        assert_eq!(runs(&mut shared), [(1, 1500)]);
        send(&mut shared, 0, 1, 2);
        assert_eq!(shared.withdraw_all(0), [2]);
        assert_eq!(shared.share(|_| 1e6), None);
    }

    proptest! {
        /// No link carries more than it can, and each connection goes over one that is full, on which no other gets more.
        #[test]
        fn sharing_is_fair(
            pairs in proptest::collection::vec((0_u32..6, 0_u32..6), 1..30),
            rates in proptest::collection::vec(1_u32..100, 12),
        ) {
            let mut shared = Shared::default();
            for (token, &(from, to)) in (0..).zip(&pairs) {
                send(&mut shared, from, to, token);
            }
            shared.share(|link| rates[link].into());
            let on = |link: usize| shared.connections.values().filter(move |connection| connection.over.contains(&link));
            for (link, &most) in rates.iter().enumerate() {
                prop_assert!(on(link).map(|connection| connection.rate).sum::<f64>() <= f64::from(most) + 1e-6);
            }
            for connection in shared.connections.values() {
                let held_up = connection.over.iter().any(|&link| {
                    let full = on(link).map(|other| other.rate).sum::<f64>() >= f64::from(rates[link]) - 1e-6;
                    full && on(link).all(|other| other.rate <= connection.rate + 1e-6)
                });
                prop_assert!(held_up, "{connection:?}");
            }
        }
    }
}
