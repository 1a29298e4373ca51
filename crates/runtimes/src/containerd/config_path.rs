//! `config_path` in containerd's own configuration, set to one folder.

use std::path::Path;

use toml_edit::{Item, Table};

use super::{
    config::{CRI, IMAGES},
    hosts::UNDO,
    verdict,
};
use crate::{
    Error, Version,
    block::{self, Made},
    document::{Parsed, lines_around, quoted},
};

/// Makes `config_path` one folder, in a config.toml that has no lines of Shoal's. `plugin` is the one whose section counts.
///
/// Whether all is well then is for the caller to see: other files may say something else.
pub(super) fn set(path: &Path, base: &str, plugin: &str, folder: &Path) -> Result<String, Error> {
    let line = line(folder);
    let parsed = Parsed::new(path, base)?;
    let by_hand = |line_at: usize| {
        Error::unfit(path, line_at, format!("this is written inline, and not edited here; it has to say\n    {line}"))
    };
    let headers = parsed.headers();
    let found = headers.iter().find(|header| header.path == ["plugins", plugin, "registry"]);
    let Some(found) = found else {
        let registry = parsed.root().get("plugins").and_then(|plugins| plugins.get(plugin)?.get("registry"));
        // A table that only its parts have headers for is no obstacle.
        if registry.is_some_and(|item| item.as_table().is_none_or(Table::is_dotted)) {
            return Err(by_hand(parsed.place(registry.and_then(Item::span)).line));
        }
        let lines = format!("{}\n  {line}\n", verdict::header(plugin));
        return Ok(block::put(base, base.len()..base.len(), &lines, Made::default(), UNDO));
    };
    let header_line = lines_around(base, &(found.at..found.at));
    match found.table.get_key_value("config_path") {
        None => {
            let indent = indent_of(base, found.at) + "  ";
            // A header that ends the file without a line end is followed by one.
            let at = header_line.end;
            Ok(block::put(base, at..at, &format!("{indent}{line}\n"), Made::default(), UNDO))
        }
        Some((key, item)) => {
            let (Some(key), Some(value)) = (key.span(), item.span()) else { return Err(by_hand(0)) };
            let lines = lines_around(base, &(key.start..value.end));
            let indent = indent_of(base, key.start);
            Ok(block::put(base, lines, &format!("{indent}{line}\n"), Made::default(), UNDO))
        }
    }
}

/// A config.toml where there was none.
pub(super) fn create(version: Version, folder: &Path, made: Made) -> String {
    let plugin = if version.has_images_section() { IMAGES } else { CRI };
    let lines = format!("{}\n\n{}\n  {}\n", verdict::version_line(version), verdict::header(plugin), line(folder));
    block::put("", 0..0, &lines, made, UNDO)
}

fn line(folder: &Path) -> String {
    format!("config_path = {}", quoted(&folder.to_string_lossy()))
}

fn indent_of(text: &str, at: usize) -> String {
    let start = lines_around(text, &(at..at)).start;
    text[start..at].chars().take_while(|character| character.is_whitespace()).collect()
}
