//! What the mirror has counted, for its host to read.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use http::StatusCode;

const STATUSES: usize = 500;

/// The kinds of request, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// `/v2/`.
    Ping,
    /// A manifest.
    Manifest,
    /// A blob.
    Blob,
    /// A list of tags.
    Tags,
    /// A list of referrers.
    Referrers,
    /// Anything else, and what could not be parsed.
    Other,
}

impl Route {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [Self::Ping, Self::Manifest, Self::Blob, Self::Tags, Self::Referrers, Self::Other];

    /// A word for it, as a metric's label has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
            Self::Other => "other",
        }
    }
}

/// How often requests of one route were answered with one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestCount {
    /// The kind of request.
    pub route: Route,
    /// The status of the answer.
    pub status: StatusCode,
    /// How many.
    pub count: u64,
}

/// Counters and gauges of one mirror. Each is read on its own; together they are no snapshot.
#[derive(Debug)]
pub struct MirrorCounts {
    pub(crate) bytes_to_clients: AtomicU64,
    pub(crate) open_readers: AtomicU64,
    pub(crate) open_connections: AtomicU64,
    pub(crate) refused_connections: AtomicU64,
    pub(crate) short_bodies: AtomicU64,
    pub(crate) abandoned_bodies: AtomicU64,
    requests: Box<[AtomicU64]>,
}

impl MirrorCounts {
    pub(crate) fn new() -> Self {
        Self {
            bytes_to_clients: AtomicU64::new(0),
            open_readers: AtomicU64::new(0),
            open_connections: AtomicU64::new(0),
            refused_connections: AtomicU64::new(0),
            short_bodies: AtomicU64::new(0),
            abandoned_bodies: AtomicU64::new(0),
            requests: (0..Route::ALL.len() * STATUSES).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Bytes of blobs, manifests and listings handed to connections.
    #[must_use]
    pub fn bytes_to_clients(&self) -> u64 {
        self.bytes_to_clients.load(Relaxed)
    }

    /// Blob bodies being sent now.
    #[must_use]
    pub fn open_readers(&self) -> u64 {
        self.open_readers.load(Relaxed)
    }

    /// Connections open now, without those being refused.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.open_connections.load(Relaxed)
    }

    /// Connections refused because there were too many.
    #[must_use]
    pub fn refused_connections(&self) -> u64 {
        self.refused_connections.load(Relaxed)
    }

    /// Bodies that the mirror ended before their full length.
    #[must_use]
    pub fn short_bodies(&self) -> u64 {
        self.short_bodies.load(Relaxed)
    }

    /// Bodies that the client left, or took no bytes of, before their full length. Clients that read ranges by opening
    /// the rest of a blob do so all the time.
    #[must_use]
    pub fn abandoned_bodies(&self) -> u64 {
        self.abandoned_bodies.load(Relaxed)
    }

    /// How often each route was answered with each status; those that never occurred are left out.
    pub fn requests(&self) -> impl Iterator<Item = RequestCount> + '_ {
        self.requests.iter().enumerate().filter_map(|(at, count)| {
            let status = StatusCode::from_u16(100 + (at % STATUSES) as u16).ok()?;
            let count = count.load(Relaxed);
            (count > 0).then_some(RequestCount { route: Route::ALL[at / STATUSES], status, count })
        })
    }

    pub(crate) fn answered(&self, route: Route, status: StatusCode) {
        let at = (usize::from(status.as_u16()) - 100).min(STATUSES - 1);
        self.requests[route as usize * STATUSES + at].fetch_add(1, Relaxed);
    }
}

/// One more in a gauge, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    counts: Arc<MirrorCounts>,
    gauge: fn(&MirrorCounts) -> &AtomicU64,
}

impl Held {
    pub(crate) fn new(counts: &Arc<MirrorCounts>, gauge: fn(&MirrorCounts) -> &AtomicU64) -> Self {
        gauge(counts).fetch_add(1, Relaxed);
        Self { counts: Arc::clone(counts), gauge }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.gauge)(&self.counts).fetch_sub(1, Relaxed);
    }
}
