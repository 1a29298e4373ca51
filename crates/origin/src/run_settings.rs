//! How many bytes and connections reading one blob may take.

use std::time::Duration;

/// Limits of [`Runs`](crate::Runs). No bytes in flight, or no connections, count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunSettings {
    /// The most bytes that are asked for and not yet handed out, over all connections: 32 MiB. A single piece that is larger
    /// is still fetched, alone.
    pub in_flight: u64,
    /// The most connections at once: 4.
    pub connections: usize,
    /// The longest run, in bytes: 16 MiB.
    pub run_bytes: u64,
    /// The next run is opened when so few bytes of all open ones are left: 2 MiB.
    pub overlap: u64,
    /// A connection that brings fewer bytes a second is slow: 50 MB/s, or half of the limit where there is one. With 0 none ever is.
    pub slow: u64,
    /// How long a connection is watched, counting only time spent waiting for it, before it can be called slow: 200 ms.
    pub watch: Duration,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            in_flight: 32 << 20,
            connections: 4,
            run_bytes: 16 << 20,
            overlap: 2 << 20,
            slow: 50_000_000,
            watch: Duration::from_millis(200),
        }
    }
}
