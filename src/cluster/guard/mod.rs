//! The self-test's requests.

pub mod canary;
pub mod forge;
pub mod read;
