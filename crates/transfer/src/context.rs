//! What every connection of an endpoint shares.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{TransferConfig, counters::Counters, links::Links};

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: TransferConfig,
    pub(crate) counters: Counters,
    pub(crate) links: Arc<Links>,
    /// Cancelled when the endpoint begins to close: nothing new is begun.
    pub(crate) closing: CancellationToken,
    /// How many connections have uploads under way.
    pub(crate) sending: Arc<AtomicUsize>,
    /// Whether much comes over this node's link beside what peers send.
    pub(crate) besieged: AtomicBool,
    /// The uploads under way.
    pub(crate) uploads: TaskTracker,
    /// The writers of control streams.
    pub(crate) writers: TaskTracker,
    /// Everything else that runs.
    pub(crate) tasks: TaskTracker,
}

/// How much more may always be on its way where much comes over the link beside what peers send.
const BESIEGED: u64 = 4;

impl Context {
    pub(crate) fn new(config: TransferConfig, links: Arc<Links>) -> Self {
        Self {
            links,
            config,
            counters: Counters::default(),
            closing: CancellationToken::new(),
            sending: Arc::default(),
            besieged: AtomicBool::new(false),
            uploads: TaskTracker::new(),
            writers: TaskTracker::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// How many bytes may always be on their way to all peers together.
    pub(crate) fn least_in_flight(&self) -> u64 {
        self.config.least_in_flight * if self.besieged.load(Relaxed) { BESIEGED } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_may_be_on_its_way_where_round_trips_say_little() {
        let context = Context::new(TransferConfig::default(), Arc::new(Links::new(crate::Rates::default(), 1472)));
        let usual = context.least_in_flight();
        assert_eq!(usual, context.config.least_in_flight);
        context.besieged.store(true, Relaxed);
        assert_eq!(context.least_in_flight(), 4 * usual);
    }
}
