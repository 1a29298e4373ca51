//! Who fetches what from whom, and who may ask the origin: the decisions, without the doing.
//!
//! Pure state machines; the daemon and the simulator drive them alike.

pub mod coordination;
mod time;
pub mod trade;

pub use time::Time;
