//! Small bodies, read whole and bounded.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;

use crate::{error::ErrorKind, failure::Failure};

/// Reads a body of at most `limit` bytes; `note` is told of each part. The limit holds while it streams: what an origin
/// declares is only used to refuse early.
pub(crate) async fn collect(
    mut response: Response,
    limit: usize,
    stall: Duration,
    mut note: impl FnMut(usize),
) -> Result<Bytes, Failure> {
    let too_large = || Failure::Final(ErrorKind::TooLarge { limit: limit as u64 });
    if response.content_length().is_some_and(|declared| declared > limit as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    loop {
        let part = tokio::time::timeout(stall, response.chunk()).await.map_err(|_| Failure::stalled(stall))??;
        let Some(part) = part else { return Ok(body.freeze()) };
        note(part.len());
        if body.len() + part.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&part);
    }
}
