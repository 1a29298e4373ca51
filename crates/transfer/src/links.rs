//! How fast bytes may go out and come in, over all connections, and how many have.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use quinn::VarInt;
use shoal_pace::{Limit, Rate, Turn};
use tokio::sync::Mutex;

/// The most that the data plane sends and receives, in bytes of UDP payload a second: headers, acknowledgements and what is sent
/// again included. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Out.
    pub up: Option<Rate>,
    /// In.
    pub down: Option<Rate>,
}

/// How long a batch may take at a limit: others wait for so long behind it.
const BATCH: Duration = Duration::from_millis(5);
/// How much a peer may send ahead of us under a limit, beyond what is on its way, as a time of the limit.
const AHEAD: Duration = Duration::from_millis(50);
/// No window is smaller: control messages and a few packets have to fit in.
const LEAST_WINDOW: u64 = 64 << 10;
/// No debt for what has come is longer. It is that long only when a limit has just been lowered, or where acknowledgements of
/// what this node sends fill it: these cannot be held back, and must not stop the pieces for good.
const LONGEST_DEBT: Duration = Duration::from_secs(1);

/// The node's two links, shared by all its connections.
#[derive(Debug)]
pub(crate) struct Links {
    up: Limit,
    /// Everything that has come.
    down: Limit,
    /// What readers take, at the same rate: what they leave holds their senders back.
    reads: Limit,
    /// Readers go on one after the other, in the order in which they came, or one could have all.
    reading: Mutex<()>,
    /// The largest datagram, in bytes.
    datagram: u64,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

impl Links {
    pub(crate) fn new(rates: Rates, datagram: u16) -> Self {
        Self {
            up: Limit::new(rates.up),
            down: Limit::new(rates.down),
            reads: Limit::new(rates.down),
            reading: Mutex::new(()),
            datagram: datagram.into(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    pub(crate) fn rates(&self) -> Rates {
        Rates { up: self.up.rate(), down: self.down.rate() }
    }

    pub(crate) fn set(&self, rates: Rates) {
        self.up.set(rates.up);
        self.down.set(rates.down);
        self.reads.set(rates.down);
    }

    /// A place among those that wait to send a batch; `None` when it may go at once.
    pub(crate) fn turn(&self) -> Option<Turn> {
        let rate = self.up.rate()?;
        self.up.turn(self.datagrams(rate) * self.datagram)
    }

    /// How many datagrams one batch may have; `None` without a limit.
    pub(crate) fn batch(&self) -> Option<usize> {
        let rate = self.up.rate()?;
        Some(usize::try_from(self.datagrams(rate)).unwrap_or(usize::MAX))
    }

    pub(crate) fn charge_sent(&self, bytes: usize) {
        crate::counters::add(&self.sent, bytes);
        let _ = self.up.charge(bytes as u64);
    }

    pub(crate) fn charge_received(&self, bytes: usize) {
        crate::counters::add(&self.received, bytes);
        self.down.charge_unasked(bytes as u64, LONGEST_DEBT);
    }

    /// Waits until the reader of a stream may go on; `promised` is what [`took`](Self::took) said. Cancel-safe.
    pub(crate) async fn may_read(&self, promised: Option<Instant>) {
        if self.down.rate().is_none() {
            return;
        }
        self.reads.wait(promised).await;
        let _turn = self.reading.lock().await;
        self.down.wait(None).await;
    }

    /// How many of so many datagrams a reader may take at a time.
    pub(crate) fn mouthful(&self, most: usize) -> usize {
        let at_once = self.down.rate().map(|rate| usize::try_from(self.datagrams(rate)).unwrap_or(most));
        at_once.map_or(most, |datagrams| datagrams.min(most))
    }

    /// A reader has taken so much: when it may take more.
    pub(crate) fn took(&self, bytes: u64) -> Option<Instant> {
        self.reads.charge(bytes)
    }

    /// How many bytes of a connection may be here unread, of so many that are configured: under a limit only what it brings in a
    /// short time, or a pause of the readers would be followed by a flood.
    pub(crate) fn window(&self, configured: u32, rtt: Duration) -> VarInt {
        let bytes = self.down.rate().map_or(u64::MAX, |rate| rate.bytes_in(AHEAD + rtt).max(LEAST_WINDOW));
        VarInt::from_u32(u32::try_from(bytes).unwrap_or(u32::MAX).min(configured))
    }

    fn datagrams(&self, rate: Rate) -> u64 {
        (rate.bytes_in(BATCH) / self.datagram).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mbit(rate: u64) -> Option<Rate> {
        Rate::of_bytes(rate * 125_000)
    }

    #[test]
    fn batches_and_windows_fit_the_rate() {
        let links = Links::new(Rates::default(), 1472);
        let (near, far) = (Duration::from_millis(1), Duration::from_millis(100));
        assert_eq!((links.batch(), links.mouthful(64)), (None, 64));
        assert_eq!(links.window(6 << 20, near), VarInt::from_u32(6 << 20));
        for (rate, datagrams, window) in
            [(1, 1, 64 << 10), (10, 4, 64 << 10), (100, 42, 637_500), (10_000, 4245, 6 << 20)]
        {
            links.set(Rates { up: mbit(rate), down: mbit(rate) });
            assert_eq!((links.batch(), links.mouthful(64)), (Some(datagrams), datagrams.min(64)), "{rate}");
            assert_eq!(links.window(6 << 20, near), VarInt::from_u32(window), "{rate}");
        }
        links.set(Rates { up: None, down: mbit(10) });
        assert_eq!(links.window(6 << 20, far), VarInt::from_u32(187_500), "what is on a long way is not held back");
        assert_eq!(links.window(32 << 10, far), VarInt::from_u32(32 << 10));
    }

    #[tokio::test(start_paused = true)]
    async fn readers_pay_for_what_comes_and_take_turns() {
        let links = Links::new(Rates { up: None, down: Rate::of_bytes(100_000) }, 1472);
        let start = tokio::time::Instant::now();
        let read = async |mut batches: u32| {
            let mut promised = None;
            while batches > 0 {
                links.may_read(promised).await;
                promised = links.took(1000);
                // Headers come with it.
                links.charge_received(1100);
                batches -= 1;
            }
            start.elapsed()
        };
        let (one, other) = tokio::join!(read(100), read(100));
        let took = one.max(other);
        assert!(took >= Duration::from_millis(2150) && took < Duration::from_millis(2250), "{took:?}");
        assert!(one.abs_diff(other) < Duration::from_millis(50), "{one:?} and {other:?}");
    }
}
