//! The credentials of one registry: where they may stand, in which order, and what stands there now.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    config::{Policy, RegistryConfig},
    config_error::ConfigError,
    docker_config::{DockerConfig, Said},
    helper::Answers,
    secret::{Credentials, Secret},
    watched::Watched,
};

/// The longest name or password in a file.
const MOST_BYTES: u64 = 64 << 10;

/// All places where the credentials of a registry may stand; the first that has some is used. What changes there is seen
/// within seconds.
#[derive(Debug)]
pub(crate) struct Sources {
    registry: String,
    pair: Option<Watched<(String, Secret)>>,
    files: Vec<File>,
}

/// A docker `config.json`, and what the programs said that it leaves this registry to.
#[derive(Debug)]
struct File {
    config: Watched<DockerConfig>,
    answers: Answers,
}

impl Sources {
    /// Reads the places that are configured for a registry. A file that was named for it alone must know it.
    pub(crate) fn open(registry: &str, config: &RegistryConfig, policy: &Policy) -> Result<Self, ConfigError> {
        let pair = match (&config.user_file, &config.password_file) {
            (None, None) => None,
            (Some(user), Some(password)) => Some(open_pair(registry, user, password)?),
            (Some(_), None) => return Err(half(registry, "user_file", "there is no `password_file`")),
            (None, Some(_)) => return Err(half(registry, "password_file", "there is no `user_file`")),
        };
        let (own, shared) = match &config.credentials {
            Some(own) => (true, std::slice::from_ref(own)),
            None => (false, &policy.credentials[..]),
        };
        let mut files = Vec::with_capacity(shared.len());
        for path in shared {
            let wrong = |why| ConfigError::Credentials { registry: registry.to_owned(), path: path.clone(), why };
            let what = format!("the credentials for {registry} in {}", path.display());
            let config =
                Watched::open(what, vec![path.clone()], |paths| DockerConfig::read(&paths[0])).map_err(wrong)?;
            if own && config.current().said(registry) == Said::Nothing {
                return Err(wrong("it has neither `auths` nor a credential program for this registry".to_owned()));
            }
            files.push(File { config, answers: Answers::default() });
        }
        Ok(Self { registry: registry.to_owned(), pair, files })
    }

    /// Where there are credentials by all that is known without running a program; `None` where there are none.
    pub(crate) fn place(&self, config: &RegistryConfig, policy: &Policy) -> Option<PathBuf> {
        if self.pair.is_some() {
            return config.password_file.clone();
        }
        let known = |file: &File| match file.config.current().said(&self.registry) {
            Said::Known(_) => true,
            Said::Helper { sure, .. } => sure,
            Said::Nothing => false,
        };
        let at = self.files.iter().position(known)?;
        config.credentials.clone().or_else(|| policy.credentials.get(at).cloned())
    }

    /// What there is to show.
    pub(crate) async fn current(&self) -> Option<Credentials> {
        self.look(false).await
    }

    /// What there is at this very moment: a registry has refused what there was.
    pub(crate) async fn fresh(&self) -> Option<Credentials> {
        self.look(true).await
    }

    async fn look(&self, doubted: bool) -> Option<Credentials> {
        if let Some(pair) = &self.pair {
            let (user, password) = if doubted { pair.fresh() } else { pair.current() };
            return Some(Credentials::Password { user, password });
        }
        for File { config, answers } in &self.files {
            let config = if doubted { config.fresh() } else { config.current() };
            let found = match config.said(&self.registry) {
                Said::Known(credentials) => Some(credentials),
                Said::Helper { helper, .. } => answers.of(&helper, doubted).await,
                Said::Nothing => None,
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

fn half(registry: &str, setting: &'static str, why: &str) -> ConfigError {
    ConfigError::Pair { registry: registry.to_owned(), setting, why: why.to_owned() }
}

fn open_pair(registry: &str, user: &Path, password: &Path) -> Result<Watched<(String, Secret)>, ConfigError> {
    // Apart from each other first, so that the error names the file.
    line(user).map_err(|why| half(registry, "user_file", &why))?;
    line(password).map_err(|why| half(registry, "password_file", &why))?;
    let what = format!("the name and the password for {registry}");
    let read = |paths: &[PathBuf]| Ok((line(&paths[0])?.to_string(), Secret::new(&*line(&paths[1])?)));
    Watched::open(what, vec![user.to_owned(), password.to_owned()], read)
        .map_err(|why| half(registry, "password_file", &why))
}

/// The text of a file without the end of its line.
fn line(path: &Path) -> Result<Zeroizing<String>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("cannot use {}: {why}", path.display());
    let mut text = Zeroizing::new(String::new());
    let file = fs::File::open(path).map_err(|error| wrong(&error))?;
    file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(wrong(&format!("it is longer than {MOST_BYTES} bytes")));
    }
    let text = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    match text.contains(['\r', '\n']) {
        true => Err(wrong(&"it has more than one line")),
        false if text.is_empty() => Err(wrong(&"it is empty")),
        false => Ok(text),
    }
}
