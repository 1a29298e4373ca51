//! What is to be told about one request, as it becomes known.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{StatusCode, header, request::Parts};
use shoal_blob::Digest;

use crate::{
    Answered, Audit, BySource, Item, Verdict,
    target::{Named, What},
};

/// How much of a `Range` header is told.
const MOST_RANGE: usize = 256;

/// The beginning of what the audit is told.
pub(crate) struct Entry {
    audit: Arc<dyn Audit>,
    begun: Instant,
    answered: Answered,
}

impl Entry {
    /// That of a request for a manifest or a blob; nothing else is told.
    pub(crate) fn of(audit: &Arc<dyn Audit>, head: &Parts, named: &Named, caller: SocketAddr) -> Option<Self> {
        let (what, digest) = match &named.what {
            What::Manifest(shoal_blob::Reference::Digest(digest)) => (Item::Manifest, Some(*digest)),
            What::Manifest(shoal_blob::Reference::Tag(_)) => (Item::Manifest, None),
            What::Blob(digest) => (Item::Blob, Some(*digest)),
            What::Listing(_) => return None,
        };
        let range = head.headers.get(header::RANGE).and_then(|range| range.to_str().ok());
        let answered = Answered {
            at: SystemTime::now(),
            took: Duration::ZERO,
            caller,
            method: head.method.clone(),
            what,
            repository: named.repository.clone(),
            reference: named.reference().into_owned(),
            digest,
            range: range.map(|range| range.chars().take(MOST_RANGE).collect()),
            status: StatusCode::OK,
            bytes: 0,
            from: BySource::default(),
            verdict: Verdict::Served,
        };
        Some(Self { audit: Arc::clone(audit), begun: Instant::now(), answered })
    }

    /// Notes what a tag led to.
    pub(crate) const fn led_to(&mut self, digest: Digest) {
        self.answered.digest = Some(digest);
    }

    /// Notes the status of the answer.
    pub(crate) const fn status(&mut self, status: StatusCode) {
        self.answered.status = status;
    }

    /// Tells it: the answer has ended.
    pub(crate) fn tell(self, bytes: u64, from: BySource, verdict: Verdict) {
        let Self { audit, begun, answered } = self;
        audit.answered(Answered { took: begun.elapsed(), bytes, from, verdict, ..answered });
    }
}
