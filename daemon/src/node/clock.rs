//! The clock that the state machines are driven by.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use shoal_swarm::Time;

/// Counts from the machine's boot and runs on while it is suspended, so that a lease does not outlive a lid being closed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock;

impl Clock {
    pub(super) fn now(self) -> Time {
        let read = clock_gettime(ClockId::Boottime);
        Time::after(Duration::new(
            u64::try_from(read.tv_sec).unwrap_or_default(),
            u32::try_from(read.tv_nsec).unwrap_or_default(),
        ))
    }
}
