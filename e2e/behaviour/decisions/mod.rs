//! People decide: who is asked, whose word counts, and what everybody sees of it.

mod automation;
mod crowds;
mod denying;
mod edits;
mod ignored;
mod paths;
mod records;
mod revoking;
mod stages;
mod times;

use crate::support::Test;

/// The tests of this part.
pub fn tests() -> Vec<Test> {
    [
        paths::tests(),
        stages::tests(),
        denying::tests(),
        ignored::tests(),
        revoking::tests(),
        automation::tests(),
        times::tests(),
        edits::tests(),
        crowds::tests(),
        records::tests(),
    ]
    .concat()
}
