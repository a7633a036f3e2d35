//! The self-test, running.

pub mod probe;
pub mod self_test;
