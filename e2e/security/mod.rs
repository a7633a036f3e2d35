//! What must be refused, and that nobody has more rights than they use.

pub mod attacks;
mod guards;
pub mod rights;

use crate::support::Test;

/// The tests of this part, but for [`rights`], which compares what all parts did.
pub fn tests() -> Vec<Test> {
    [attacks::tests(), guards::tests()].concat()
}
