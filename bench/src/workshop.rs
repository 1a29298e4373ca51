//! What a measurement works with, where it works, and how it is ended.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytesize::ByteSize;
use shoal::signals::{Signals, Wish};
use tempfile::TempDir;

/// The arguments of all measurements of real daemons.
#[derive(clap::Args, Debug)]
pub(crate) struct Tools {
    /// The daemon's program [default: the `shoal` beside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) shoal: Option<PathBuf>,

    /// The folder to work in; a new one is made in it and removed
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub(crate) dir: PathBuf,
}

/// Does some work, unless a signal ends this program before; what the work has started goes when it is dropped.
///
/// # Errors
/// Those of the work, and when it was ended.
pub(crate) async fn unless_ended<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut signals = Signals::listen(false)?;
    let ended = async { while signals.next().await != Wish::End {} };
    tokio::select! {
        outcome = work => outcome,
        () = ended => bail!("ended by a signal; what was started is taken away"),
    }
}

/// A new folder within `dir`, on a disk that has room for so many bytes. It goes when it is dropped.
pub(crate) fn set_up(dir: &Path, needed: u64) -> anyhow::Result<TempDir> {
    let folder = tempfile::Builder::new()
        .prefix("shoal-bench-")
        .tempdir_in(dir)
        .with_context(|| format!("make a folder in {}; `--dir` names another", dir.display()))?;
    let status = rustix::fs::statvfs(folder.path())?;
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    if free < needed {
        let (free, needed) = (ByteSize(free).display().iec(), ByteSize(needed).display().iec());
        let dir = dir.display();
        bail!("{dir} has {free} free and {needed} are needed: use a smaller `--size`, or another `--dir`");
    }
    Ok(folder)
}

/// The same; with `keep` it stays, with the daemons' logs in it, and is named.
pub(crate) fn set_up_kept(dir: &Path, needed: u64, keep: bool) -> anyhow::Result<TempDir> {
    let mut folder = set_up(dir, needed)?;
    if keep {
        folder.disable_cleanup(true);
        eprintln!("the logs stay in {}", folder.path().display());
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_told() {
        let dir = std::env::temp_dir();
        assert!(set_up(&dir, 1).is_ok());
        let error = set_up(&dir, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("--size") && error.contains("--dir"), "{error}");
    }
}
