//! What the endpoint has counted since it was bound.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{AdmissionError, links::Links};

/// The counters behind [`Counts`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) piece_bytes_sent: AtomicU64,
    pub(crate) piece_bytes_received: AtomicU64,
    pub(crate) pieces_sent: AtomicU64,
    pub(crate) pieces_received: AtomicU64,
    pub(crate) control_bytes_sent: AtomicU64,
    pub(crate) control_bytes_received: AtomicU64,
    pub(crate) connections: AtomicU64,
    refused_key: AtomicU64,
    refused_version: AtomicU64,
    refused_late: AtomicU64,
    refused_full: AtomicU64,
    refused_duplicate: AtomicU64,
    refused_other: AtomicU64,
}

/// What the endpoint has counted since it was bound; `connections` is how many there are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of pieces handed to the network, headers excluded, repeated packets not counted.
    pub piece_bytes_sent: u64,
    /// Bytes of pieces that came, headers excluded.
    pub piece_bytes_received: u64,
    /// Pieces that a peer acknowledged whole.
    pub pieces_sent: u64,
    /// Pieces that came whole.
    pub pieces_received: u64,
    /// Bytes of control frames sent.
    pub control_bytes_sent: u64,
    /// Bytes of control frames received.
    pub control_bytes_received: u64,
    /// Bytes of UDP payload sent: all of the above with their headers, what was sent again, acknowledgements and handshakes.
    pub udp_bytes_sent: u64,
    /// Bytes of UDP payload received, whoever sent it.
    pub udp_bytes_received: u64,
    /// Peers connected now.
    pub connections: u64,
    /// Incoming connections refused for their cluster key.
    pub refused_key: u64,
    /// Incoming connections refused for their version.
    pub refused_version: u64,
    /// Incoming connections that took too long to prove themselves.
    pub refused_late: u64,
    /// Incoming connections refused because there were too many.
    pub refused_full: u64,
    /// Incoming connections that were one too many between the same two nodes.
    pub refused_duplicate: u64,
    /// Incoming connections that broke off or made no sense before they were admitted.
    pub refused_other: u64,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Relaxed);
}

impl Counters {
    pub(crate) fn refused(&self, why: &AdmissionError) {
        let counter = match why {
            AdmissionError::AnotherClusterKey => &self.refused_key,
            AdmissionError::OtherVersion { .. } | AdmissionError::OtherProtocol => &self.refused_version,
            AdmissionError::TooLate => &self.refused_late,
            AdmissionError::Full => &self.refused_full,
            AdmissionError::Duplicate => &self.refused_duplicate,
            AdmissionError::Myself | AdmissionError::Malformed(_) | AdmissionError::Lost(_) => &self.refused_other,
        };
        add(counter, 1);
    }

    pub(crate) fn read(&self, links: &Links) -> Counts {
        Counts {
            piece_bytes_sent: self.piece_bytes_sent.load(Relaxed),
            piece_bytes_received: self.piece_bytes_received.load(Relaxed),
            pieces_sent: self.pieces_sent.load(Relaxed),
            pieces_received: self.pieces_received.load(Relaxed),
            control_bytes_sent: self.control_bytes_sent.load(Relaxed),
            control_bytes_received: self.control_bytes_received.load(Relaxed),
            udp_bytes_sent: links.sent.load(Relaxed),
            udp_bytes_received: links.received.load(Relaxed),
            connections: self.connections.load(Relaxed),
            refused_key: self.refused_key.load(Relaxed),
            refused_version: self.refused_version.load(Relaxed),
            refused_late: self.refused_late.load(Relaxed),
            refused_full: self.refused_full.load(Relaxed),
            refused_duplicate: self.refused_duplicate.load(Relaxed),
            refused_other: self.refused_other.load(Relaxed),
        }
    }
}
