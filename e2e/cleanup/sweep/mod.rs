//! The sweep, with the rights it ships with: what it ends when nobody else does, and what it leaves alone.
//!
//! No operator lives here but those that a test starts. Where a fuse must not burn, the controller-manager is stopped
//! for as long.

mod alerts;
mod endings;

use crate::support::planes::Needs;
use crate::support::{Test, needing};

/// The tests of this part. Those that take the CRDs away are the last.
pub fn tests() -> Vec<Test> {
    needing(Needs::NoOperator, [alerts::tests(), endings::tests()].concat())
}
