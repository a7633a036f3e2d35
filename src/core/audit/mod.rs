//! Evidence.

pub mod record;
