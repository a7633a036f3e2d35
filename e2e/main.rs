//! The end-to-end tests: a real etcd, kube-apiserver and kube-controller-manager, and the operator as a process with
//! the ServiceAccount and the RBAC it ships with.
//!
//! Most tests share one control plane and one operator; a test owns its namespaces and policies. A test that disturbs
//! others (it starts and kills operators, takes guards away, stops a part of the control plane) has a plane for itself
//! meanwhile: see [`support::planes`]. All of them run side by side. When the whole suite has run, the rights that were
//! used are compared with those that are shipped.
//!
//! `support` is what tests share. A test file imports only `support`, the harness, and what its own folder shares.
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

mod behaviour;
mod cleanup;
mod faults;
mod security;
mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use libtest_mimic::{Arguments, Trial};
use security::{attacks, rights};
use support::planes::{Needs, Planes};
use support::{Test, durations};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the tests could not be run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// All tests. Those that have a plane for themselves begin first: they take longest.
fn all_tests() -> Vec<Test> {
    [
        faults::tests(),
        security::tests(),
        cleanup::tests(),
        behaviour::tests(),
    ]
    .concat()
}

/// Runs what the arguments select; whether all of it passed.
fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let began = Instant::now();
    // A part of the suite uses a part of the rights.
    let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.ignored;
    let named = |name: &str, thorough: bool| Trial::test(name, || Ok(())).with_ignored_flag(thorough);
    if arguments.list {
        let mut trials: Vec<Trial> = all_tests()
            .iter()
            .map(|test| named(test.name, test.thorough))
            .collect();
        trials.extend(whole.then(|| named(rights::NAME, false)));
        libtest_mimic::run(arguments, trials).exit();
    }
    let selected: Vec<Test> = all_tests()
        .into_iter()
        .filter(|test| !arguments.is_filtered_out(&named(test.name, test.thorough)))
        .collect();
    anyhow::ensure!(!selected.is_empty(), "no test is called so");
    let to_run: Vec<Test> = selected
        .iter()
        .copied()
        .filter(|test| !test.thorough || arguments.ignored || arguments.include_ignored)
        .collect();
    let (busy, others): (Vec<_>, Vec<_>) = selected.into_iter().partition(|test| test.needs == Needs::Busy);
    let runtime = Arc::new(Runtime::new()?);
    let planes = Arc::new(Planes::new(&to_run)?);
    let side_by_side = Arguments {
        // How many really run at once is for the planes to say; a test that waits for its plane takes no time.
        test_threads: arguments.test_threads.or(Some(to_run.len().max(1))),
        ..arguments.clone()
    };
    let trials = busy
        .into_iter()
        .chain(others)
        .map(|test| trial(test, &planes, &runtime))
        .collect();
    let mut failed = libtest_mimic::run(&side_by_side, trials).has_failed();
    if let Err(error) = runtime.block_on(planes.finish()) {
        eprintln!("a plane did not end well: {error:#}");
        failed = true;
    }
    if whole {
        let logs = planes.audit_logs()?;
        let compare = move || {
            rights::every_right_is_used_and_none_is_missing(&logs)
                .map_err(|error| format!("{error:#}").into())
        };
        let last = vec![Trial::test(rights::NAME, compare)];
        failed |= libtest_mimic::run(arguments, last).has_failed();
    }
    durations::sum_up(began.elapsed());
    attacks::sum_up();
    Ok(!failed)
}

fn trial(test: Test, planes: &Arc<Planes>, runtime: &Arc<Runtime>) -> Trial {
    let (planes, runtime) = (Arc::clone(planes), Arc::clone(runtime));
    Trial::test(test.name, move || {
        let (outcome, took) = runtime.block_on(planes.run(test));
        durations::note(test.name, took, outcome.is_ok());
        outcome.map_err(|error| format!("{error:#}").into())
    })
    .with_ignored_flag(test.thorough)
}
