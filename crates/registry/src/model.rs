//! The two JSON documents of a ModelPack artifact (CNCF model-spec): its manifest and its config.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::Blob;

/// The media type of the manifest itself: ModelPack artifacts are OCI images to a registry.
pub(crate) const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const ARTIFACT_TYPE: &str = "application/vnd.cncf.model.manifest.v1+json";
const CONFIG: &str = "application/vnd.cncf.model.config.v1+json";
const WEIGHT: &str = "application/vnd.cncf.model.weight.v1.raw";

/// The config: what the model is, and the digest of each layer's unpacked bytes, which for raw layers is the layer's own.
pub(crate) fn config(repository: &str, tag: &str, layers: &[(&str, Blob)]) -> Bytes {
    let name = repository.rsplit('/').next().unwrap_or(repository);
    let bytes: u64 = layers.iter().map(|(_, layer)| layer.len()).sum();
    let diff_ids: Vec<String> = layers.iter().map(|(_, layer)| layer.digest().to_string()).collect();
    written(&json!({
        "descriptor": {
            "createdAt": "2025-01-01T00:00:00Z",
            "family": name,
            "name": name,
            "version": tag,
            "licenses": ["Apache-2.0"],
        },
        "config": {
            "architecture": "transformer",
            "format": "raw",
            "paramSize": parameters(bytes / 2),
            "precision": "bf16",
        },
        "modelfs": { "type": "layers", "diffIds": diff_ids },
    }))
}

/// The manifest that names the config and the layers.
pub(crate) fn manifest(config: &Blob, layers: &[(&str, Blob)]) -> Bytes {
    let layers: Vec<Value> = layers
        .iter()
        .map(|(path, layer)| {
            let mut descriptor = descriptor(WEIGHT, layer);
            descriptor["annotations"] = json!({ "org.cncf.model.filepath": path });
            descriptor
        })
        .collect();
    written(&json!({
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": descriptor(CONFIG, config),
        "layers": layers,
    }))
}

fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({ "mediaType": media_type, "digest": blob.digest(), "size": blob.len() })
}

fn written(document: &Value) -> Bytes {
    serde_json::to_vec(document).expect("a JSON value has only string keys").into()
}

/// A count of parameters as the model-spec writes it, such as `4.3b`.
fn parameters(count: u64) -> String {
    let (unit, letter) = [(1_000_000_000_000, 't'), (1_000_000_000, 'b'), (1_000_000, 'm')]
        .into_iter()
        .find(|(unit, _)| count >= *unit)
        .unwrap_or((1_000, 'k'));
    let tenths = count / (unit / 10);
    format!("{}.{}{letter}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Artifact;

    #[test]
    fn a_synthetic_artifact_is_a_modelpack() {
        let artifact = Artifact::synthetic("models/synthetic", "v1", 100_000, 1);
        let manifest: Value = serde_json::from_slice(artifact.manifest()).unwrap();
        let [config, layer] = artifact.blobs() else { panic!("a config and a layer are expected") };
        assert_eq!(manifest["artifactType"], ARTIFACT_TYPE);
        assert_eq!(manifest["config"]["mediaType"], CONFIG);
        assert_eq!(manifest["config"]["digest"], config.digest().to_string());
        assert_eq!(manifest["config"]["size"], config.len());
        assert_eq!(manifest["layers"][0]["mediaType"], WEIGHT);
        assert_eq!(manifest["layers"][0]["digest"], layer.digest().to_string());
        assert_eq!(manifest["layers"][0]["size"], 100_000);
        assert_eq!(manifest["layers"][0]["annotations"]["org.cncf.model.filepath"], "model.bin");
        let config: Value = serde_json::from_slice(&config.read(0, usize::MAX)).unwrap();
        assert_eq!(config["modelfs"], json!({ "type": "layers", "diffIds": [layer.digest()] }));
        assert_eq!(config["config"]["paramSize"], "50.0k");
    }

    #[test]
    fn the_same_seed_makes_the_same_artifact() {
        let make = |seed| Artifact::synthetic("m", "v1", 70_000, seed).manifest_digest();
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    #[test]
    fn parameters_are_written_with_one_decimal() {
        for (count, text) in [(0, "0.0k"), (1_250, "1.2k"), (8_030_000_000, "8.0b"), (1_500_000_000_000, "1.5t")] {
            assert_eq!(parameters(count), text);
        }
    }
}
