//! The process: streams, lanes, locks, metrics and the command line.

pub mod cli;
mod deadlines;
mod decisions;
mod drain;
mod error;
mod expiry;
mod heartbeat;
mod keylock;
mod lane;
mod lease;
mod metrics;
mod options;
mod orphans;
mod pass;
mod policies;
mod probe;
mod run;
mod self_test;
mod server;
mod skew;
mod stop;
mod streams;
mod sweep;
mod table;
mod telemetry;
mod triggers;
mod watches;
mod work_queue;

pub use error::RunError;
pub use options::Options;
pub use run::run;
