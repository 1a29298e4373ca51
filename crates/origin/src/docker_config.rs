//! Credentials as docker, podman and Kubernetes write them: a `config.json` with `auths`, or with the names of programs that
//! keep them.

use std::{collections::HashMap, fs, io::Read, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    config::{DOCKER_HUB, canonical},
    helper::Helper,
    secret::{Credentials, Secret},
    watched::file_at,
};

/// The largest file that is read.
const MOST_BYTES: u64 = 1 << 20;
/// How docker names its hub to credential programs.
const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// What a `config.json` says, by registry.
#[derive(Clone, Debug, Default)]
pub(crate) struct DockerConfig {
    by_registry: HashMap<String, Credentials>,
    helpers: HashMap<String, Helper>,
    /// The program that keeps what is not said otherwise.
    store: Option<String>,
    /// The keys in `auths` of registries with nothing beside them: how docker writes down what it left to the program.
    logged_in: HashMap<String, String>,
}

/// What a file says of one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Nothing.
    Nothing,
    /// The credentials themselves.
    Known(Credentials),
    /// Which program to ask.
    Helper {
        helper: Helper,
        /// Whether the file names this registry; a program for all may know nothing of it.
        sure: bool,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: HashMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    cred_helpers: HashMap<String, String>,
    #[serde(default, rename = "credsStore")]
    creds_store: String,
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
    /// Reads a file of at most 1 MiB, or the one in a folder. The error says what is wrong, never what stands in the file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let file = fs::File::open(file_at(path)).map_err(|error| error.to_string())?;
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
        let mut config = Self::default();
        for (key, name) in &file.cred_helpers {
            let Some(registry) = registry_of(key) else { continue };
            let helper = Helper::new(name, key).ok_or_else(|| not_plain("credHelpers"))?;
            config.helpers.insert(registry, helper);
        }
        if !file.creds_store.is_empty() {
            Helper::new(&file.creds_store, "").ok_or_else(|| not_plain("credsStore"))?;
            config.store = Some(file.creds_store);
        }
        for (key, entry) in &file.auths {
            let Some(registry) = registry_of(key) else { continue };
            match entry.credentials().map_err(|why| format!("the entry for {registry:?} {why}"))? {
                Some(credentials) => drop(config.by_registry.insert(registry, credentials)),
                None => drop(config.logged_in.insert(registry, key.clone())),
            }
        }
        Ok(config)
    }

    /// What it says of a registry, by its canonical name: a program for this registry goes before what stands in the file,
    /// and that before the program for all.
    pub(crate) fn said(&self, registry: &str) -> Said {
        if let Some(helper) = self.helpers.get(registry) {
            return Said::Helper { helper: helper.clone(), sure: true };
        }
        if let Some(credentials) = self.by_registry.get(registry) {
            return Said::Known(credentials.clone());
        }
        let key = self.logged_in.get(registry);
        let server = match key {
            Some(key) => key,
            None if registry == DOCKER_HUB => HUB_SERVER,
            None => registry,
        };
        match self.store.as_ref().and_then(|name| Helper::new(name, server)) {
            Some(helper) => Said::Helper { helper, sure: key.is_some() },
            None => Said::Nothing,
        }
    }
}

fn not_plain(key: &str) -> String {
    format!("its `{key}` has a name that is not plain; letters, digits, '-', '_' and '.' are taken")
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
                "https://empty.example/v2/":{}
            },"credHelpers":{"gcr.io":"gcloud"},"credsStore":"desktop","HttpHeaders":{"x":"y"}}"#,
        );
        assert_eq!(config.said("docker.io"), Said::Known(password("me", "hunter2")));
        assert_eq!(config.said("ghcr.io"), Said::Known(password("u", "p:q")));
        assert_eq!(config.said("r.example:5000"), Said::Known(Credentials::Identity(Secret::new("idt"))));
        assert_eq!(config.said("t.example"), Said::Known(Credentials::Registry(Secret::new("rt"))));
        let asks = |registry: &str| match config.said(registry) {
            Said::Helper { helper, sure } => (helper.to_string(), helper.server, sure),
            other => panic!("{registry}: {other:?}"),
        };
        let desktop = || "docker-credential-desktop".to_owned();
        assert_eq!(asks("gcr.io"), ("docker-credential-gcloud".into(), "gcr.io".into(), true));
        assert_eq!(asks("empty.example"), (desktop(), "https://empty.example/v2/".into(), true));
        assert_eq!(asks("r.example"), (desktop(), "r.example".into(), false));
        let config = parse(r#"{"auths":{"empty.example":{}},"credsStore":"x"}"#);
        let Said::Helper { helper, sure: false } = config.said("docker.io") else { panic!("{config:?}") };
        assert_eq!(helper.server, HUB_SERVER);
        assert_eq!(parse(r#"{"auths":{"empty.example":{}}}"#).said("empty.example"), Said::Nothing);
        for wrong in [r#"{"credsStore":"../x"}"#, r#"{"credHelpers":{"r.io":"a b"}}"#] {
            assert!(DockerConfig::parse(wrong.as_bytes()).unwrap_err().contains("not plain"), "{wrong}");
        }
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
