//! Daemons that die in the middle of a pull by eight nodes, and what it costs: bytes that the origin sends twice, and how long
//! readers wait.
//!
//! `SHOAL_FAULTS_LAYER=1GiB cargo test --release --test cluster faults -- --nocapture` does it with a layer of that size and shows
//! the figures.

mod large_pieces;
mod loss_of_coordinator;
mod loss_of_seed;
mod loss_of_three;
mod patient;
mod scene;
