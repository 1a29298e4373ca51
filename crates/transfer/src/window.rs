//! How much of a connection may be unacknowledged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::TransferConfig;

/// The send window of one connection.
///
/// What is unacknowledged beyond bandwidth times delay waits before the links on the way, and with it every word to every peer
/// behind them; a sender that looks only at losses keeps these queues full. So it follows the round trip: as much as lets what
/// is sent wait for [`TransferConfig::queueing`] on its way (as FAST TCP, Wei et al. 2006, with that in the place of its alpha).
///
/// A round trip can be long for what others send. So all connections together may always have so much on their way, `in_flight`
/// below; where several fill a link none gets below its part of that, so that they share the link evenly.
///
/// Invariant: `busy` counts the endpoint's windows whose `uploads` are not none.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: f64,
    uploads: u32,
    busy: Arc<AtomicUsize>,
}

/// By how much it changes at most each time it is fitted.
const STEP: f64 = 2.0;

impl Window {
    /// That of a new connection; `busy` is the endpoint's.
    pub(crate) const fn new(busy: Arc<AtomicUsize>) -> Self {
        Self { bytes: 0.0, uploads: 0, busy }
    }

    /// An upload begins: returns what may be unacknowledged from now on.
    pub(crate) fn begin(&mut self, config: &TransferConfig, in_flight: u64) -> u64 {
        if self.uploads == 0 {
            self.busy.fetch_add(1, Relaxed);
        }
        self.uploads += 1;
        self.set(self.bytes, config, in_flight)
    }

    /// An upload has ended.
    pub(crate) fn end(&mut self) {
        self.uploads -= 1;
        if self.uploads == 0 {
            self.busy.fetch_sub(1, Relaxed);
        }
    }

    /// Fits the window to the round trip, as it is and as it was at its shortest; returns what may be unacknowledged from now on.
    pub(crate) fn fit(&mut self, rtt: Duration, least: Duration, config: &TransferConfig, in_flight: u64) -> u64 {
        let factor = (least + config.queueing).as_secs_f64() / rtt.as_secs_f64().max(1e-6);
        self.set(self.bytes * factor.clamp(1.0 / STEP, STEP), config, in_flight)
    }

    fn set(&mut self, bytes: f64, config: &TransferConfig, in_flight: u64) -> u64 {
        let busy = self.busy.load(Relaxed).max(1) as u64;
        let part = in_flight / busy;
        let most = u64::from(config.send_window);
        let least = part.max(config.least_send_window.into()).min(most);
        self.bytes = bytes.clamp(least as f64, most as f64);
        self.bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// One of so many connections that fill a link of so many bytes a millisecond, so far away: its window after many uploads,
    /// and the time that waits before the link then.
    fn one_of(many: usize, rate: f64, delay: Duration) -> (u64, Duration) {
        let config = TransferConfig::default();
        let busy = Arc::new(AtomicUsize::new(many - 1));
        let mut window = Window::new(busy);
        window.begin(&config, config.least_in_flight);
        let rtt = |bytes: f64| delay.max(Duration::from_secs_f64(many as f64 * bytes / rate / 1e3));
        for _ in 0..100 {
            window.fit(rtt(window.bytes), delay, &config, config.least_in_flight);
        }
        (window.bytes as u64, rtt(window.bytes) - delay)
    }

    #[test]
    fn little_waits_before_a_link() {
        let config = TransferConfig::default();
        let near = |waits: Duration| waits.abs_diff(config.queueing) < MS / 10;
        // 25 Gbit/s near by: all that may be.
        assert_eq!(one_of(1, 3_125_000.0, MS / 10).0, u64::from(config.send_window));
        // 2 Gbit/s near, alone or not, and 200 Mbit/s far.
        assert!(near(one_of(1, 250_000.0, MS / 5).1));
        assert!(near(one_of(8, 250_000.0, MS / 5).1));
        let (bytes, waits) = one_of(1, 25_000.0, 50 * MS);
        assert!(near(waits) && bytes > 1_250_000, "{bytes} {waits:?}");
        // 10 Mbit/s: the least.
        assert_eq!(one_of(1, 1_250.0, MS).0, config.least_in_flight);
        assert_eq!(one_of(4, 1_250.0, MS).0, config.least_in_flight / 4);
        assert_eq!(one_of(100, 1_250.0, MS).0, u64::from(config.least_send_window));
    }

    #[test]
    fn one_look_changes_little() {
        let config = TransferConfig::default();
        let mut window = Window::new(Arc::default());
        let least = config.least_in_flight;
        assert_eq!(window.begin(&config, least), least);
        assert_eq!(window.fit(MS / 10, MS / 10, &config, least), 2 * least);
        assert_eq!(window.fit(100 * MS, MS / 10, &config, least), least);
        assert_eq!(window.fit(Duration::ZERO, Duration::ZERO, &config, least), 2 * least);
    }

    #[test]
    fn only_connections_that_send_have_a_part() {
        let config = TransferConfig::default();
        let least = config.least_in_flight;
        let busy = Arc::new(AtomicUsize::new(0));
        let (mut one, mut other) = (Window::new(Arc::clone(&busy)), Window::new(busy));
        assert_eq!(one.begin(&config, least), config.least_in_flight);
        assert_eq!(one.begin(&config, least), config.least_in_flight);
        assert_eq!(other.begin(&config, least), config.least_in_flight / 2);
        one.end();
        assert_eq!(other.fit(100 * MS, MS, &config, least), config.least_in_flight / 2);
        one.end();
        assert_eq!(other.fit(100 * MS, MS, &config, least), config.least_in_flight);
    }
}
