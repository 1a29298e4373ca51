//! What ends a body that was to be cut.

use shoal_blob::Digest;

/// A body was cut on request.
#[derive(Debug, thiserror::Error)]
#[error("the body of {digest} was cut at byte {at}, as a fault asked")]
pub(crate) struct Severed {
    pub(crate) digest: Digest,
    pub(crate) at: u64,
}
