//! How much of a connection may be unacknowledged.

use std::time::Duration;

use crate::TransferConfig;

/// The send window of one connection.
///
/// What is unacknowledged beyond bandwidth times delay waits before the links on the way, and with it every word to every peer
/// behind them; a sender that looks only at losses keeps these queues full. So it follows the round trip: as much as lets what
/// is sent wait for [`TransferConfig::queueing`] on its way (as FAST TCP, Wei et al. 2006, with that in the place of its alpha).
/// Where several connections fill a link none of them gets below the least window, so that they share the link evenly.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: f64,
}

/// By how much it changes at most each time it is fitted.
const STEP: f64 = 2.0;

impl Window {
    pub(crate) fn new(config: &TransferConfig) -> Self {
        Self { bytes: f64::from(config.least_send_window) }
    }

    /// Fits the window to the round trip, as it is and as it was at its shortest; returns what may be unacknowledged from now on.
    pub(crate) fn fit(&mut self, rtt: Duration, least: Duration, config: &TransferConfig) -> u64 {
        let factor = (least + config.queueing).as_secs_f64() / rtt.as_secs_f64().max(1e-6);
        let bytes = self.bytes * factor.clamp(1.0 / STEP, STEP);
        let most = f64::from(config.send_window);
        self.bytes = bytes.clamp(f64::from(config.least_send_window).min(most), most);
        self.bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A link that carries so many bytes a millisecond, and is so far: the window after many uploads, and the time that waits
    /// before the link then.
    fn alone(rate: f64, delay: Duration) -> (u64, Duration) {
        let config = TransferConfig::default();
        let mut window = Window::new(&config);
        let rtt = |bytes: f64| delay.max(Duration::from_secs_f64(bytes / rate / 1e3));
        for _ in 0..100 {
            window.fit(rtt(window.bytes), delay, &config);
        }
        (window.bytes as u64, rtt(window.bytes) - delay)
    }

    #[test]
    fn little_waits_before_a_link() {
        let config = TransferConfig::default();
        let near = |waits: Duration| waits.abs_diff(config.queueing) < MS / 10;
        // 25 Gbit/s near by: all that may be.
        assert_eq!(alone(3_125_000.0, MS / 10).0, u64::from(config.send_window));
        // 1 Gbit/s near, and far.
        assert!(near(alone(125_000.0, MS / 5).1));
        let (bytes, waits) = alone(25_000.0, 50 * MS);
        assert!(near(waits) && bytes > 1_250_000, "{bytes} {waits:?}");
        // 10 Mbit/s: the least.
        assert_eq!(alone(1_250.0, MS).0, u64::from(config.least_send_window));
    }

    #[test]
    fn one_look_changes_little() {
        let config = TransferConfig::default();
        let mut window = Window::new(&config);
        let least = u64::from(config.least_send_window);
        assert_eq!(window.fit(MS / 10, MS / 10, &config), 2 * least);
        assert_eq!(window.fit(100 * MS, MS / 10, &config), least);
        assert_eq!(window.fit(Duration::ZERO, Duration::ZERO, &config), 2 * least);
    }
}
