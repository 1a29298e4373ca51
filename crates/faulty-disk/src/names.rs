//! The names in a folder: those that are there, and those that would be after a loss of power.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

type Entries = BTreeMap<OsString, u64>;

/// What the names of a folder stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    now: Entries,
    /// What the disk has for sure.
    base: Entries,
    /// What was done since the folder was synced, each as one stroke of its journal.
    changes: Vec<Vec<(OsString, Option<u64>)>>,
}

impl Names {
    pub(crate) const fn now(&self) -> &Entries {
        &self.now
    }

    pub(crate) fn get(&self, name: &OsStr) -> Option<u64> {
        self.now.get(name).copied()
    }

    /// Gives names to nodes, or takes them away, all at once.
    pub(crate) fn change<'a>(&mut self, strokes: impl IntoIterator<Item = (&'a OsStr, Option<u64>)>) {
        let strokes: Vec<_> = strokes.into_iter().map(|(name, node)| (name.to_owned(), node)).collect();
        apply(&mut self.now, &strokes);
        self.changes.push(strokes);
    }

    pub(crate) fn sync(&mut self) {
        self.base = self.now.clone();
        self.changes.clear();
    }

    /// The names that are left: of the changes that were not synced those that `keep` says.
    pub(crate) fn lose_power(&mut self, keep: &mut impl FnMut() -> bool) {
        for strokes in self.changes.drain(..) {
            if keep() {
                apply(&mut self.base, &strokes);
            }
        }
        self.now = self.base.clone();
    }

    /// Takes away the names of nodes that are not there.
    pub(crate) fn retain(&mut self, there: impl Fn(u64) -> bool) {
        self.now.retain(|_, node| there(*node));
        self.base = self.now.clone();
    }
}

fn apply(entries: &mut Entries, strokes: &[(OsString, Option<u64>)]) {
    for (name, node) in strokes {
        match node {
            Some(node) => drop(entries.insert(name.clone(), *node)),
            None => drop(entries.remove(name)),
        }
    }
}
