//! How the store behaves: what it keeps, what it gives up, and what it finds again.
// Every one of these is a test.
#![allow(clippy::unwrap_used)]

mod blobs;
mod capacity;
mod faults;
mod faulty_disk;
mod kill;
mod lent;
mod manifests;
mod model;
mod resume;
mod sample;
