//! Removal without a plan: sweep and drain.

pub mod drain;
pub mod sweep;
