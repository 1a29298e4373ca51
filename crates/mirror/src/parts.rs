//! A blob answer cut into parts: how long it is, what it is called, and the stream that gives its bytes.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, StatusCode};
use shoal_blob::Digest;

use crate::{Ask, ByteStream, Chunk, Failure, Library, ReadEnded, ranges::Wanted};

/// The shape of a blob's answer, known before a byte of it is read.
///
/// Invariant: `length` is the sum of all prefaces, ranges and the epilogue.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) status: StatusCode,
    pub(crate) content_type: HeaderValue,
    /// For a single part, its `Content-Range`.
    pub(crate) content_range: Option<HeaderValue>,
    /// The length of the body in bytes.
    pub(crate) length: u64,
    parts: Vec<Part>,
    epilogue: Bytes,
}

#[derive(Debug)]
struct Part {
    preface: Bytes,
    range: Range<u64>,
}

impl Shape {
    /// The answer to a request for `wanted` of a blob.
    pub(crate) fn new(digest: &Digest, blob: u64, wanted: Wanted) -> Self {
        let plain = |range: Range<u64>, status, content_range| Self {
            status,
            content_type: HeaderValue::from_static("application/octet-stream"),
            content_range,
            length: range.end - range.start,
            parts: if range.is_empty() { Vec::new() } else { vec![Part { preface: Bytes::new(), range }] },
            epilogue: Bytes::new(),
        };
        match wanted {
            Wanted::Whole => plain(0..blob, StatusCode::OK, None),
            Wanted::Parts(parts) if parts.len() == 1 => {
                let range = parts.into_iter().next().expect("there is one part");
                let text = HeaderValue::try_from(content_range(&range, blob)).expect("it is plain ASCII");
                plain(range, StatusCode::PARTIAL_CONTENT, Some(text))
            }
            Wanted::Parts(parts) => Self::multipart(digest, blob, parts),
        }
    }

    /// The boundary is the blob's own digest, shortened to the 70 characters that one may have: no blob contains it.
    fn multipart(digest: &Digest, blob: u64, ranges: Vec<Range<u64>>) -> Self {
        let mut boundary = digest.hex();
        boundary.truncate(64);
        let mut length = 0;
        let parts = ranges
            .into_iter()
            .map(|range| {
                let preface = Bytes::from(format!(
                    "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
                    content_range(&range, blob)
                ));
                length += preface.len() as u64 + (range.end - range.start);
                Part { preface, range }
            })
            .collect();
        let epilogue = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let content_type = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}"));
        Self {
            status: StatusCode::PARTIAL_CONTENT,
            content_type: content_type.expect("it is plain ASCII"),
            content_range: None,
            length: length + epilogue.len() as u64,
            parts,
            epilogue,
        }
    }

    /// The body's bytes. Each part is opened only when the one before it has been read; its preface is given only
    /// together with its first bytes, so that a stream which never begins gives nothing but its failure.
    pub(crate) fn open(self, library: Arc<dyn Library>, ask: Arc<Ask>, digest: Digest) -> ByteStream {
        let parts = stream::iter(self.parts).then(move |part| {
            let (library, ask) = (Arc::clone(&library), Arc::clone(&ask));
            async move {
                match library.read(&ask, &digest, part.range.clone()).await {
                    Ok(bytes) => begun(part.preface, exact(bytes, part.range.end - part.range.start)).await,
                    Err(failure) => stream::iter([Err(ReadEnded(failure))]).boxed(),
                }
            }
        });
        parts.flatten().chain(stream::iter([Ok(Chunk::own(self.epilogue))])).boxed()
    }
}

fn content_range(range: &Range<u64>, blob: u64) -> String {
    format!("bytes {}-{}/{blob}", range.start, range.end - 1)
}

async fn begun(preface: Bytes, mut bytes: ByteStream) -> ByteStream {
    match bytes.next().await {
        Some(Ok(first)) => stream::iter([Ok(Chunk::own(preface)), Ok(first)]).chain(bytes).boxed(),
        Some(Err(ended)) => stream::iter([Err(ended)]).boxed(),
        None => bytes,
    }
}

/// The same bytes, but never more than `length`, and an error where there are fewer. Gives no empty chunk.
fn exact(bytes: ByteStream, length: u64) -> ByteStream {
    stream::unfold((bytes, length), |(mut bytes, left)| async move {
        if left == 0 {
            return None;
        }
        loop {
            match bytes.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(mut chunk)) => {
                    chunk.truncate(left);
                    let left = left - chunk.len();
                    return Some((Ok(chunk), (bytes, left)));
                }
                Some(Err(ended)) => return Some((Err(ended), (bytes, 0))),
                None => {
                    let reason = format!("the read ended {left} bytes early and gave no reason");
                    return Some((Err(ReadEnded(Failure::Internal { reason })), (bytes, 0)));
                }
            }
        }
    })
    .boxed()
}
