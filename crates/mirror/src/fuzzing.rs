//! The parsers of what clients send, for a fuzzer.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, header};
use shoal_blob::Repository;

use crate::{
    ranges::{Wanted, wanted},
    target::{Target, What},
};

/// The parts of a blob that a `Range` header names; none where all of it is to be sent.
///
/// # Errors
/// When it is no header, or no range of that blob.
pub fn ranges(value: &[u8], length: u64) -> Result<Vec<Range<u64>>, String> {
    let value = HeaderValue::from_bytes(value).map_err(|error| error.to_string())?;
    match wanted(&HeaderMap::from_iter([(header::RANGE, value)]), length) {
        Ok(Wanted::Whole) => Ok(Vec::new()),
        Ok(Wanted::Parts(parts)) => Ok(parts),
        Err(failure) => Err(failure.to_string()),
    }
}

/// The repository that a request's path and query name, and what in it.
#[must_use]
pub fn target(path: &str, query: &str, default_registry: Option<&str>) -> Option<(Repository, String)> {
    match Target::parse(path, query, default_registry) {
        Ok(Target::Named(named)) => {
            let what = match &named.what {
                What::Manifest(reference) => reference.to_string(),
                What::Blob(digest) => digest.to_string(),
                What::Listing(_) => named.reference().into_owned(),
            };
            Some((named.repository, what))
        }
        Ok(Target::Ping) => None,
        Err(failure) => {
            assert!(failure.to_string().len() < 4096, "an error that is longer than what it is about");
            None
        }
    }
}
