//! Clock, heartbeat, leader election, running.

pub mod clock;
pub mod heartbeat;
pub mod leader;
