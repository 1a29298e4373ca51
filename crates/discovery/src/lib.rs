//! Who is there: the control plane, over libp2p (TCP, noise, yamux; Kademlia, identify, ping, request-response).
//!
//! [`Discovery::start`] listens, looks for the other members and keeps connected to them; its handle sends
//! [`Coordination`](shoal_proto::coordination::Coordination) messages and answers who is closest to a digest; its
//! [`Event`]s tell what came in and who is there.
//!
//! * One task owns the libp2p swarm (`node`); handles talk to it over bounded channels.
//! * Nobody speaks behind the door before both sides have proven the cluster key: `admission` is the protocol,
//!   `gate` makes it one upgrade with noise.
//! * Decisions are kept apart from I/O: `book` (when to dial whom), `bootstrap` (whom to ask first), `joining` (when ready
//!   means ready), `ring` (who is near), `letters` and `outbox` (what waits, within bounds).

mod address;
mod admission;
mod behaviour;
mod book;
mod bootstrap;
mod command;
mod config;
mod counters;
mod discovery;
mod error;
mod event;
mod frames;
mod gate;
mod identity;
mod joining;
mod letters;
mod link;
mod lookups;
mod node;
mod outbox;
mod refusals;
mod ring;
mod shared;
mod transport;

pub use config::DiscoveryConfig;
pub use counters::{Counters, Counts};
pub use discovery::Discovery;
pub use error::{SendError, StartError};
pub use event::{Event, Readiness};
