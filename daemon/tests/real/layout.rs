//! An image or artifact in a folder, as the OCI image-layout says: what `skopeo` pushes from and pulls into.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::PathBuf,
};

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shoal_blob::Digest;
use shoal_registry::{Artifact, Noise};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A folder with blobs, each named by its digest, and an index of what is tagged.
#[derive(Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
}

/// A blob in a layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A container image of one layer in a layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    pub(crate) manifest: Stored,
    pub(crate) config: Stored,
    pub(crate) layer: Stored,
}

impl Image {
    /// Everything that a client has of it.
    pub(crate) const fn digests(&self) -> [Digest; 3] {
        [self.manifest.digest, self.config.digest, self.layer.digest]
    }
}

impl Layout {
    /// An empty layout in `dir`, which is made.
    pub(crate) fn create(dir: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(dir.join("blobs/sha256"))?;
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Self { dir })
    }

    /// As `skopeo` names what is tagged here.
    pub(crate) fn reference(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.dir.display())
    }

    /// Makes an image of one layer: a tar with one file of that size, whose bytes no compression makes smaller.
    pub(crate) fn image(&self, file: &str, bytes: u64, tag: &str) -> anyhow::Result<Image> {
        let mut header = tar::Header::new_ustar();
        header.set_path(file)?;
        header.set_size(bytes);
        header.set_mode(0o644);
        header.set_cksum();
        let layer = self.add(|out| {
            let mut tar = tar::Builder::new(out);
            tar.append(&header, noise(bytes))?;
            tar.finish()
        })?;
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        });
        let config = self.add(|out| out.write_all(config.to_string().as_bytes()))?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, config),
            "layers": [descriptor(LAYER, layer)],
        });
        let manifest = self.tag(manifest.to_string().as_bytes(), tag)?;
        Ok(Image { manifest, config, layer })
    }

    /// Takes over an artifact as it is.
    pub(crate) fn artifact(&self, artifact: &Artifact, tag: &str) -> anyhow::Result<()> {
        for blob in artifact.blobs() {
            self.add(|out| out.write_all(&blob.read(0, usize::MAX)))?;
        }
        self.tag(artifact.manifest(), tag).map(drop)
    }

    /// The bytes of a blob.
    pub(crate) fn read(&self, digest: &Digest) -> anyhow::Result<Vec<u8>> {
        let path = self.dir.join("blobs/sha256").join(digest.hex());
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    /// The digest of the manifest with that tag.
    pub(crate) fn tagged(&self, tag: &str) -> anyhow::Result<Digest> {
        let index: Value = serde_json::from_slice(&fs::read(self.dir.join("index.json"))?)?;
        let manifests = index["manifests"].as_array().context("the index has a list")?;
        let found = manifests.iter().find(|entry| entry["annotations"][REF_NAME] == tag);
        let digest =
            found.and_then(|entry| entry["digest"].as_str()).with_context(|| format!("nothing is tagged {tag}"));
        Ok(digest?.parse()?)
    }

    fn tag(&self, manifest: &[u8], tag: &str) -> anyhow::Result<Stored> {
        let stored = self.add(|out| out.write_all(manifest))?;
        let mut entry = descriptor(MANIFEST, stored);
        entry["annotations"] = json!({ REF_NAME: tag });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        fs::write(self.dir.join("index.json"), index.to_string())?;
        Ok(stored)
    }

    /// Writes a blob, hashing it on its way, and then names it by its digest.
    fn add(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<Stored> {
        let path = self.dir.join("blobs/new");
        let file = BufWriter::with_capacity(1 << 20, File::create(&path)?);
        let mut hashing = Hashing { file, hasher: Sha256::new(), written: 0 };
        write(&mut hashing)?;
        hashing.flush()?;
        let stored = Stored { digest: Digest::Sha256(hashing.hasher.finalize().into()), size: hashing.written };
        fs::rename(path, self.dir.join("blobs/sha256").join(stored.digest.hex()))?;
        Ok(stored)
    }
}

const REF_NAME: &str = "org.opencontainers.image.ref.name";

fn descriptor(media_type: &str, blob: Stored) -> Value {
    json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.size })
}

fn noise(length: u64) -> impl Read {
    struct Source {
        noise: Noise,
        offset: u64,
    }
    impl Read for Source {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.noise.fill(self.offset, out);
            self.offset += out.len() as u64;
            Ok(out.len())
        }
    }
    Source { noise: Noise::new(520), offset: 0 }.take(length)
}

struct Hashing {
    file: BufWriter<File>,
    hasher: Sha256,
    written: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.written += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
