//! Why nothing was done, or not all of it.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::Place;

/// Why a file could not be read, or was left as it is. Nothing has been written, unless [`Plan::apply`] says it.
///
/// [`Plan::apply`]: crate::Plan::apply
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as in `read`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is not what its program could read, or what can be edited without harm.
    #[error("{place}: {what}")]
    Unfit {
        /// Where.
        place: Place,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// What was asked for cannot be meant.
    #[error("{0}")]
    Misused(String),
}

impl Error {
    pub(crate) fn unfit(path: &Path, line: usize, what: impl Into<String>) -> Self {
        Self::Unfit { place: Place { file: path.to_owned(), line }, what: what.into() }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
