//! What a file would be after a loss of power.

/// A file as the disk has it for sure, and what was changed since: in order, each with what became of it.
#[derive(Clone, Debug, Default)]
pub struct Unsynced {
    base: Vec<u8>,
    changes: Vec<(Change, State)>,
}

/// What may be changed in a file.
#[derive(Clone, Debug)]
pub enum Change {
    /// These bytes were written from this offset on.
    Write(u64, Vec<u8>),
    /// The file was made so long.
    Length(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    /// A sync of it failed. The system calls its pages clean from then on, and no later sync writes them: so do ext4 and XFS.
    Dropped,
    Synced,
}

/// What a disk writes in one go.
const SECTOR: usize = 512;

impl Unsynced {
    /// A file that the disk has with this content.
    #[must_use]
    pub const fn of(base: Vec<u8>) -> Self {
        Self { base, changes: Vec::new() }
    }

    /// Takes note of a change.
    pub fn note(&mut self, change: Change) {
        self.changes.push((change, State::Pending));
    }

    /// A sync, which may fail.
    pub fn sync(&mut self, fails: bool) {
        for (change, state) in self.changes.iter_mut().filter(|(_, state)| *state == State::Pending) {
            *state = match change {
                _ if !fails => State::Synced,
                Change::Write(..) => State::Dropped,
                // Lengths are no pages.
                Change::Length(_) => State::Pending,
            };
        }
        if self.is_synced() {
            *self = Self::of(self.after_a_loss(&mut || true));
        }
    }

    /// Whether nothing can be lost.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.changes.iter().all(|(_, state)| *state == State::Synced)
    }

    /// Memory is forgotten: what a failed sync has dropped did not come to the disk. Returns what there is then, if that is
    /// less than before.
    pub fn forget_dropped(&mut self) -> Option<Vec<u8>> {
        let before = self.changes.len();
        self.changes.retain(|(_, state)| *state != State::Dropped);
        (self.changes.len() < before).then(|| self.after_a_loss(&mut || true))
    }

    /// The content after a loss of power. `keep` says of each 512 bytes of each change that was not synced whether they had
    /// reached the disk all the same.
    #[must_use]
    pub fn after_a_loss(&self, keep: &mut impl FnMut() -> bool) -> Vec<u8> {
        let mut content = self.base.clone();
        for (change, state) in &self.changes {
            let mut stays = || *state == State::Synced || keep();
            match change {
                Change::Length(length) => {
                    if stays() {
                        content.resize(*length as usize, 0);
                    }
                }
                Change::Write(offset, bytes) => {
                    let mut at = *offset as usize;
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let (sector, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                        if stays() {
                            write(&mut content, at, sector);
                        }
                        (at, rest) = (at + sector.len(), after);
                    }
                }
            }
        }
        content
    }
}

/// Writes into a file's content, which grows where it has to.
pub(crate) fn write(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    content.resize(content.len().max(at + bytes.len()), 0);
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_that_failed_is_not_made_good_by_the_next() {
        let mut file = Unsynced::of(b"old".to_vec());
        file.note(Change::Write(0, b"new".to_vec()));
        file.sync(true);
        file.sync(false);
        assert!(!file.is_synced());
        assert_eq!(file.after_a_loss(&mut || false), b"old");
        file.note(Change::Write(0, b"neW".to_vec()));
        file.sync(false);
        assert_eq!(file.after_a_loss(&mut || false), b"neW");
        assert_eq!(file.forget_dropped().unwrap(), b"neW");
        assert!(file.is_synced());
    }

    #[test]
    fn any_part_of_what_was_not_synced_may_stay() {
        let mut file = Unsynced::of(vec![1; 1000]);
        file.note(Change::Length(2000));
        file.note(Change::Write(500, vec![2; 1000]));
        let mut answers = [false, false, true, false].into_iter();
        let after = file.after_a_loss(&mut || answers.next().unwrap());
        assert_eq!(after, [vec![1; 512], vec![2; 512]].concat());
    }
}
