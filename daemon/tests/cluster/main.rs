//! Whole clusters of real daemons on loopback, against an origin that counts and misbehaves.
//!
//! `SHOAL_LOG=debug cargo test --test cluster` has the daemons say more; what they said is shown when a test fails.

#![allow(clippy::unwrap_used)] // Functions beside the tests are tests as well, which the lint cannot see.

mod audit;
mod bad_input;
mod blame;
mod callers;
mod conformance;
mod conversation;
mod cut_through;
mod drain;
mod early_leavers;
mod failing_well;
mod fan_out;
mod faults;
mod flaky_origin;
mod lease;
mod origin_faults;
mod rates;
mod registries;
mod reload;
mod resume;
mod rude_clients;
mod secrets;
mod side_by_side;
mod side_readers;
mod store_limits;
mod strangers;
mod support;
mod tags;
mod wrong_peer;
