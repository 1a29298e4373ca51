//! Folders and files in memory, and what a loss of power leaves of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
};

use crate::{Change, Unsynced, faults::ENOSPC, names::Names, unsynced::write};

pub(crate) const ROOT: u64 = 1;

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const ENOTEMPTY: i32 = 39;

/// All there is, by number. A node that no name stands for any more stays until the next loss of power: it may be open.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    /// Bytes in files, without holes at the ends of their blocks.
    used: u64,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) mode: u16,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Folder(Names),
    File { content: Vec<u8>, unsynced: Unsynced },
}

impl Node {
    fn folder(mode: u16) -> Self {
        Self { mode, kind: Kind::Folder(Names::default()) }
    }

    fn file(mode: u16) -> Self {
        Self { mode, kind: Kind::File { content: Vec::new(), unsynced: Unsynced::default() } }
    }
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::folder(0o755))]), next: ROOT + 1, used: 0 }
    }

    pub(crate) const fn used(&self) -> u64 {
        self.used
    }

    pub(crate) fn node(&self, number: u64) -> Result<&Node, i32> {
        self.nodes.get(&number).ok_or(ENOENT)
    }

    pub(crate) fn set_mode(&mut self, number: u64, mode: u16) -> Result<(), i32> {
        self.nodes.get_mut(&number).ok_or(ENOENT)?.mode = mode;
        Ok(())
    }

    fn names(&mut self, folder: u64) -> Result<&mut Names, i32> {
        match &mut self.nodes.get_mut(&folder).ok_or(ENOENT)?.kind {
            Kind::Folder(names) => Ok(names),
            Kind::File { .. } => Err(ENOTDIR),
        }
    }

    fn file(&mut self, number: u64) -> Result<(&mut Vec<u8>, &mut Unsynced), i32> {
        match &mut self.nodes.get_mut(&number).ok_or(ENOENT)?.kind {
            Kind::File { content, unsynced } => Ok((content, unsynced)),
            Kind::Folder(_) => Err(EISDIR),
        }
    }

    pub(crate) fn lookup(&mut self, folder: u64, name: &OsStr) -> Result<u64, i32> {
        self.names(folder)?.get(name).ok_or(ENOENT)
    }

    fn make(&mut self, folder: u64, name: &OsStr, node: Node) -> Result<u64, i32> {
        let number = self.next;
        let names = self.names(folder)?;
        if names.get(name).is_some() {
            return Err(EEXIST);
        }
        names.change([(name, Some(number))]);
        self.nodes.insert(number, node);
        self.next += 1;
        Ok(number)
    }

    pub(crate) fn make_folder(&mut self, folder: u64, name: &OsStr, mode: u16) -> Result<u64, i32> {
        self.make(folder, name, Node::folder(mode))
    }

    pub(crate) fn make_file(&mut self, folder: u64, name: &OsStr, mode: u16) -> Result<u64, i32> {
        self.make(folder, name, Node::file(mode))
    }

    /// Takes a name away, of a file or of a folder in which there is nothing.
    pub(crate) fn remove(&mut self, folder: u64, name: &OsStr, is_folder: bool) -> Result<(), i32> {
        let number = self.lookup(folder, name)?;
        match (&self.node(number)?.kind, is_folder) {
            (Kind::Folder(_), false) => return Err(EISDIR),
            (Kind::File { .. }, true) => return Err(ENOTDIR),
            (Kind::Folder(names), true) if !names.now().is_empty() => return Err(ENOTEMPTY),
            _ => {}
        }
        self.names(folder)?.change([(name, None)]);
        self.free(number);
        Ok(())
    }

    /// What is open is not given back before it is closed by most file systems; here it is at once.
    fn free(&mut self, number: u64) {
        if let Some(Node { kind: Kind::File { content, .. }, .. }) = self.nodes.get(&number) {
            self.used = self.used.saturating_sub(content.len() as u64);
        }
    }

    pub(crate) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<(), i32> {
        let number = self.lookup(from.0, from.1)?;
        if let Ok(replaced) = self.lookup(to.0, to.1) {
            if matches!(&self.node(replaced)?.kind, Kind::Folder(names) if !names.now().is_empty()) {
                return Err(ENOTEMPTY);
            }
            self.free(replaced);
        }
        if from.0 == to.0 {
            self.names(from.0)?.change([(from.1, None), (to.1, Some(number))]);
        } else {
            // A journal would keep the two together; a name too many is what it may leave at worst.
            self.names(to.0)?.change([(to.1, Some(number))]);
            self.names(from.0)?.change([(from.1, None)]);
        }
        Ok(())
    }

    pub(crate) fn read(&mut self, number: u64, offset: u64, size: u32) -> Result<Vec<u8>, i32> {
        let (content, _) = self.file(number)?;
        let start = (offset as usize).min(content.len());
        let end = (start + size as usize).min(content.len());
        Ok(content[start..end].to_vec())
    }

    /// Writes as much as there is room for; none at all is an error.
    pub(crate) fn write(&mut self, number: u64, offset: u64, bytes: &[u8], capacity: u64) -> Result<u32, i32> {
        let room = capacity.saturating_sub(self.used);
        let (content, unsynced) = self.file(number)?;
        let before = content.len() as u64;
        let fits = (before + room).saturating_sub(offset).min(bytes.len() as u64) as usize;
        if fits == 0 && !bytes.is_empty() {
            return Err(ENOSPC);
        }
        write(content, offset as usize, &bytes[..fits]);
        unsynced.note(Change::Write(offset, bytes[..fits].to_vec()));
        self.used += content.len() as u64 - before;
        Ok(fits as u32)
    }

    /// A file that is made longer has a hole there, but is counted whole: what is admitted is to fit.
    pub(crate) fn set_length(&mut self, number: u64, length: u64, capacity: u64) -> Result<(), i32> {
        let room = capacity.saturating_sub(self.used);
        let (content, unsynced) = self.file(number)?;
        let before = content.len() as u64;
        if length.saturating_sub(before) > room {
            return Err(ENOSPC);
        }
        content.resize(length as usize, 0);
        unsynced.note(Change::Length(length));
        self.used = self.used + length - before;
        Ok(())
    }

    /// Syncs a file or the names in a folder.
    pub(crate) fn sync(&mut self, number: u64) -> Result<(), i32> {
        match &mut self.nodes.get_mut(&number).ok_or(ENOENT)?.kind {
            Kind::Folder(names) => names.sync(),
            Kind::File { unsynced, .. } => unsynced.sync(false),
        }
        Ok(())
    }

    /// A sync of a file that failed.
    pub(crate) fn fail_sync(&mut self, number: u64) {
        if let Ok((_, unsynced)) = self.file(number) {
            unsynced.sync(true);
        }
    }

    /// What is left of all that was not synced is what `keep` says; what no name stands for any more is gone.
    pub(crate) fn lose_power(&mut self, keep: &mut impl FnMut() -> bool) {
        for node in self.nodes.values_mut() {
            match &mut node.kind {
                Kind::Folder(names) => names.lose_power(keep),
                Kind::File { content, unsynced } => {
                    *content = unsynced.after_a_loss(keep);
                    *unsynced = Unsynced::of(content.clone());
                }
            }
        }
        let mut named = BTreeSet::from([ROOT]);
        let mut to_visit = vec![ROOT];
        while let Some(number) = to_visit.pop() {
            if let Some(Node { kind: Kind::Folder(names), .. }) = self.nodes.get(&number) {
                to_visit.extend(names.now().values().filter(|&&child| named.insert(child)));
            }
        }
        self.nodes.retain(|number, _| named.contains(number));
        self.used = 0;
        for node in self.nodes.values_mut() {
            match &mut node.kind {
                Kind::Folder(names) => names.retain(|number| named.contains(&number)),
                Kind::File { content, .. } => self.used += content.len() as u64,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bytes_are_synced_apart() {
        let mut tree = Tree::new();
        let name = OsStr::new("x");
        let file = tree.make_file(ROOT, name, 0o600).unwrap();
        tree.write(file, 0, b"bytes", 100).unwrap();
        tree.sync(file).unwrap();
        tree.write(file, 5, b" more", 100).unwrap();
        tree.sync(ROOT).unwrap();
        tree.remove(ROOT, name, false).unwrap();
        tree.lose_power(&mut || false);
        assert_eq!(tree.lookup(ROOT, name), Ok(file));
        assert_eq!(tree.read(file, 0, 100).unwrap(), b"bytes");
        assert_eq!(tree.used(), 5);
        let other = tree.make_file(ROOT, OsStr::new("y"), 0o600).unwrap();
        tree.sync(other).unwrap();
        tree.lose_power(&mut || false);
        assert_eq!(tree.lookup(ROOT, OsStr::new("y")), Err(ENOENT));
        assert!(tree.node(other).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut tree = Tree::new();
        let file = tree.make_file(ROOT, OsStr::new("x"), 0o600).unwrap();
        assert_eq!(tree.write(file, 0, b"12345", 3), Ok(3));
        assert_eq!(tree.write(file, 3, b"45", 3), Err(ENOSPC));
        assert_eq!(tree.write(file, 0, b"abc", 3), Ok(3));
        assert_eq!(tree.set_length(file, 4, 3), Err(ENOSPC));
    }
}
