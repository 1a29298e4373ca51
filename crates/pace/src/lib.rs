//! How fast a node may be: rates, and what holds bytes to them.
//!
//! * [`Rate`]: bytes a second;
//! * [`Bucket`]: the arithmetic of a limit, with the time as an argument;
//! * [`Limit`]: a bucket that many share, that can be changed while they wait for it, or be none;
//! * [`Turn`]: a place among those that wait for a limit.
//!
//! The data plane, the origin and the registry of the tests hold different things to a limit, and know nothing of each other: so
//! it has a room below theirs.

mod bucket;
mod limit;
mod rate;

pub use bucket::Bucket;
pub use limit::{Limit, Turn};
pub use rate::Rate;
