//! One file for each background task.

pub mod controller;
pub mod decisions;
pub mod expiry;
pub mod orphans;
pub mod policies;
