//! What stands in files, read again when they change.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

/// How often the files are looked at, at most. Kubernetes replaces a mounted Secret, and some registries' passwords live for
/// hours only.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Files that are read together, and what they last said. Files that cannot be read any more change nothing.
pub(crate) struct Watched<T> {
    /// What is in them, for the log.
    what: String,
    places: Vec<PathBuf>,
    read: fn(&[PathBuf]) -> Result<T, String>,
    state: Mutex<State<T>>,
}

struct State<T> {
    looked: Instant,
    stamps: Vec<Stamp>,
    value: T,
}

/// Tells one state of a file from another: a mounted Secret is replaced by another file, which may be as old and as long.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    length: u64,
    inode: u64,
}

impl<T: Clone> Watched<T> {
    /// Reads the files by `read`, whose error says what is wrong and nothing of what stands in them.
    pub(crate) fn open(
        what: String,
        places: Vec<PathBuf>,
        read: fn(&[PathBuf]) -> Result<T, String>,
    ) -> Result<Self, String> {
        // Stamped before they are read: a change in between is seen with the next look.
        let stamps = stamps(&places).unwrap_or_default();
        let value = read(&places)?;
        Ok(Self { what, places, read, state: Mutex::new(State { looked: Instant::now(), stamps, value }) })
    }

    /// What they say now, as of at most [`LOOK_AGAIN`] ago.
    pub(crate) fn current(&self) -> T {
        self.at(Instant::now(), LOOK_AGAIN)
    }

    /// What they say at this very moment.
    pub(crate) fn fresh(&self) -> T {
        self.at(Instant::now(), Duration::ZERO)
    }

    fn at(&self, now: Instant, every: Duration) -> T {
        let mut state = self.state.lock().expect("nobody panics while holding what files say");
        if now.saturating_duration_since(state.looked) >= every {
            state.looked = now;
            let stamps = stamps(&self.places);
            if let Some(stamps) = stamps.filter(|stamps| *stamps != state.stamps) {
                match (self.read)(&self.places) {
                    Ok(value) => {
                        (state.stamps, state.value) = (stamps, value);
                        tracing::info!("{} were read again", self.what);
                    }
                    Err(why) => {
                        tracing::warn!(why, "{} changed and cannot be read; those from before are used", self.what);
                    }
                }
            }
        }
        state.value.clone()
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("places", &self.places).finish_non_exhaustive()
    }
}

/// The stamps of all files; `None` when one is not there.
fn stamps(places: &[PathBuf]) -> Option<Vec<Stamp>> {
    let stamp = |place: &PathBuf| {
        let found = fs::metadata(file_at(place)).ok()?;
        Some(Stamp { modified: found.modified().ok()?, length: found.len(), inode: found.ino() })
    };
    places.iter().map(stamp).collect()
}

/// The file that a path means: itself, or what a mounted `kubernetes.io/dockerconfigjson` or a docker folder has in it.
pub(crate) fn file_at(place: &Path) -> PathBuf {
    let inside = [".dockerconfigjson", "config.json"].map(|name| place.join(name));
    inside.into_iter().find(|file| file.is_file()).unwrap_or_else(|| place.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn text(places: &[PathBuf]) -> Result<String, String> {
        let all: Result<Vec<_>, _> = places.iter().map(|place| fs::read_to_string(file_at(place))).collect();
        let all = all.map_err(|error| error.to_string())?.concat();
        if all.contains("broken") { Err("it is broken".to_owned()) } else { Ok(all) }
    }

    #[test]
    fn files_that_change_are_read_again_and_broken_ones_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let places = ["a", "b"].map(|name| dir.path().join(name)).to_vec();
        let write = |text: &str| places.iter().for_each(|place| fs::write(place, text).unwrap());
        write("first ");
        let watched = Watched::open("the texts".into(), places.clone(), text).unwrap();
        write("the second ");
        let now = Instant::now();
        let at = |looks: u32| watched.at(now + looks * LOOK_AGAIN, LOOK_AGAIN);
        assert_eq!(at(0), "first first ", "the files are not looked at all the time");
        assert_eq!(at(1), "the second the second ");
        write("broken ");
        assert_eq!(at(2), "the second the second ");
        fs::remove_file(&places[0]).unwrap();
        assert_eq!(at(3), "the second the second ");
        write("third ");
        assert_eq!(at(4), "third third ");
        write("the fourth ");
        assert_eq!(watched.fresh(), "the fourth the fourth ");
    }

    /// As the kubelet does it: the files are links into a folder that is a link itself, which is replaced.
    #[test]
    fn a_mounted_secret_that_is_replaced_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path();
        for (version, text) in [("..1", "aa"), ("..2", "bb")] {
            fs::create_dir(mount.join(version)).unwrap();
            fs::write(mount.join(version).join(".dockerconfigjson"), text).unwrap();
        }
        symlink("..1", mount.join("..data")).unwrap();
        symlink("..data/.dockerconfigjson", mount.join(".dockerconfigjson")).unwrap();
        let watched = Watched::open("the texts".into(), vec![mount.to_owned()], text).unwrap();
        assert_eq!(watched.current(), "aa");
        symlink("..2", mount.join("..next")).unwrap();
        fs::rename(mount.join("..next"), mount.join("..data")).unwrap();
        assert_eq!(watched.fresh(), "bb");
    }
}
