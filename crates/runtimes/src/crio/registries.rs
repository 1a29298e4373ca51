//! registries.conf and its drop-ins, as containers/image joins them: files in the order of their names, and of two
//! entries with one prefix the later whole.

use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, TableLike, Value};

use crate::{Error, Place, document::Parsed, files};

/// What one file says of one prefix.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What images begin with, as in `docker.io` or `docker.io/library`.
    pub(super) prefix: String,
    pub(super) place: Place,
    /// Where the images are; empty where that is said by the prefix.
    pub(super) location: String,
    pub(super) blocked: bool,
    pub(super) digest_only: bool,
    /// `key = value` of all that is not named above.
    pub(super) rest: Vec<String>,
    pub(super) mirrors: Vec<MirrorEntry>,
}

/// A mirror of an entry.
#[derive(Clone, Debug)]
pub(super) struct MirrorEntry {
    pub(super) location: String,
    pub(super) insecure: bool,
    /// `key = value` of everything.
    pub(super) lines: Vec<String>,
}

/// The files that come before `own` in a folder of drop-ins, the main one first, and those after it.
pub(super) fn sources(main: &Path, folder: &Path, own: &str) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
    let names: Vec<String> =
        files::list(folder)?.into_iter().filter(|name| name.ends_with(".conf") && name != own).collect();
    let (before, after): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name.as_str() < own);
    let path = |name: String| folder.join(name);
    Ok((
        [main.to_owned()].into_iter().chain(before.into_iter().map(path)).collect(),
        after.into_iter().map(path).collect(),
    ))
}

/// The entries of a file; none where there is no file.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, Error> {
    match files::read(path)? {
        Some(text) => entries(path, &text),
        None => Ok(Vec::new()),
    }
}

/// The entries of a text.
pub(super) fn entries(path: &Path, text: &str) -> Result<Vec<Entry>, Error> {
    let parsed = Parsed::new(path, text)?;
    let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        Error::unfit(path, 0, format!("this is not TOML: {}", error.message()))
    })?;
    if document.contains_key("registries") {
        let place = parsed.place_of(parsed.root(), "registries");
        let what =
            "this is registries.conf of version 1, beside which nothing of version 2 is read: bring it to [[registry]]";
        return Err(Error::Unfit { place, what: what.to_owned() });
    }
    let places: Vec<Place> = match parsed.root().get("registry") {
        Some(Item::ArrayOfTables(tables)) => tables.iter().map(|table| parsed.place(table.span())).collect(),
        Some(item) => item.as_array().into_iter().flatten().map(|value| parsed.place(value.span())).collect(),
        None => Vec::new(),
    };
    let tables = tables(document.get("registry"));
    Ok(tables.into_iter().zip(places).map(|(table, place)| entry(table, place)).collect())
}

fn tables(item: Option<&Item>) -> Vec<&dyn TableLike> {
    match item {
        Some(Item::ArrayOfTables(tables)) => tables.iter().map(|table| table as &dyn TableLike).collect(),
        Some(Item::Value(Value::Array(values))) => {
            values.iter().filter_map(Value::as_inline_table).map(|table| table as &dyn TableLike).collect()
        }
        _ => Vec::new(),
    }
}

fn entry(table: &dyn TableLike, place: Place) -> Entry {
    let text = |key: &str| table.get(key).and_then(Item::as_str).unwrap_or_default().to_owned();
    let is_set = |key: &str| table.get(key).and_then(Item::as_bool).unwrap_or(false);
    let (location, prefix) = (text("location"), text("prefix"));
    let mirror = |table: &dyn TableLike| MirrorEntry {
        location: table.get("location").and_then(Item::as_str).unwrap_or_default().to_owned(),
        insecure: table.get("insecure").and_then(Item::as_bool).unwrap_or(false),
        lines: lines(table, &[]),
    };
    Entry {
        prefix: if prefix.is_empty() { location.clone() } else { prefix },
        place,
        location,
        blocked: is_set("blocked"),
        digest_only: is_set("mirror-by-digest-only"),
        rest: lines(table, &["prefix", "location", "mirror"]),
        mirrors: tables(table.get("mirror")).into_iter().map(mirror).collect(),
    }
}

fn lines(table: &dyn TableLike, without: &[&str]) -> Vec<String> {
    let values = table.iter().filter(|(key, _)| !without.contains(key));
    values.filter_map(|(key, item)| Some(format!("{key} = {}", item.as_value()?.clone().decorated("", "")))).collect()
}
