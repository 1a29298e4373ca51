//! Random scenarios, as many as there is time for: what breaks is made small and kept.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use shoal_simulator::explore::{self, Found};

/// Explores for so many minutes from a seed on, and keeps what it finds.
pub(super) fn run(minutes: f64, seed: u64, keep: &Path) -> anyhow::Result<()> {
    let span = Duration::try_from_secs_f64(minutes * 60.0)
        .with_context(|| format!("{minutes} minutes is not a time to explore for"))?;
    let began = Instant::now();
    let (mut ran, mut kept) = (0_u64, Vec::new());
    while began.elapsed() < span {
        let at = seed.wrapping_add(ran);
        ran += 1;
        let Some(found) = explore::explore(at) else { continue };
        let file = write(keep, at, &found)?;
        println!("{}\n{}", file.display(), explore::trouble(&found.scenario).unwrap_or_else(|| found.broke.clone()));
        kept.push(file);
    }
    println!("{ran} random scenarios from seed {seed} on, {} of them broke something", kept.len());
    ensure!(kept.is_empty(), "{} scenarios break something; they are in {}", kept.len(), keep.display());
    Ok(())
}

fn write(folder: &Path, seed: u64, found: &Found) -> anyhow::Result<PathBuf> {
    let file = folder.join(format!("{seed}.json"));
    let json = serde_json::to_string_pretty(found)? + "\n";
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&file, json))
        .with_context(|| format!("what broke could not be written to {}", file.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_simulator::Scenario;

    #[test]
    fn what_is_kept_can_be_replayed() {
        let folder = tempfile::tempdir().unwrap();
        let keep = folder.path().join("seeds");
        let found = Found { broke: "something".to_owned(), scenario: explore::random_scenario(7) };
        let file = write(&keep, 7, &found).unwrap();
        let again: Found = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        assert_eq!(again, found);
        assert_ne!(again.scenario, Scenario::flash(2, 8));
    }

    #[test]
    fn no_time_runs_nothing_and_less_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        run(0.0, 1, folder.path()).unwrap();
        assert!(run(-1.0, 1, folder.path()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
