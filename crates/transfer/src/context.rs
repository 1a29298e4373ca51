//! What every connection of an endpoint shares.

use std::sync::{Arc, atomic::AtomicUsize};

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
    /// The uploads under way.
    pub(crate) uploads: TaskTracker,
    /// The writers of control streams.
    pub(crate) writers: TaskTracker,
    /// Everything else that runs.
    pub(crate) tasks: TaskTracker,
}

impl Context {
    pub(crate) fn new(config: TransferConfig, links: Arc<Links>) -> Self {
        Self {
            links,
            config,
            counters: Counters::default(),
            closing: CancellationToken::new(),
            sending: Arc::default(),
            uploads: TaskTracker::new(),
            writers: TaskTracker::new(),
            tasks: TaskTracker::new(),
        }
    }
}
