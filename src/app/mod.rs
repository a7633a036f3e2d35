//! The programs: operator, sweep, drain and the command line.

pub mod cli;
mod context;
mod deadlines;
mod decisions;
mod drain;
mod error;
mod expiry;
mod heartbeat;
mod keylock;
mod lane;
mod leader_task;
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
