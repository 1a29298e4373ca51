//! A client of one mirror, as a container runtime is one: manifest by tag, then the blobs, in order, into files.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use futures::{StreamExt, stream};
use http::{StatusCode, header};
use sha2::{Digest as _, Sha256, Sha512};
use shoal_blob::{Algorithm, Digest};
use tokio::io::{AsyncWriteExt, BufWriter};

use super::image::{Descriptor, Image, Manifest};
use crate::fetch;

/// How often a body that ended short is asked for again from where it ended, without one more byte in between.
const MOST_RETRIES: u32 = 5;
const RETRY_AFTER: Duration = Duration::from_millis(200);
const WRITE_BYTES: usize = 1 << 20;

pub(super) struct Client {
    mirror: String,
    image: Image,
    dir: PathBuf,
}

impl Client {
    /// A client that writes into `dir`, which is made.
    pub(super) fn new(mirror: &str, image: &Image, dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self { mirror: mirror.to_owned(), image: image.clone(), dir: dir.to_owned() })
    }

    fn url(&self, kind: &str, reference: &dyn std::fmt::Display) -> String {
        let Image { repository, .. } = &self.image;
        format!("{}/v2/{}/{kind}/{reference}?ns={}", self.mirror, repository.path(), repository.registry())
    }

    pub(super) async fn manifest(&self) -> anyhow::Result<Manifest> {
        let url = self.url("manifests", &self.image.reference);
        let text = fetch::text(&url).await?;
        Manifest::read(text.as_bytes()).with_context(|| format!("GET {url}"))
    }

    /// Writes all blobs into files; `progress` is told how many bytes of the weight layer have come.
    pub(super) async fn pull(&self, manifest: &Manifest, progress: impl Fn(u64)) -> anyhow::Result<()> {
        for (name, blob) in manifest.blobs() {
            let is_weight = blob.digest == manifest.weight().digest;
            let told = |done| {
                if is_weight {
                    progress(done);
                }
            };
            self.blob(&self.dir.join(&name), blob, told).await.with_context(|| format!("pull {}", blob.digest))?;
        }
        Ok(())
    }

    async fn blob(&self, path: &Path, blob: &Descriptor, progress: impl Fn(u64)) -> anyhow::Result<()> {
        let file = tokio::fs::File::create_new(path).await.with_context(|| format!("make {}", path.display()))?;
        let mut file = BufWriter::with_capacity(WRITE_BYTES, file);
        let url = self.url("blobs", &blob.digest);
        let (mut done, mut retries) = (0, 0);
        loop {
            let before = done;
            let outcome = self.part(&url, blob, &mut done, &mut file, &progress).await;
            if done == blob.size {
                break;
            }
            retries = if done > before { 0 } else { retries + 1 };
            if retries > MOST_RETRIES {
                return outcome.with_context(|| format!("{done} of {} bytes came", blob.size));
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
        Ok(file.flush().await?)
    }

    /// Reads on from where the file ends, until the body ends.
    async fn part(
        &self,
        url: &str,
        blob: &Descriptor,
        done: &mut u64,
        file: &mut BufWriter<tokio::fs::File>,
        progress: &impl Fn(u64),
    ) -> anyhow::Result<()> {
        let from = (*done > 0).then_some(*done);
        let mut answer = fetch::get(url, from).await?;
        let expected = if from.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        if answer.status != expected {
            let status = answer.status;
            bail!("GET {url}: {status}: {}", String::from_utf8_lossy(&answer.whole().await?).trim());
        }
        if let Some(from) = from {
            let range = answer.headers.get(header::CONTENT_RANGE).map_or(&b""[..], header::HeaderValue::as_bytes);
            if range != format!("bytes {from}-{}/{}", blob.size.saturating_sub(1), blob.size).as_bytes() {
                bail!("GET {url}: bytes from {from} on were asked for, and {:?} came", String::from_utf8_lossy(range));
            }
        }
        while let Some(bytes) = answer.next().await? {
            if *done + bytes.len() as u64 > blob.size {
                bail!("GET {url}: more than the {} bytes of the manifest came", blob.size);
            }
            file.write_all(&bytes).await?;
            *done += bytes.len() as u64;
            progress(*done);
        }
        if *done < blob.size {
            bail!("GET {url}: the body ended after {done} of {} bytes", blob.size);
        }
        Ok(())
    }
}

/// Reads every client's files again and compares their digests, on all cores. One verdict a client.
pub(super) async fn check(clients: &[Client], manifest: &Manifest) -> Vec<anyhow::Result<()>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let verdicts = clients.iter().map(|client| {
        let blobs = manifest.blobs().into_iter().map(|(name, blob)| (client.dir.join(name), blob.digest));
        let blobs: Vec<_> = blobs.collect();
        async {
            let all = move || blobs.iter().try_for_each(|(path, digest)| check_file(path, digest));
            tokio::task::spawn_blocking(all).await.context("the check was ended")?
        }
    });
    stream::iter(verdicts).buffered(cores).collect().await
}

fn check_file(path: &Path, digest: &Digest) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("read {} again", path.display()))?;
    let bytes = match digest.algorithm() {
        Algorithm::Sha256 => hash(file, Sha256::new()),
        Algorithm::Sha512 => hash(file, Sha512::new()),
    };
    let found =
        Digest::from_bytes(digest.algorithm(), &bytes.with_context(|| format!("read {} again", path.display()))?);
    if found != Some(*digest) {
        bail!("{} has the wrong bytes: {digest} is expected", path.display());
    }
    Ok(())
}

fn hash(mut file: File, mut hasher: impl sha2::Digest) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().to_vec()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_registry::{Artifact, Faults, Registry};

    /// A registry answers as a mirror does that is asked with `ns`, which it passes over.
    async fn pulled(faults: Faults) -> (anyhow::Result<()>, Vec<anyhow::Result<()>>) {
        let artifact = Artifact::synthetic("models/a", "v1", 300_000, 1);
        let registry = Registry::builder().artifact(artifact).faults(faults).listen("127.0.0.1:0").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let image = Image::read("r.io", "models/a:v1").unwrap();
        let client = Client::new(&registry.url(), &image, &dir.path().join("client-0")).unwrap();
        let manifest = client.manifest().await.unwrap();
        let outcome = client.pull(&manifest, |_| ()).await;
        (outcome, check(&[client], &manifest).await)
    }

    #[tokio::test]
    async fn pulls_and_checks_every_blob() {
        let (outcome, verdicts) = pulled(Faults::none()).await;
        outcome.unwrap();
        assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    }

    #[tokio::test]
    async fn reads_on_where_a_body_ended_short() {
        let (outcome, verdicts) = pulled(Faults::none().truncate(100_000)).await;
        outcome.unwrap();
        assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    }

    #[tokio::test]
    async fn a_wrong_byte_is_found_on_disk() {
        let layer = Artifact::synthetic("models/a", "v1", 300_000, 1).layer().digest();
        let (outcome, verdicts) = pulled(Faults::none().wrong_byte(layer, 299_999)).await;
        outcome.unwrap();
        assert!(verdicts[0].as_ref().unwrap_err().to_string().contains("wrong bytes"));
    }
}
