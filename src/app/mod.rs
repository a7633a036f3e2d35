//! The process: streams, lanes, locks, metrics and the command line.

pub mod cli;
mod deadlines;
mod decisions;
mod drain;
mod expiry;
mod heartbeat;
mod keylock;
mod lane;
mod lease;
mod metrics;
mod orphans;
mod pass;
mod policies;
mod probe;
mod run;
mod self_test;
mod server;
mod skew;
mod streams;
mod sweep;
mod table;
mod telemetry;
mod triggers;

pub use run::{Options, RunError, run};
