//! Who is in a swarm, and who may ask its origin: the coordinator of a digest, and a member of its swarm.
//!
//! The live node closest to a digest coordinates it. It gives every member neighbours, has one member find out how long
//! the blob is, and grants one member, the seed, a short lease to read the origin. Everything it knows is soft: when it
//! dies, the members find the next closest, and what they say is all that one needs to go on with the same seed.
//!
//! A lease is safe without common clocks: the seed counts from *sending* the request that was answered and stops early,
//! the coordinator counts from answering and waits longer. Leases of coordinators that do not know of each other are
//! ordered by their epochs; where two meet, the lower one ends.
//!
//! The coordinator's side:
//! * [`Coordinator`]: one a node; the dispatcher. [`Input`], [`Output`], [`Note`]: its words;
//! * `case`: one digest: members, holders, who is told what; `inquiry`: from a wish to a lease; `tenancy`: the lease;
//!   `stage`: how far that has come;
//! * `seats`, `holders`, `graph`, `importers`: who is in the swarm, who has it all, who trades with whom, also across zones;
//! * `view`: which nodes are live; [`Remembered`]: the grants this node has seen, as a standby or otherwise.
//!
//! The member's side:
//! * [`Member`]: one a node and digest. [`MemberInput`], [`MemberOutput`]: its words; `member_told`: what it
//!   makes of its coordinator's;
//! * `guide`: whom it takes for the coordinator; `tenure`: its lease while it is the seed.
//!
//! A [`ToMember`] message is routed by [`for_coordinator`] and [`for_member`]; [`unclaimed`] answers for no member.

mod case;
mod coordinator;
mod event;
mod graph;
mod guide;
mod holders;
mod importers;
mod inquiry;
mod member;
mod member_event;
mod member_told;
mod remembered;
mod route;
mod seats;
mod settings;
mod stage;
mod tenancy;
mod tenure;
mod view;

pub use coordinator::Coordinator;
pub use event::{Input, Note, Output, Why};
pub use member::Member;
pub use member_event::{Doubt, MemberInput, MemberOutput, MemberWhy, Own, Stopped};
pub use remembered::{Remembered, is_sound, outranks};
pub use route::{for_coordinator, for_member, unclaimed};
pub use settings::Settings;
#[cfg(doc)]
use shoal_proto::coordination::ToMember;
