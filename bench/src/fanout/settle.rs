//! Memory that the machine really has.
//!
//! A virtual machine whose host takes free memory away pays for each page that it touches anew: many times what it costs to
//! copy a page's worth of bytes. A machine that has run for a while has no such pages, its page cache fills all memory. So the
//! cache is filled before a measurement; what the daemons write then takes the place of what nobody needs.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use anyhow::Context;

/// The system's word that the host is told of free memory.
const REPORTING: &str = "/sys/module/page_reporting";
/// How much is left free: the system wants some, and takes the rest from the cache.
const LEFT: u64 = 1 << 30;
/// More than this is not filled: it would take longer than the measurement.
const MOST: u64 = 64 << 30;

/// Fills the page cache with the zeros of a sparse file in `dir`, where the host takes free memory away.
///
/// # Errors
/// When the file cannot be made or read.
pub(super) fn fill_page_cache(dir: &Path) -> anyhow::Result<()> {
    if !fs::exists(REPORTING).unwrap_or(false) {
        return Ok(());
    }
    let free = free_memory()?.saturating_sub(LEFT);
    if free == 0 || free > MOST {
        return Ok(());
    }
    let file = tempfile::Builder::new().prefix("zeros-").tempfile_in(dir).context("make a sparse file")?;
    file.as_file().set_len(free)?;
    let mut zeros = File::open(file.path())?;
    io::copy(&mut zeros, &mut io::sink()).context("read a sparse file")?;
    // Once removed, its pages would be free again.
    file.keep().context("keep a sparse file")?;
    Ok(())
}

fn free_memory() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let value = text.lines().find_map(|line| line.strip_prefix("MemFree:")?.trim().strip_suffix(" kB"));
    let kibibytes: u64 = value.context("/proc/meminfo does not say MemFree")?.trim().parse()?;
    Ok(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_some_memory() {
        assert!(free_memory().unwrap() > 1 << 20);
    }
}
