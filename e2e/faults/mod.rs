//! Faults: the operator killed after each of its writes, every answer lost or refused in turn, watches that break,
//! an API server that goes away, clocks that are wrong, and bursts in the middle of it.
//!
//! Each test starts operators of its own, and an operator acts on all namespaces: these tests run one by one, with no
//! other operator alive.

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
mod decisions;
mod ground;
mod guards;
mod journal;
mod kill;
mod lags;
mod leaders;
mod outage;
mod poison;
mod restored;
mod story;
mod verdict;
mod watches;

use crate::suite::Test;

/// The tests of this part.
pub fn tests() -> Vec<Test> {
    [
        act_as::tests(),
        kill::tests(),
        answers::tests(),
        watches::tests(),
        outage::tests(),
        absence::tests(),
        burst::tests(),
        guards::tests(),
        decisions::tests(),
        leaders::tests(),
        clocks::tests(),
        poison::tests(),
        restored::tests(),
    ]
    .concat()
}
