//! What the sidecar of a blob keeps of its chain.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shoal_proto::{SignedGrant, SignedSegment, Visibility, codec};

/// One record of the sidecar: what is needed to check and to relay the chain again after a restart.
#[derive(Serialize, Deserialize)]
pub(super) enum Claim {
    Grant(SignedGrant),
    Segment(SignedSegment),
}

impl Claim {
    /// The record.
    pub(super) fn record(&self) -> Bytes {
        codec::body(self, codec::MAX_TRADE_BODY).expect("a segment is bounded").into()
    }

    /// The claim that a record is; nothing, where it is none of ours.
    pub(super) fn read(record: &[u8]) -> Option<Self> {
        codec::decode(record).ok()
    }
}

/// To whom the origin served the blob, where a grant among these records says so.
pub(super) fn visibility(records: &[Bytes]) -> Option<Visibility> {
    records.iter().find_map(|record| match Claim::read(record) {
        Some(Claim::Grant(grant)) => Some(grant.grant().visibility),
        _ => None,
    })
}
