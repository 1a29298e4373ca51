//! Manifests, as far as they are looked into.

/// A manifest's bytes.
pub fn eat(bytes: &[u8]) {
    shoal_origin::fuzzing::manifest(bytes);
}
