//! Without any of it: every node pulls the whole blob from the origin, which shares its rate fairly.

use std::time::Duration;

use shoal_swarm::Time;

use crate::{Scenario, network::span};

/// When each node has the blob, and what the origin sent. All get the same part of the origin's rate, all the time.
pub(super) fn times(scenario: &Scenario) -> (Vec<Time>, u64) {
    let alone = scenario.reading_rate().min(scenario.down);
    let all = scenario.length() * u64::from(scenario.nodes);
    let takes = span(scenario.length(), alone).max(span(all, scenario.origin_rate));
    let round_trip = Duration::from_micros(scenario.latency_us) * 2;
    (vec![Time::ZERO + round_trip + takes; scenario.nodes as usize], all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_sends_the_blob_to_each() {
        let scenario = Scenario::flash(10, 25);
        let (done, sent) = times(&scenario);
        assert_eq!(sent, 250 << 20);
        let seconds = done[9].since(Time::ZERO).as_secs_f64();
        assert!((seconds - 0.001 - f64::from(250 << 20) / 25e6).abs() < 1e-6, "{seconds}");
    }
}
