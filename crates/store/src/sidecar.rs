//! The file beside a blob's data: how the blob is cut, what was claimed about its chain, and the chain once it was proven.
//!
//! Records are only ever appended, each under a checksum that covers its offset too:
//! `kind: u8 | length: u32 LE | payload | SHA-256(offset: u64 LE | kind | length | payload)[..16]`.
//! Whatever follows the last whole record is a write that did not finish, and is cut off.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use shoal_blob::{Digest, Layout, ProvenChain};

use crate::{Disk, DiskFile, record::layout_of};

const VERSION: u8 = 1;
const PREFIX: u64 = 5;
const CHECK: u64 = 16;

/// The blob's digest, length and cut; always the first record, and only that.
const HEAD: u8 = 1;
/// Something the caller wants to find again.
const CLAIM: u8 = 2;
/// All midstates of the proven chain; the data was synced before. The blob is complete if nothing doubts it after this.
const PROVEN: u8 = 3;
/// Pieces of a complete blob were withdrawn: it is no longer complete. The chain stays proven.
const DOUBTED: u8 = 4;

#[derive(Debug)]
pub(crate) struct Sidecar {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    digest: Digest,
    layout: Layout,
    /// Where the next record goes.
    end: u64,
    /// The last proven record's payload.
    proven: Option<(u64, u32)>,
    complete: bool,
    unsynced: bool,
    /// A sync failed: what was appended before may never come to the disk, whatever a later sync says, and what is behind it would
    /// not be found. The file has to be written anew.
    suspect: bool,
}

impl Sidecar {
    /// Makes a new one, in place of what was there, and syncs it.
    pub(crate) fn create(disk: Arc<dyn Disk>, path: PathBuf, digest: Digest, layout: Layout) -> io::Result<Self> {
        disk.create(&path)?;
        let mut this =
            Self { disk, path, digest, layout, end: 0, proven: None, complete: false, unsynced: false, suspect: false };
        this.append(HEAD, &head(&digest, &layout))?;
        this.sync()?;
        Ok(this)
    }

    /// Makes a new one in place of one that was lost, and its name durable too: nothing else of the blob will.
    pub(crate) fn create_again(disk: Arc<dyn Disk>, path: PathBuf, digest: Digest, layout: Layout) -> io::Result<Self> {
        let made = Self::create(disk, path, digest, layout)?;
        made.path.parent().map_or(Ok(()), |shelf| made.disk.sync_folder(shelf))?;
        Ok(made)
    }

    /// Reads one that is there and cuts off what was not finished. `None` when it has no head, or that of another blob.
    pub(crate) fn load(disk: Arc<dyn Disk>, path: PathBuf, digest: Digest) -> io::Result<Option<Self>> {
        let file = disk.open(&path)?;
        file.forget_memory()
            .unwrap_or_else(|error| tracing::debug!(sidecar = ?path, %error, "memory is read instead of the disk"));
        let mut layout = None;
        let (mut proven, mut complete) = (None, false);
        let length = file.length()?;
        let end = scan(&*file, length, |kind, at, payload| {
            match kind {
                HEAD if at == PREFIX => layout = layout_in(payload, &digest),
                PROVEN => (proven, complete) = (Some((at, payload.len() as u32)), true),
                DOUBTED => complete = false,
                _ => {}
            }
            layout.is_some()
        })?;
        let Some(layout) = layout else { return Ok(None) };
        if end < length {
            tracing::info!(sidecar = ?path, cut = length - end, "cut an unfinished record off");
            file.set_length(end)?;
        }
        // What was read may still be only in memory: the process that wrote it may have died before it synced it.
        Ok(Some(Self { disk, path, digest, layout, end, proven, complete, unsynced: true, suspect: false }))
    }

    pub(crate) const fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether the data was complete and synced when this was last written.
    pub(crate) const fn complete(&self) -> bool {
        self.complete
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How long the file would be with these payloads appended.
    pub(crate) fn length_with<'a>(&self, payloads: impl IntoIterator<Item = &'a [u8]>) -> u64 {
        payloads.into_iter().fold(self.end, |sum, payload| sum + PREFIX + payload.len() as u64 + CHECK)
    }

    pub(crate) fn append_claim(&mut self, payload: &[u8]) -> io::Result<()> {
        self.append(CLAIM, payload).map(drop)
    }

    pub(crate) fn append_proven(&mut self, chain: &ProvenChain) -> io::Result<()> {
        let payload = chain.as_bytes();
        let at = self.append(PROVEN, payload)?;
        (self.proven, self.complete) = (Some((at, payload.len() as u32)), true);
        Ok(())
    }

    pub(crate) fn append_doubt(&mut self) -> io::Result<()> {
        self.append(DOUBTED, &[])?;
        self.complete = false;
        Ok(())
    }

    /// Writes at the known end: what an earlier failure left there is overwritten.
    fn append(&mut self, kind: u8, payload: &[u8]) -> io::Result<u64> {
        let record = record(self.end, kind, payload)?;
        self.disk.open(&self.path)?.write_all_at(&record, self.end)?;
        let at = self.end + PREFIX;
        self.end += record.len() as u64;
        self.unsynced = true;
        Ok(at)
    }

    /// Puts these claims in place of all that are there, at once and durably; the proven chain stays.
    pub(crate) fn replace_claims(&mut self, claims: &[Bytes]) -> io::Result<()> {
        let proven = self.proven_bytes()?;
        let path = self.path.with_extension("chain.new");
        let written = Self::create(self.disk.clone(), path.clone(), self.digest, self.layout).and_then(|mut new| {
            claims.iter().try_for_each(|claim| new.append_claim(claim))?;
            if let Some(bytes) = proven {
                let at = new.append(PROVEN, &bytes)?;
                (new.proven, new.complete) = (Some((at, bytes.len() as u32)), true);
                if !self.complete {
                    new.append_doubt()?;
                }
            }
            new.sync()?;
            self.disk.rename(&path, &self.path)?;
            Ok(new)
        });
        match written {
            Ok(new) => {
                let path = std::mem::take(&mut self.path);
                *self = Self { path, ..new };
                self.path.parent().map_or(Ok(()), |shelf| self.disk.sync_folder(shelf))
            }
            Err(error) => {
                // Found and removed when the store is next opened, if not now.
                let _ = self.disk.remove(&path);
                Err(error)
            }
        }
    }

    /// All claims, oldest first.
    pub(crate) fn claims(&self) -> io::Result<Vec<Bytes>> {
        let mut claims = Vec::new();
        let file = self.disk.open(&self.path)?;
        scan(&*file, self.end, |kind, _, payload| {
            if kind == CLAIM {
                claims.push(Bytes::copy_from_slice(payload));
            }
            true
        })?;
        Ok(claims)
    }

    /// The proven chain, if there is one and its bytes are still those that were written.
    pub(crate) fn proven(&self) -> io::Result<Option<ProvenChain>> {
        let bytes = self.proven_bytes()?;
        Ok(bytes.and_then(|bytes| ProvenChain::restore(self.digest, self.layout, &bytes)))
    }

    fn proven_bytes(&self) -> io::Result<Option<Vec<u8>>> {
        let Some((at, length)) = self.proven else { return Ok(None) };
        let file = self.disk.open(&self.path)?;
        let start = at - PREFIX;
        let mut record = vec![0; (PREFIX + u64::from(length) + CHECK) as usize];
        file.read_exact_at(&mut record, start)?;
        let check = record.split_off(record.len() - CHECK as usize);
        let whole = record[0] == PROVEN && check == checksum(start, &record);
        Ok(whole.then(|| record.split_off(PREFIX as usize)))
    }

    /// Takes the duty to sync, if there is one: the caller syncs the file, without a lock, and says if that failed.
    pub(crate) fn take_unsynced(&mut self) -> bool {
        std::mem::take(&mut self.unsynced)
    }

    /// A sync failed.
    pub(crate) fn set_suspect(&mut self) {
        (self.unsynced, self.suspect) = (true, true);
    }

    /// Writes the file anew, durably, if what is on disk may have gaps. Memory still has what was appended.
    pub(crate) fn renew_if_suspect(&mut self) -> io::Result<()> {
        if self.suspect {
            let claims = self.claims()?;
            self.replace_claims(&claims)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.open(&self.path)?.sync()?;
        self.unsynced = false;
        Ok(())
    }
}

fn head(digest: &Digest, layout: &Layout) -> Vec<u8> {
    let mut head = vec![VERSION];
    head.extend(layout.length().to_le_bytes());
    head.extend(layout.piece_bytes().to_le_bytes());
    head.extend(digest.as_bytes());
    head
}

fn layout_in(head: &[u8], digest: &Digest) -> Option<Layout> {
    let length = u64::from_le_bytes(head.get(1..9)?.try_into().ok()?);
    let piece_bytes = u32::from_le_bytes(head.get(9..13)?.try_into().ok()?);
    (head[0] == VERSION && head[13..] == *digest.as_bytes()).then(|| layout_of(length, piece_bytes)).flatten()
}

fn record(offset: u64, kind: u8, payload: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(payload.len()).map_err(|_| io::Error::other("a record of over 4 GiB"))?;
    let mut record = Vec::with_capacity(payload.len() + (PREFIX + CHECK) as usize);
    record.push(kind);
    record.extend(length.to_le_bytes());
    record.extend(payload);
    let check = checksum(offset, &record);
    record.extend(check);
    Ok(record)
}

fn checksum(offset: u64, record: &[u8]) -> [u8; CHECK as usize] {
    let hash = Sha256::new().chain_update(offset.to_le_bytes()).chain_update(record).finalize();
    std::array::from_fn(|i| hash[i])
}

/// Shows each whole record before `end` (kind, where its payload lies, payload) until `each` says no or one is not whole.
/// Returns where the last whole record that was shown ends. No more memory than the longest record, which is never longer
/// than the file.
fn scan(file: &dyn DiskFile, end: u64, mut each: impl FnMut(u8, u64, &[u8]) -> bool) -> io::Result<u64> {
    let mut at = 0;
    let mut record = Vec::new();
    while end - at >= PREFIX + CHECK {
        let mut prefix = [0; PREFIX as usize];
        file.read_exact_at(&mut prefix, at)?;
        let [kind, length @ ..] = prefix;
        let whole = PREFIX + u64::from(u32::from_le_bytes(length)) + CHECK;
        if whole > end - at {
            break;
        }
        record.resize(whole as usize, 0);
        file.read_exact_at(&mut record, at)?;
        let (body, check) = record.split_at((whole - CHECK) as usize);
        if *check != checksum(at, body) || !each(kind, at + PREFIX, &body[PREFIX as usize..]) {
            break;
        }
        at += whole;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalDisk;
    use proptest::prelude::*;
    use std::fs;

    const DIGEST: Digest = Digest::Sha256([5; 32]);

    fn layout() -> Layout {
        Layout::with_piece_bytes(1000, 128).expect("a short blob can be cut")
    }

    fn made(dir: &Path, claims: &[&[u8]]) -> Sidecar {
        let mut sidecar = Sidecar::create(Arc::new(LocalDisk), dir.join("a.chain"), DIGEST, layout()).unwrap();
        for claim in claims {
            sidecar.append_claim(claim).unwrap();
        }
        sidecar
    }

    fn loaded(dir: &Path) -> Option<Sidecar> {
        Sidecar::load(Arc::new(LocalDisk), dir.join("a.chain"), DIGEST).unwrap()
    }

    #[test]
    fn claims_are_replaced_at_once_and_more_can_follow() {
        let dir = tempfile::tempdir().unwrap();
        let mut sidecar = made(dir.path(), &[b"one", b"two"]);
        sidecar.replace_claims(&[Bytes::from_static(b"whole")]).unwrap();
        sidecar.append_claim(b"more").unwrap();
        let again = loaded(dir.path()).unwrap();
        assert_eq!(again.claims().unwrap(), ["whole", "more"]);
        assert_eq!(again.layout(), layout());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_sidecar_of_another_blob_is_none() {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path(), &[]);
        let other = Digest::Sha256([6; 32]);
        assert!(Sidecar::load(Arc::new(LocalDisk), dir.path().join("a.chain"), other).unwrap().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damage_costs_what_follows_it_and_nothing_before(
            claims in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..8),
            at in any::<proptest::sample::Index>(),
            flip in proptest::option::of(1u8..),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let claims: Vec<&[u8]> = claims.iter().map(Vec::as_slice).collect();
            made(dir.path(), &claims);
            let path = dir.path().join("a.chain");
            let mut bytes = fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            match flip {
                Some(flip) => bytes[at] ^= flip,
                None => bytes.truncate(at),
            }
            fs::write(&path, &bytes).unwrap();
            // Head: 5 + 1 + 8 + 4 + 32 + 16 bytes; each claim 21 more than its payload.
            let mut end = 66;
            let whole = claims.iter().take_while(|claim| { end += 21 + claim.len(); end <= at }).count();
            match loaded(dir.path()) {
                None => prop_assert!(at < 66),
                Some(mut sidecar) => {
                    prop_assert!(at >= 66);
                    prop_assert_eq!(&sidecar.claims().unwrap(), &claims[..whole]);
                    prop_assert_eq!(fs::metadata(&path).unwrap().len(), sidecar.end);
                    sidecar.append_claim(b"next").unwrap();
                    let again = loaded(dir.path()).unwrap().claims().unwrap();
                    prop_assert_eq!(again.len(), whole + 1);
                    prop_assert_eq!(&again[whole][..], b"next");
                }
            }
        }
    }
}
