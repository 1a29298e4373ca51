//! What the tests of this crate share: a registry that misbehaves, and an origin client that is quick to give up.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use shoal_blob::{Digest, Repository};
use shoal_origin::{Access, BlobStream, OriginError, Origins, Patience, Policy, RegistryConfig};
use shoal_registry::{Artifact, Blob, Registry};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub const NAME: &str = "origin.test";
pub const REPOSITORY: &str = "models/one";

/// A bound for what must not take long; only a failure reaches it.
pub const LONG: Duration = Duration::from_secs(60);

pub fn patience() -> Patience {
    Patience {
        stall: Duration::from_millis(300),
        backoff: Duration::from_millis(1),
        most_backoff: Duration::from_secs(2),
        ..Patience::default()
    }
}

pub fn policy() -> Policy {
    Policy { patience: patience(), ..Policy::default() }
}

pub fn config(url: &str) -> RegistryConfig {
    RegistryConfig { urls: vec![url.to_owned()], ..RegistryConfig::named(NAME) }
}

/// An origin client for one registry, without credentials.
pub fn origins(url: &str) -> Origins {
    Origins::new(vec![config(url)], policy()).unwrap()
}

/// The same with credentials.
pub fn origins_as(url: &str, user: &str, password: &str) -> (Origins, tempfile::TempDir) {
    let (path, dir) = config_json(NAME, user, password);
    let config = RegistryConfig { credentials: Some(path), access: Some(Access::Node), ..config(url) };
    (Origins::new(vec![config], policy()).unwrap(), dir)
}

pub fn config_json(registry: &str, user: &str, password: &str) -> (PathBuf, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let auth = STANDARD.encode(format!("{user}:{password}"));
    std::fs::write(&path, format!(r#"{{"auths":{{"{registry}":{{"auth":"{auth}"}}}}}}"#)).unwrap();
    (path, dir)
}

pub fn repository() -> Repository {
    Repository::new(NAME, REPOSITORY).unwrap()
}

/// An artifact whose layer has that many bytes.
pub fn artifact(bytes: u64) -> (Artifact, Digest) {
    let artifact = Artifact::synthetic(REPOSITORY, "v1", bytes, 7);
    let digest = artifact.layer().digest();
    (artifact, digest)
}

pub async fn registry(artifact: &Artifact) -> Registry {
    Registry::builder().artifact(artifact.clone()).listen("127.0.0.1:0").await.unwrap()
}

pub async fn read_all(mut stream: BlobStream) -> Result<Vec<u8>, OriginError> {
    let mut all = Vec::new();
    while let Some(bytes) = stream.chunk().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

pub fn bytes_of(blob: &Blob) -> Vec<u8> {
    blob.read(0, usize::try_from(blob.len()).unwrap()).to_vec()
}

/// A proxy that makes tunnels, whatever they are asked to lead to, to one port of this machine.
pub struct Tunnels {
    port: u16,
    /// Where the tunnels were to lead.
    pub tunnels: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

pub async fn proxy(target: u16) -> Tunnels {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tunnels = Arc::new(Mutex::new(Vec::new()));
    let noted = tunnels.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let noted = noted.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                let head = String::from_utf8(head).unwrap();
                let to = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
                noted.lock().unwrap().push(to.unwrap_or("no tunnel").to_owned());
                let mut server = TcpStream::connect(("127.0.0.1", target)).await?;
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Tunnels { port, tunnels }
}
