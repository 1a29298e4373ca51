//! Manifests that say of another that it is their subject, as signatures do.

use serde_json::{Value, json};
use shoal_blob::Digest;

use crate::catalog::Manifest;

/// The manifest that this one is about, where it is about one.
pub(crate) fn subject(manifest: &[u8]) -> Option<Digest> {
    let document: Value = serde_json::from_slice(manifest).ok()?;
    document["subject"]["digest"].as_str()?.parse().ok()
}

/// How a list of referrers has it, where it is about `of`.
pub(crate) fn descriptor(manifest: &Manifest, of: &Digest) -> Option<Value> {
    let document: Value = serde_json::from_slice(&manifest.bytes).ok()?;
    if document["subject"]["digest"].as_str()?.parse() != Ok(*of) {
        return None;
    }
    let artifact_type = document.get("artifactType").or_else(|| document["config"].get("mediaType"));
    let mut descriptor = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest.to_string(),
        "size": manifest.bytes.len(),
        "artifactType": artifact_type.cloned().unwrap_or_default(),
    });
    if let Some(annotations) = document.get("annotations") {
        descriptor["annotations"] = annotations.clone();
    }
    Some(descriptor)
}
