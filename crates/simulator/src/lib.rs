//! A fleet of nodes on a pretended network, with virtual time, driving the very swarm that the daemon drives.
//!
//! * [`Scenario`]: what a run is made of; [`catalog`]: the named ones, and what each must show;
//! * [`run`]: runs one; [`Outcome`]: what came of it; [`Broken`]: what did not hold;
//! * [`bound`]: what no protocol can beat;
//! * [`baseline`]: what others do, for comparison;
//! * [`explore`]: random ones, in search of what does not hold;
//! * [`network`]: the links.
//!
//! Inside: `fleet` is the run, `driving` does what the state machines say, `faults` what goes wrong, `checks` what must
//! hold, `weight` what is said weighs.

mod agenda;
pub mod baseline;
pub mod bound;
pub mod catalog;
mod checks;
mod curve;
mod driving;
pub mod explore;
mod faults;
mod fleet;
pub mod network;
mod node;
mod origin;
mod outcome;
mod scenario;
mod watch;
mod weight;

pub use curve::Moment;
pub use outcome::{Classes, Outcome};
pub use scenario::{Begin, Fault, Scenario, Slow, What, When, Whom};
pub use watch::Broken;

/// Runs a scenario to its end: until every node that can has the blob, or something does not hold.
///
/// # Panics
/// When the scenario does not pass [`Scenario::check`].
#[must_use]
pub fn run(scenario: &Scenario) -> Outcome {
    fleet::Fleet::new(scenario).run()
}
