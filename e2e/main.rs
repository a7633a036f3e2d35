//! The end-to-end tests: a real etcd, kube-apiserver and kube-controller-manager, and the operator as a process with
//! the ServiceAccount and the RBAC it ships with.
//!
//! One control plane serves all tests; a test owns its namespaces and policies. Tests of the first part share one
//! operator and run side by side, but for those that take a guard away; those of the second start and kill operators
//! of their own and run one by one. When the whole suite has run, the rights that were used are compared with those
//! that are shipped.
//!
//! Thorough tests try everything of which others try the most telling part. They are left out unless they are asked
//! for: `--ignored` runs them alone (`make test-faults`), `--include-ignored` with the others.

#![allow(
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::too_many_lines,
    reason = "tests: a table is one function, a panic is a failure, and what went wrong is said on stderr"
)]

#[path = "harness/mod.rs"]
mod harness;

mod act_as;
mod asking;
mod attacks;
mod changes;
mod conditions;
mod decisions;
mod demonstration;
mod drain;
mod elevation;
mod examples;
mod faults;
mod fuse;
mod guards;
mod identity;
mod life;
mod observing;
mod policies;
mod rights;
mod suite;
mod sweep;
mod tampering;
mod times;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

use suite::{Suite, Test};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = match Runtime::new() {
        Ok(runtime) => Arc::new(runtime),
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let shared: Vec<Test> = [
        demonstration::tests(),
        act_as::tests(),
        life::tests(),
        fuse::tests(),
        asking::tests(),
        identity::tests(),
        guards::tests(),
        attacks::tests(),
        changes::tests(),
        conditions::tests(),
        decisions::tests(),
        elevation::tests(),
        examples::tests(),
        policies::tests(),
        observing::tests(),
    ]
    .concat();
    let tampering = tampering::tests();
    let alone = [attacks::alone(), faults::tests(), sweep::tests(), drain::tests()].concat();
    // A part of the suite uses a part of the rights.
    let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.ignored;
    let last = if whole { rights::tests() } else { Vec::new() };
    if arguments.list {
        let named = shared
            .iter()
            .chain(&tampering)
            .chain(&alone)
            .chain(&last)
            .map(|test| Trial::test(test.name, || Ok(())).with_ignored_flag(test.thorough))
            .collect();
        libtest_mimic::run(&arguments, named).exit();
    }
    let suite = match runtime.block_on(Suite::start()) {
        Ok(suite) => Arc::new(suite),
        Err(error) => {
            eprintln!("the test bed could not be made: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let together = Arguments {
        // More at once would measure the two cores, not the operator.
        test_threads: arguments.test_threads.or(Some(4)),
        ..arguments.clone()
    };
    let trials = shared
        .into_iter()
        .map(|test| trial(test, &suite, &runtime))
        .collect();
    suite.crowded.store(true, Ordering::Relaxed);
    let mut failed = libtest_mimic::run(&together, trials).has_failed();
    suite.crowded.store(false, Ordering::Relaxed);
    let one_by_one = Arguments {
        test_threads: Some(1),
        ..arguments
    };
    let trials = tampering
        .into_iter()
        .map(|test| trial(test, &suite, &runtime))
        .collect();
    failed |= libtest_mimic::run(&one_by_one, trials).has_failed();
    if let Err(error) = runtime.block_on(suite.clear()) {
        eprintln!("what the first parts left does not go: {error:#}");
        failed = true;
    }
    let stopped = runtime.block_on(suite.operator.terminate());
    if let Err(error) = &stopped {
        eprintln!("the operator did not stop: {error:#}");
    }
    for part in [alone, last] {
        let trials = part
            .into_iter()
            .map(|test| trial(test, &suite, &runtime))
            .collect();
        failed |= libtest_mimic::run(&one_by_one, trials).has_failed();
    }
    times::sum_up();
    attacks::sum_up();
    if failed {
        suite.plane.keep_logs();
    }
    if failed || stopped.is_err() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn trial(test: Test, suite: &Arc<Suite>, runtime: &Arc<Runtime>) -> Trial {
    let (suite, runtime) = (Arc::clone(suite), Arc::clone(runtime));
    Trial::test(test.name, move || {
        let began = Instant::now();
        let outcome = runtime.block_on((test.run)(suite));
        times::note(test.name, began.elapsed());
        outcome.map_err(|error| format!("{error:#}").into())
    })
    .with_ignored_flag(test.thorough)
}
