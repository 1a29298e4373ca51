//! The credentials of one registry, read again when their file changes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

use crate::{config::ConfigError, docker_config::DockerConfig, secret::Credentials};

/// How often the file is looked at, at most. Kubernetes replaces a mounted Secret, and some registries' passwords live for
/// hours only.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A file and what it last said of one registry.
#[derive(Debug)]
pub(crate) struct CredentialFile {
    registry: String,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    looked: Instant,
    stamp: Option<(SystemTime, u64)>,
    credentials: Option<Credentials>,
}

impl CredentialFile {
    /// Reads the file for a registry. `required` when it was named for this registry alone: then it must know it.
    pub(crate) fn open(registry: &str, path: &Path, required: bool) -> Result<Self, ConfigError> {
        let wrong =
            |why: String| ConfigError::Credentials { registry: registry.to_owned(), path: path.to_owned(), why };
        let stamp = stamp(path);
        let config = DockerConfig::read(path).map_err(wrong)?;
        let credentials = config.credentials(registry).cloned();
        if credentials.is_none() {
            if config.delegates(registry) {
                tracing::warn!(registry, path = %path.display(), "the file leaves this registry to a credential program, \
                    which is not run: write `auths` for it instead");
            }
            if required {
                return Err(wrong("it has no `auths` for this registry".to_owned()));
            }
        }
        let state = Mutex::new(State { looked: Instant::now(), stamp, credentials });
        Ok(Self { registry: registry.to_owned(), path: path.to_owned(), state })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says now. A file that cannot be read any more changes nothing.
    pub(crate) fn current(&self) -> Option<Credentials> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Option<Credentials> {
        let mut state = self.state.lock().expect("nobody panics while holding the credentials");
        if now.saturating_duration_since(state.looked) >= LOOK_AGAIN {
            state.looked = now;
            let stamp = stamp(&self.path);
            if stamp.is_some() && stamp != state.stamp {
                match DockerConfig::read(&self.path) {
                    Ok(config) => {
                        state.stamp = stamp;
                        state.credentials = config.credentials(&self.registry).cloned();
                        tracing::info!(registry = self.registry, path = %self.path.display(), "credentials were read again");
                    }
                    Err(why) => {
                        tracing::warn!(registry = self.registry, path = %self.path.display(), why,
                            "the credentials changed and cannot be read; those from before are used");
                    }
                }
            }
        }
        state.credentials.clone()
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_file_that_changes_is_read_again_and_a_broken_one_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let write = |password: &str| {
            let text = format!(r#"{{"auths":{{"r.io":{{"username":"u","password":"{password}"}}}}}}"#);
            fs::write(&path, text).unwrap();
        };
        let expected =
            |password: &str| Some(Credentials::Password { user: "u".into(), password: Secret::new(password) });
        write("first");
        let file = CredentialFile::open("r.io", &path, true).unwrap();
        write("the second");
        let now = Instant::now();
        assert_eq!(file.at(now), expected("first"), "the file is not looked at all the time");
        assert_eq!(file.at(now + LOOK_AGAIN), expected("the second"));
        fs::write(&path, "{").unwrap();
        assert_eq!(file.at(now + 2 * LOOK_AGAIN), expected("the second"));
        fs::remove_file(&path).unwrap();
        assert_eq!(file.at(now + 3 * LOOK_AGAIN), expected("the second"));
        write("third");
        assert_eq!(file.at(now + 4 * LOOK_AGAIN), expected("third"));
    }
}
