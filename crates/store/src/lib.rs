//! Where verified pieces rest, and what may go.
//!
//! One sparse file a blob, pieces at their final offset, and beside it a sidecar with everything that is needed to check
//! them again; an index that says what is here, which is a convenience and can be lost. The rules that the rest follows from:
//!
//! * only a [`shoal_blob::VerifiedPiece`] is stored, and only pieces that were verified since they were last doubted are read;
//! * a blob is complete only after its data and its proven chain have been synced, in that order;
//! * after an unclean stop partial blobs are unchecked, and unchecked pieces are not readable until
//!   [`Blob::recheck`] has hashed them again;
//! * the lengths of all blobs together never exceed the capacity; what is held ([`InUse`]) or pinned is never evicted.
//!
//! Calls do file I/O in the calling thread. Those that only touch the page cache are short; those that sync, evict or hash
//! say so in their documentation and belong on a blocking thread.

mod blob;
mod clock;
mod config;
mod data_file;
mod disk;
mod error;
mod evict;
mod folder;
mod holdings;
mod in_use;
mod index;
mod ledger;
mod lent;
mod local_disk;
mod manifest;
mod papers;
mod place;
mod recheck;
mod record;
mod resume;
mod sidecar;
mod store;
mod tag;

pub use blob::Blob;
pub use config::StoreConfig;
pub use disk::{Disk, DiskFile};
pub use error::{Full, StoreError};
pub use evict::Departure;
pub use in_use::InUse;
pub use index::IndexError;
pub use ledger::{Holding, Usage};
pub use lent::Lent;
pub use local_disk::LocalDisk;
pub use manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestError};
pub use recheck::Rechecked;
pub use store::Store;
pub use tag::RememberedTag;
