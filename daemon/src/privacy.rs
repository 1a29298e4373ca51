//! What keeps the keys and passwords in memory from the node's other users.

use anyhow::Context;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Leaves no core file behind, and lets no process of the same user read this one's memory, environment or open files: only the
/// superuser still can.
///
/// # Errors
/// When the system refuses.
pub fn close_memory() -> anyhow::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("keep other processes out of this one's memory")
}
