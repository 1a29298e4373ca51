//! The swarm of one blob on one node: which piece to take from whom, whom to give a slot, what to ask of the origin.
//!
//! The policy is slot-grant with seed-once: *the uploader paces, the receiver picks*. An uploader opens a few slots and
//! gives each to a neighbour that lacks something; the neighbour answers with the piece it wants most; the seed pushes
//! every piece once before it sends any a second time.
//!
//! * [`Swarm`]: the state machine, and the contract of driving it;
//! * [`Input`], [`Output`], [`Why`]: what goes in and what comes out;
//! * [`Capacity`]: what the node's swarms share: upload slots and bytes in flight.

mod capacity;
mod downloads;
mod event;
mod flights;
mod neighbour;
mod neighbours;
mod news;
mod pace;
mod readers;
mod seeding;
mod settings;
mod slots;
mod swarm;
mod uplink;
mod uploads;
mod zoning;

pub use capacity::{Capacity, LinkLimits, MORE_OFFERS};
pub use event::{Fault, Input, Output, ReaderId, SlotId, Source, Why};
pub use settings::Settings;
pub use swarm::{State, Swarm};
