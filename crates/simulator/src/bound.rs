//! What no protocol can beat, and what results are divided by.
//!
//! With `F` bytes in `k` pieces of `s`, `N` nodes including the seed, `u` and `d` a node's rates, `r` what the seed can read
//! of the origin, and `L = ceil(log2 N)`:
//!
//! ```text
//! T_fluid = max { F/r, F/u_seed, F/min d, (N-1)F / sum of all u }                (Kumar and Ross 2006)
//! T_LB    = max { F/r + L*s/u,  s/r + (k-1+L)*s/u,  T_fluid }                    (Bar-Noy and Kipnis 1994)
//! ```
//!
//! The second holds for pieces that are passed on whole, one after another.

use serde::Serialize;

/// A fleet and a blob, as far as the bound is concerned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fleet {
    /// Nodes, the seed among them.
    pub nodes: u32,
    /// Bytes a second: a node's uplink, and the seed's.
    pub up: f64,
    /// The slowest downlink of those that are waited for.
    pub slowest_down: f64,
    /// All uplinks together.
    pub sum_up: f64,
    /// What the seed reads of the origin.
    pub read: f64,
}

/// Two lower bounds, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bound {
    /// For any protocol whatever.
    pub fluid: f64,
    /// For pieces that are passed on whole.
    pub whole_pieces: f64,
}

impl Fleet {
    /// The least time until the last node has a blob of so many pieces.
    #[must_use]
    pub fn bound(&self, pieces: u32, piece_bytes: u64) -> Bound {
        let s = piece_bytes as f64;
        let k = f64::from(pieces);
        let length = k * s;
        let read = self.read.min(self.slowest_down.max(self.up));
        let hops = f64::from(u32::BITS - (self.nodes.max(1) - 1).leading_zeros());
        let others = f64::from(self.nodes - 1);
        let mut fluid = (length / read).max(length / self.slowest_down);
        let mut whole_pieces = length / read;
        if self.nodes > 1 {
            fluid = fluid.max(length / self.up).max(others * length / self.sum_up);
            whole_pieces = (whole_pieces + hops * s / self.up).max(s / read + (k - 1.0 + hops) * s / self.up);
        }
        Bound { fluid, whole_pieces: whole_pieces.max(fluid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flash_crowd_is_bound_by_the_origin_and_the_hops() {
        let fleet = Fleet { nodes: 512, up: 1e6, slowest_down: 1e6, sum_up: 512e6, read: 1e6 };
        let bound = fleet.bound(1024, 1_000_000);
        assert_eq!((bound.fluid, bound.whole_pieces), (1024.0, 1033.0));
        let alone = Fleet { nodes: 1, sum_up: 1e6, ..fleet };
        assert_eq!(alone.bound(1024, 1_000_000).whole_pieces, 1024.0);
        let fast_origin = Fleet { read: 4e6, ..fleet };
        assert_eq!(fast_origin.bound(1024, 1_000_000).whole_pieces, 1.0 + 1032.0);
        let two = Fleet { nodes: 2, sum_up: 2e6, ..fleet };
        assert_eq!(two.bound(10, 1_000_000).whole_pieces, 11.0);
    }
}
