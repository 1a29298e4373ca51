//! What the mirror's clients are told when the origin, the store or the swarm fails.

use shoal_blob::{Digest, Reference, Repository};
use shoal_mirror::Failure;
use shoal_origin::{ErrorKind, OriginError};
use shoal_proto::coordination::Refusal;
use shoal_store::StoreError;

/// A failed request to the origin for a manifest or a blob.
pub(super) fn of_origin(error: &OriginError, reference: &Reference) -> Failure {
    let reason = error.to_string();
    match &error.kind {
        ErrorKind::RegistryNotConfigured => Failure::RegistryNotConfigured { registry: error.registry.clone() },
        ErrorKind::AddressRefused { .. } | ErrorKind::Unauthorized | ErrorKind::Forbidden => {
            Failure::OriginDenied { reason }
        }
        ErrorKind::NotFound => {
            tracing::debug!(%reference, %error, "not at the origin");
            Failure::ManifestUnknown
        }
        ErrorKind::TooLarge { limit } => Failure::ManifestTooLarge { limit: *limit },
        ErrorKind::RateLimited { .. } => Failure::Overloaded { reason },
        ErrorKind::Unavailable(_) => Failure::OriginUnreachable { reason },
        ErrorKind::Stalled(_) => Failure::Stalled { reason },
        ErrorKind::WrongBytes(_) | ErrorKind::NoRanges | ErrorKind::Unexpected(_) | ErrorKind::Invalid(_) => {
            Failure::OriginFailed { reason }
        }
    }
}

/// A blob that nobody in the swarm can read at its origin: those of this node's clients asked for it in `repositories`.
pub(super) fn of_refusal(refusal: Refusal, digest: &Digest, repositories: &[Repository]) -> Failure {
    let places: Vec<String> = repositories.iter().map(ToString::to_string).collect();
    let reason = format!("{digest} in {}: {refusal}", places.join(", "));
    match refusal {
        Refusal::Unauthorized | Refusal::Forbidden => Failure::OriginDenied { reason },
        Refusal::NotFound => Failure::BlobUnknown,
        Refusal::Unavailable => Failure::OriginUnreachable { reason },
        Refusal::Stalled => Failure::Stalled { reason },
        Refusal::WrongBytes => Failure::OriginFailed { reason },
        Refusal::NotConfigured => Failure::OriginDenied { reason },
        Refusal::NoRoom => Failure::StoreFull { reason },
    }
}

/// A store that cannot take or give a blob.
pub(super) fn of_store(error: &StoreError) -> Failure {
    let reason = error.to_string();
    match error {
        StoreError::Full(_) => Failure::StoreFull { reason },
        StoreError::Closed { .. } => Failure::Draining,
        _ => Failure::Internal { reason },
    }
}
