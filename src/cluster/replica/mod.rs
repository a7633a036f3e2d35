//! Leases.

pub mod heartbeat;
pub mod leader;
