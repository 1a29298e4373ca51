//! Who needs a blob to stay.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::Blob;

/// Keeps a blob from being evicted for as long as it lives: one for each open reader, upload or download.
#[derive(Debug)]
pub struct InUse {
    blob: Arc<Blob>,
}

impl InUse {
    /// `None` when the blob is leaving the store.
    pub(crate) fn new(blob: Arc<Blob>) -> Option<Self> {
        blob.holders().try_hold().then(|| {
            blob.touch();
            Self { blob }
        })
    }

    /// The blob.
    #[must_use]
    pub const fn blob(&self) -> &Arc<Blob> {
        &self.blob
    }
}

impl Deref for InUse {
    type Target = Blob;

    fn deref(&self) -> &Blob {
        &self.blob
    }
}

impl Clone for InUse {
    fn clone(&self) -> Self {
        self.blob.holders().hold_again();
        Self { blob: self.blob.clone() }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if self.blob.holders().release() {
            self.blob.touch();
            self.blob.rest();
        }
    }
}

/// How many hold a blob, and whether it is leaving: then nobody new may.
#[derive(Debug, Default)]
pub(crate) struct Holders(AtomicU32);

const LEAVING: u32 = 1 << 31;

impl Holders {
    fn try_hold(&self) -> bool {
        let more = |now: u32| (now & LEAVING == 0).then_some(now + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn hold_again(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns whether that was the last one.
    fn release(&self) -> bool {
        self.0.fetch_sub(1, Ordering::AcqRel) & !LEAVING == 1
    }

    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) & !LEAVING > 0
    }

    /// Lets nobody new in, if nobody is there.
    pub(crate) fn leave_if_free(&self) -> bool {
        self.0.compare_exchange(0, LEAVING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Lets nobody new in, whoever is there.
    pub(crate) fn leave(&self) {
        self.0.fetch_or(LEAVING, Ordering::AcqRel);
    }
}
