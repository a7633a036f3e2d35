//! What tests share. There is no test in here.

pub mod act_as;
pub mod changes;
pub mod decisions;
pub mod durations;
pub mod fuses;
pub mod guards;
pub mod json;
pub mod manifests;
pub mod place;
pub mod planes;
pub mod suite;
pub mod sweep;

pub use json::{condition, merge};
pub use place::Place;
pub use suite::{SOON, Suite, Test, needing};
