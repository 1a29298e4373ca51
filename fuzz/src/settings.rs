//! The settings file, and the cluster key file.

use shoal::config::{Layer, Settings};
use shoal_proto::ClusterKeys;

/// A TOML file; and the same bytes as a key file.
pub fn eat(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = ClusterKeys::parse(text).map_err(|error| {
        let said = error.to_string();
        assert!(said.len() < 200, "an error that may have a key in it: {said}");
    });
    let Ok(mut layer) = toml::from_str::<Layer>(text) else { return };
    // It would be read, whatever file it is.
    layer.cluster_key_file = None;
    let Ok(settings) = Settings::of(layer) else { return };
    let written = toml::to_string(settings.layer()).expect("settings can be written");
    let again = toml::from_str::<Layer>(&written).unwrap_or_else(|error| panic!("{error}, of:\n{written}"));
    let again = Settings::of(again).unwrap_or_else(|error| panic!("{error}, of:\n{written}"));
    assert_eq!(toml::to_string(again.layer()).ok(), Some(written), "what `--check` prints is what is in force");
}
