//! One range of a blob as a stream that survives broken connections.

use std::{ops::Range, sync::Arc, time::Instant};

use bytes::Bytes;
use futures::Stream;
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::Response;
use shoal_blob::{Digest, Repository};

use crate::{
    blob::refuse_encoded,
    content_range::ContentRange,
    counters::RequestKind,
    error::{ErrorKind, OriginError},
    failure::Failure,
    origins::Origins,
    registry::{Answer, Ask, Registry, Visibility},
    retry::{Budget, PROGRESS},
};

/// The bytes of one range, in order, exactly as many as were asked for.
///
/// When the connection breaks, the body ends short, or nothing comes for
/// [`Patience::stall`](crate::Patience::stall), the rest is asked for at the offset reached; bytes are never delivered
/// twice. All streams together keep to [`Policy::limit`](crate::Policy::limit): what came is charged for whole, and what follows is
/// read when that is paid, so that the origin is held back by what lies unread. Nothing is read ahead of [`chunk`](Self::chunk) but what the network's buffers hold, and only time spent in it
/// counts as a stall.
///
/// Invariant: `at` is the blob's offset of the next byte to deliver; `body`, where there is one, is just before it.
#[derive(Debug)]
pub struct BlobStream {
    registry: Arc<Registry>,
    ask: Ask,
    at: u64,
    end: u64,
    expected_total: Option<u64>,
    body: Option<Body>,
    visibility: Visibility,
    budget: Budget,
    /// When the limit lets it go on.
    promised: Option<Instant>,
    failed: Option<OriginError>,
}

#[derive(Debug)]
struct Body {
    response: Response,
    /// How many bytes it still has that are wanted.
    left: u64,
    /// Whether more may follow that is not wanted: the whole blob was sent for a range.
    whole: bool,
    /// Whether its length was declared; where it was not, its end has to be seen.
    declared: bool,
    /// The number of the endpoint that it comes from.
    endpoint: usize,
    /// How many bytes it has brought.
    came: u64,
}

impl Origins {
    /// Opens a range of a blob. Returns when the origin has answered with it; `expected_total` is the blob's length, where it
    /// is known, and an origin that says otherwise is not believed. An empty range asks for nothing.
    ///
    /// # Errors
    /// [`OriginError`], after retries where they help. [`ErrorKind::NoRanges`] from an origin that sends the whole when the
    /// range does not start at 0.
    pub async fn open(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Range<u64>,
        expected_total: Option<u64>,
    ) -> Result<BlobStream, OriginError> {
        let (registry, path) = self.find(repository)?;
        let ask = Ask::new(RequestKind::BlobGet, Method::GET, &path, format!("blobs/{digest}"));
        if range.start > range.end || expected_total.is_some_and(|total| range.end > total) {
            let why = format!("bytes {}..{} are not a range of this blob", range.start, range.end);
            return Err(registry.error(&ask, ErrorKind::Invalid(why)));
        }
        let budget = Budget::new(registry.patience);
        let mut stream = BlobStream {
            registry,
            ask,
            at: range.start,
            end: range.end,
            expected_total,
            body: None,
            visibility: Visibility::Anonymous,
            budget,
            promised: None,
            failed: None,
        };
        while stream.body.is_none() && stream.at < stream.end {
            if let Err(failure) = stream.ask_for_rest().await {
                stream.after(failure).await?;
            }
        }
        Ok(stream)
    }
}

impl BlobStream {
    /// The offset in the blob of the next byte.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.at
    }

    /// How many bytes are still to come.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.end - self.at
    }

    /// To whom the origin served this.
    #[must_use]
    pub const fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// The next bytes; `None` after the last. Cancel-safe: a call that is dropped loses nothing.
    ///
    /// # Errors
    /// [`OriginError`] when the retries are spent or would not help. The same error again from then on.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, OriginError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        while self.at < self.end {
            let outcome =
                if self.body.is_some() { self.read().await } else { self.ask_for_rest().await.map(|()| None) };
            match outcome {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => {}
                Err(failure) => {
                    if let Some(body) = self.body.take() {
                        self.doubt(&body, &failure);
                    }
                    self.after(failure).await?;
                }
            }
        }
        Ok(None)
    }

    /// The same as a stream; it ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, OriginError>> + Send {
        futures::stream::try_unfold(
            self,
            |mut stream| async move { Ok(stream.chunk().await?.map(|bytes| (bytes, stream))) },
        )
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Failure> {
        // Ours and no stall of the origin's.
        self.registry.limit.wait(self.promised).await;
        let Some(body) = &mut self.body else { return Ok(None) };
        let stall = self.registry.patience.stall;
        let part = tokio::time::timeout(stall, body.response.chunk()).await;
        if body.left == 0 && !matches!(&part, Ok(Ok(Some(more))) if !more.is_empty()) {
            // All is there; how the connection ends is of no interest.
            self.body = None;
            return Ok(None);
        }
        let Some(mut part) = part.map_err(|_| Failure::stalled(stall))?? else {
            return Err(Failure::network(format!("the body ended {} bytes short", body.left)));
        };
        self.registry.counters.received(RequestKind::BlobGet, part.len());
        self.promised = self.registry.limit.charge(part.len() as u64);
        if part.len() as u64 > body.left {
            if !body.whole {
                return Err(Failure::wrong("more bytes than its Content-Range said"));
            }
            part.truncate(usize::try_from(body.left).unwrap_or(usize::MAX));
        }
        let length = part.len() as u64;
        body.left -= length;
        body.came += length;
        if body.left == 0 && (body.declared || body.whole) {
            // An origin may give less than was asked for in one answer; the rest is asked for then.
            self.body = None;
        }
        self.at += length;
        self.budget.progressed(length);
        Ok((!part.is_empty()).then_some(part))
    }

    async fn ask_for_rest(&mut self) -> Result<(), Failure> {
        let range = HeaderValue::from_str(&format!("bytes={}-{}", self.at, self.end - 1))
            .map_err(|error| Failure::Final(ErrorKind::Invalid(error.to_string())))?;
        self.ask.headers.insert(header::RANGE, range);
        let Answer { response, visibility, endpoint } = self.registry.answer(&self.ask).await?;
        refuse_encoded(response.headers())?;
        let declared = response.content_length();
        let (left, whole) = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let Some(range) = ContentRange::read(response.headers()) else {
                    return Err(Failure::wrong("a partial answer without a Content-Range of bytes"));
                };
                self.check_total(range.total)?;
                if range.bytes.start != self.at || range.bytes.end > self.end {
                    let (asked, got) = (self.at..self.end, range.bytes);
                    return Err(Failure::wrong(format!("bytes {got:?} where {asked:?} were asked for")));
                }
                (range.bytes.end - range.bytes.start, false)
            }
            StatusCode::OK if self.at > 0 => return Err(Failure::Final(ErrorKind::NoRanges)),
            StatusCode::OK => {
                self.check_total(declared)?;
                (self.end, true)
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(Failure::wrong(format!("the blob ends before byte {} (416)", self.end)));
            }
            status => return Err(Failure::of_status(status, response.headers())),
        };
        if declared.is_some_and(|declared| if whole { declared < left } else { declared != left }) {
            return Err(Failure::wrong("a Content-Length that does not fit the range"));
        }
        self.visibility = visibility;
        self.body = Some(Body { response, left, whole, declared: declared.is_some(), endpoint, came: 0 });
        Ok(())
    }

    fn check_total(&self, told: Option<u64>) -> Result<(), Failure> {
        match (told, self.expected_total) {
            (Some(told), Some(expected)) if told != expected => {
                Err(Failure::wrong(format!("the blob has {told} bytes now, and had {expected} before")))
            }
            _ => Ok(()),
        }
    }

    /// A body that fell silent, or broke before it brought much, says something about where it came from.
    fn doubt(&self, body: &Body, failure: &Failure) {
        if let Failure::Passing(kind, wait) = failure
            && (matches!(kind, ErrorKind::Stalled(_)) || body.came < PROGRESS)
        {
            self.registry.gave_trouble(body.endpoint, kind, *wait);
        }
    }

    async fn after(&mut self, failure: Failure) -> Result<(), OriginError> {
        let outcome = self.registry.wait(&self.ask, &mut self.budget, failure).await;
        self.failed = outcome.as_ref().err().cloned();
        outcome
    }
}
