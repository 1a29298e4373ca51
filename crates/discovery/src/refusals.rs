//! Connections that did not come to be: each is counted, and told in the log without flooding it.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, TransportError, connection_limits::Exceeded, swarm::ConnectionDenied};

use crate::{Counters, admission::AdmissionError, counters::add, gate::admission_error};

/// At most one line a second in each direction: strangers must not fill the log.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Throttle {
    last: Option<Instant>,
    untold: u64,
}

impl Throttle {
    /// Whether to tell now, and how many were not told since the last time.
    fn ask(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// Counts and tells.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    inbound: Throttle,
    outbound: Throttle,
}

impl Refusals {
    /// A connection that came in was not admitted.
    pub(crate) fn inbound(
        &mut self,
        counters: &Counters,
        from: &Multiaddr,
        error: &TransportError<std::io::Error>,
        now: Instant,
    ) {
        let cause = cause(error);
        count(counters, cause);
        match cause {
            Some(cause) if is_worth_telling(cause) => {
                if let Some(untold) = self.inbound.ask(now) {
                    tracing::warn!(%from, untold, reason = %cause, "refused a connection to the control plane");
                }
            }
            Some(cause) => tracing::debug!(%from, reason = %cause, "a connection to the control plane ended early"),
            None => tracing::debug!(%from, ?error, "a connection to the control plane ended early"),
        }
    }

    /// A dial failed; it is told where that was for want of admission.
    pub(crate) fn outbound(
        &mut self,
        counters: &Counters,
        to: &Multiaddr,
        error: &TransportError<std::io::Error>,
        now: Instant,
    ) {
        let Some(cause) = cause(error) else {
            tracing::debug!(%to, ?error, "a dial on the control plane failed");
            return;
        };
        count(counters, Some(cause));
        if let Some(untold) = self.outbound.ask(now) {
            tracing::warn!(%to, untold, reason = %cause, "was not admitted by a node of the control plane");
        }
    }

    /// A connection was turned away because there are too many.
    pub(crate) fn denied(&mut self, counters: &Counters, from: &Multiaddr, denied: &ConnectionDenied, now: Instant) {
        add(&counters.refused_busy, 1);
        let reason = denied.downcast_ref::<Exceeded>().map_or_else(|| denied.to_string(), ToString::to_string);
        if let Some(untold) = self.inbound.ask(now) {
            tracing::warn!(%from, untold, %reason, "turned a connection to the control plane away");
        }
    }
}

fn cause(error: &TransportError<std::io::Error>) -> Option<&AdmissionError> {
    match error {
        TransportError::Other(error) => admission_error(error as &(dyn Error + 'static)),
        TransportError::MultiaddrNotSupported(_) => None,
    }
}

fn is_worth_telling(cause: &AdmissionError) -> bool {
    !matches!(cause, AdmissionError::Io(_) | AdmissionError::Noise(_))
}

fn count(counters: &Counters, cause: Option<&AdmissionError>) {
    let counter = match cause {
        Some(AdmissionError::ForeignKey { .. } | AdmissionError::RefusedByPeer { .. }) => &counters.refused_key,
        Some(AdmissionError::Version { .. }) => &counters.refused_version,
        Some(AdmissionError::TooSlow) => &counters.refused_timeout,
        _ => &counters.refused_protocol,
    };
    add(counter, 1);
}
