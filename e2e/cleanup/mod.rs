//! Sweep and drain.

mod drain;
mod sweep;

use crate::support::Test;

/// The tests of this part.
pub fn tests() -> Vec<Test> {
    [drain::tests(), sweep::tests()].concat()
}
