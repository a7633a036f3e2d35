//! What one replica must know to run: time, leader, retries.

pub mod clock;
pub mod expiry_queue;
pub mod heartbeat;
pub mod leader;
pub mod retry;
