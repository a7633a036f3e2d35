//! What users see.

mod act_as;
mod asking;
mod changes;
mod conditions;
mod decisions;
mod demo;
mod elevation;
mod examples;
mod fuse;
mod identity;
mod life;
mod observing;
mod policies;
mod tampering;

use crate::support::planes::Needs;
use crate::support::{Test, needing};

/// The tests of this part.
pub fn tests() -> Vec<Test> {
    [
        needing(Needs::Alone, tampering::tests()),
        demo::tests(),
        act_as::tests(),
        life::tests(),
        fuse::tests(),
        asking::tests(),
        identity::tests(),
        changes::tests(),
        conditions::tests(),
        decisions::tests(),
        elevation::tests(),
        examples::tests(),
        policies::tests(),
        observing::tests(),
    ]
    .concat()
}
