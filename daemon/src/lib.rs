//! The daemon as a library, so that its tests, its demonstration and its measurements use the real thing.
//!
//! * [`cli`], [`config`]: what it is told, by flags, environment and file;
//! * [`signals`]: what is wanted of it while it runs; [`logs`], [`audit`], [`metrics`], [`admin`]: what it tells;
//! * [`descriptors`], [`memory`]: what it may have, and has, of the system;
//! * [`privacy`]: who may look into its memory;
//! * [`key`]: new cluster keys; [`runtimes`]: the mirror put before containerd and CRI-O;
//! * [`cluster`], [`fetch`]: daemons as child processes, and a client for them;
//! * [`demo`]: one pull on many nodes, shown.

pub mod admin;
pub mod audit;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod descriptors;
pub mod fetch;
pub mod key;
pub mod logs;
pub mod memory;
pub mod metrics;
pub mod node;
pub mod privacy;
pub mod runtimes;
pub mod signals;
