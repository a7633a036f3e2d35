//! What sweep and drain call.

pub mod drain;
pub mod sweep;
