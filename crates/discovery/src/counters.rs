//! What is counted, for whoever publishes it.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the start; those called gauges go up and down.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// The counts at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// All counts now.
            #[must_use]
            pub fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Gauge: peers that are admitted, connected and answering.
    peers_connected,
    /// Gauge: peers that are known, connected or not.
    peers_known,
    /// Gauge: 1 while the node goes on alone because nobody answered in time.
    alone,
    /// Connections on which both sides were admitted.
    admitted,
    /// Connections refused, here or by the other side, because of the cluster key.
    refused_key,
    /// Connections refused because the other side speaks another version.
    refused_version,
    /// Connections that ended or broke the rules before both sides were admitted.
    refused_protocol,
    /// Connections that took too long to be admitted.
    refused_timeout,
    /// Connections refused because too many were there already.
    refused_busy,
    /// Dials begun for the mesh and the bootstrap.
    dials,
    /// Dials that led to nobody.
    dial_failures,
    /// Peers taken for dead because they did not answer pings.
    peers_silent,
    /// Coordination messages received.
    messages_in,
    /// Coordination messages handed to a connection.
    messages_out,
    /// Coordination messages that were not acknowledged.
    messages_failed,
    /// Coordination messages received and dropped because their reader was too slow.
    messages_dropped,
    /// Bytes of coordination messages received.
    bytes_in,
    /// Bytes of coordination messages sent.
    bytes_out,
    /// Walks through Kademlia begun.
    queries,
    /// Walks through Kademlia that ran out of time.
    queries_timed_out,
}

pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

pub(crate) fn set(gauge: &AtomicU64, value: u64) {
    gauge.store(value, Ordering::Relaxed);
}
