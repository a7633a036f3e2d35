//! Faults: the operator killed after each of its writes, every answer lost or refused in turn, watches that break or
//! fall silent, parts of the control plane that go away or go back in time, clocks that are wrong, objects that nobody
//! expects, and bursts in the middle of it.
//!
//! Each test starts operators of its own, and an operator acts on all namespaces: each has a plane for itself meanwhile.
//! Those that keep both cores busy, or measure in fractions of a second, run before all others, one by one.

#![allow(
    clippy::print_stdout,
    reason = "how many cases there were, for whoever reads the suite's output"
)]

mod absence;
mod act_as;
mod answers;
mod burst;
mod changes;
mod clocks;
mod crowd;
mod decisions;
mod fuse;
mod guard_state;
mod guards;
mod journal;
mod kill;
mod lags;
mod leaders;
mod outage;
mod poison;
mod proof;
mod replicas;
mod restored;
mod scene;
mod story;
mod verdict;
mod watches;

use crate::support::planes::Needs;
use crate::support::{Test, needing};

/// The tests of this part.
pub fn tests() -> Vec<Test> {
    let mut tests = [
        act_as::tests(),
        kill::tests(),
        answers::tests(),
        watches::tests(),
        outage::tests(),
        absence::tests(),
        burst::tests(),
        fuse::tests(),
        guards::tests(),
        decisions::tests(),
        leaders::tests(),
        clocks::tests(),
        crowd::tests(),
        poison::tests(),
        proof::tests(),
        restored::tests(),
    ]
    .concat();
    for test in &mut tests {
        if test.thorough {
            test.needs = Needs::Busy;
        }
    }
    needing(Needs::NoOperator, tests)
}
