//! Where this process finds its settings, at the start and again on SIGHUP.

use std::{fs, path::PathBuf};

use super::{Layer, Settings, SettingsError};

/// The flags and the environment of this process, and the file that they name.
#[derive(Clone, Debug)]
pub struct Source {
    flags: Layer,
    file: Option<PathBuf>,
}

impl Source {
    /// The places, in order of precedence: flags (in which the environment has been filled in), then the file.
    #[must_use]
    pub const fn new(flags: Layer, file: Option<PathBuf>) -> Self {
        Self { flags, file }
    }

    /// Reads the file and puts the flags over it.
    ///
    /// # Errors
    /// [`SettingsError::File`] or [`SettingsError::Toml`].
    pub fn layer(&self) -> Result<Layer, SettingsError> {
        let Some(path) = &self.file else { return Ok(self.flags.clone()) };
        let text = fs::read_to_string(path).map_err(|source| SettingsError::File { path: path.clone(), source })?;
        let below = toml::from_str::<Layer>(&text)
            .map_err(|source| SettingsError::Toml { path: path.clone(), source: Box::new(source) })?;
        Ok(self.flags.clone().over(below))
    }

    /// Reads and checks all places; what nobody says has its default.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn read(&self) -> Result<Settings, SettingsError> {
        Settings::of(self.layer()?)
    }
}
