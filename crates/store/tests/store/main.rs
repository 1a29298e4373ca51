//! How the store behaves: what it keeps, what it gives up, and what it finds again.
// Every one of these is a test.
#![allow(clippy::unwrap_used)]

mod ailing;
mod blobs;
mod broken_index;
mod capacity;
mod faults;
mod faulty_disk;
mod kill;
mod killed;
mod lent;
mod manifests;
mod model;
mod power;
mod resume;
mod sample;
