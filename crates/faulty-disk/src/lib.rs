//! A file system in memory that fills up, fails, is slow and loses its power: for tests.
//!
//! It is mounted with FUSE, so that whatever a program does with files, through whichever library, meets its faults.
//! [`FaultyDisk::mount`] mounts it, [`Faults`] makes it ill while it is mounted, [`FaultyDisk::lose_power`] leaves of it what a
//! disk would have after a loss of power. [`Unsynced`] is that for one file, for tests that stand in for a disk without
//! mounting anything; [`Chance`] is chance from a seed.

mod chance;
mod disk;
mod faults;
mod names;
mod tree;
mod unsynced;

pub use chance::Chance;
pub use disk::FaultyDisk;
pub use faults::Faults;
pub use unsynced::{Change, Unsynced};
