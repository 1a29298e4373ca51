//! Credentials as docker, podman and Kubernetes write them: a `config.json` with `auths`.

use std::{collections::HashMap, fs, io::Read, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    config::{DOCKER_HUB, canonical},
    secret::{Credentials, Secret},
};

/// The largest file that is read.
const MOST_BYTES: u64 = 1 << 20;

/// What a `config.json` says, by registry.
#[derive(Debug, Default)]
pub(crate) struct DockerConfig {
    by_registry: HashMap<String, Credentials>,
    /// Registries whose credentials lie in a program's keeping; such programs are not run.
    delegated: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: HashMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    cred_helpers: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        for secret in [&mut self.auth, &mut self.password, &mut self.identitytoken, &mut self.registrytoken] {
            secret.zeroize();
        }
    }
}

impl DockerConfig {
    /// Reads a file of at most 1 MiB. The error says what is wrong, never what stands in the file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let file = fs::File::open(path).map_err(|error| error.to_string())?;
        let mut text = Zeroizing::new(Vec::new());
        file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
        if text.len() as u64 > MOST_BYTES {
            return Err(format!("it is larger than {MOST_BYTES} bytes"));
        }
        Self::parse(&text)
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        // serde_json's own message may quote a value, and the value may be a password.
        let file: File = serde_json::from_slice(text)
            .map_err(|error| format!("it is not such a file (line {}, column {})", error.line(), error.column()))?;
        let mut config = Self {
            delegated: file.cred_helpers.keys().filter_map(|key| registry_of(key)).collect(),
            ..Self::default()
        };
        for (key, entry) in &file.auths {
            let Some(registry) = registry_of(key) else { continue };
            if let Some(credentials) = entry.credentials().map_err(|why| format!("the entry for {registry:?} {why}"))? {
                config.by_registry.insert(registry, credentials);
            }
        }
        Ok(config)
    }

    /// The credentials for a registry, by its canonical name.
    pub(crate) fn credentials(&self, registry: &str) -> Option<&Credentials> {
        self.by_registry.get(registry)
    }

    /// Whether the file leaves this registry to a credential program.
    pub(crate) fn delegates(&self, registry: &str) -> bool {
        self.delegated.iter().any(|delegated| delegated == registry)
    }
}

impl Entry {
    fn credentials(&self) -> Result<Option<Credentials>, &'static str> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::Registry(Secret::new(&*self.registrytoken))));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::Identity(Secret::new(&*self.identitytoken))));
        }
        if !self.auth.is_empty() {
            let pair = STANDARD
                .decode(self.auth.trim())
                .map(Zeroizing::new)
                .map_err(|_| "has an `auth` that is not base64")?;
            let pair = std::str::from_utf8(&pair).map_err(|_| "has an `auth` that is not text")?;
            let (user, password) = pair.split_once(':').ok_or("has an `auth` that is not user:password")?;
            // Docker pads the decoded text with NUL bytes in some old files.
            let password = password.trim_end_matches('\0');
            return Ok(Some(Credentials::Password { user: user.to_owned(), password: Secret::new(password) }));
        }
        let some = !self.username.is_empty() || !self.password.is_empty();
        Ok(some.then(|| Credentials::Password { user: self.username.clone(), password: Secret::new(&*self.password) }))
    }
}

/// The registry that a key means: a bare host, or a URL of the host's API. Keys of a single repository (`host/path`, which
/// podman knows) mean none.
fn registry_of(key: &str) -> Option<String> {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let whole = matches!(path.trim_end_matches('/'), "" | "v1" | "v2");
    let host = host.to_ascii_lowercase();
    (whole && !host.is_empty()).then(|| if host == DOCKER_HUB { host } else { canonical(&host).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DockerConfig {
        DockerConfig::parse(text.as_bytes()).unwrap()
    }

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.into(), password: Secret::new(password) }
    }

    #[test]
    fn reads_all_forms() {
        let config = parse(
            r#"{"auths":{
                "https://index.docker.io/v1/":{"auth":"bWU6aHVudGVyMg=="},
                "ghcr.io":{"username":"u","password":"p:q"},
                "https://r.example:5000/v2/":{"identitytoken":"idt","auth":"bWU6aHVudGVyMg=="},
                "t.example":{"registrytoken":"rt"},
                "r.example/team/repo":{"auth":"bWU6aHVudGVyMg=="},
                "empty.example":{}
            },"credHelpers":{"gcr.io":"gcloud"},"credsStore":"desktop","HttpHeaders":{"x":"y"}}"#,
        );
        assert_eq!(config.credentials("docker.io"), Some(&password("me", "hunter2")));
        assert_eq!(config.credentials("ghcr.io"), Some(&password("u", "p:q")));
        assert_eq!(config.credentials("r.example:5000"), Some(&Credentials::Identity(Secret::new("idt"))));
        assert_eq!(config.credentials("t.example"), Some(&Credentials::Registry(Secret::new("rt"))));
        assert_eq!(config.credentials("r.example"), None);
        assert_eq!(config.credentials("empty.example"), None);
        assert!(config.delegates("gcr.io"));
    }

    #[test]
    fn neither_errors_nor_debug_show_a_secret() {
        let config = parse(r#"{"auths":{"a.io":{"auth":"bWU6aHVudGVyMg=="}}}"#);
        assert!(!format!("{config:?}").contains("hunter2"));
        for text in
            [r#"{"auths":{"a.io":{"auth":["hunter2"]}}}"#, r#"{"auths":{"a.io":{"auth":"hunter2"}}}"#, "hunter2"]
        {
            let error = DockerConfig::parse(text.as_bytes()).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
