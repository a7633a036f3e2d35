//! How long each test took, so that what makes the suite long is known.
#![allow(
    clippy::print_stdout,
    reason = "how long it took, for whoever reads the suite's output"
)]

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many of the slowest tests are named at the end.
const SLOWEST: usize = 10;

/// One test that was run.
#[derive(Clone)]
struct Run {
    test: &'static str,
    took: Duration,
    passed: bool,
}

/// Some tests together.
#[derive(Default)]
struct Total {
    tests: usize,
    failed: usize,
    took: Duration,
}

impl Total {
    fn add(&mut self, run: &Run) {
        self.tests += 1;
        self.failed += usize::from(!run.passed);
        self.took += run.took;
    }

    fn line(&self, name: &str) -> String {
        let Self { tests, failed, took } = self;
        let failures = if *failed == 0 {
            String::new()
        } else {
            format!(", {failed} FAILED")
        };
        format!("{:>8.1} s  {name} ({tests}{failures})", took.as_secs_f64())
    }
}

static RUNS: Mutex<Vec<Run>> = Mutex::new(Vec::new());

/// Remembers how long a test took.
pub fn note(test: &'static str, took: Duration, passed: bool) {
    lock().push(Run { test, took, passed });
}

/// Prints the slowest tests, and for each file and each part how long its tests took together. Tests run side by side,
/// so the sums are longer than the run was.
pub fn sum_up(whole: Duration) {
    let mut runs = lock().clone();
    runs.sort_by_key(|run| std::cmp::Reverse(run.took));
    let (mut files, mut parts) = (BTreeMap::<&str, Total>::new(), BTreeMap::<&str, Total>::new());
    for run in &runs {
        let file = file(run.test);
        files.entry(file).or_default().add(run);
        parts.entry(part(file)).or_default().add(run);
    }
    println!("\nthe slowest tests:");
    for run in runs.iter().take(SLOWEST) {
        println!("{:>8.1} s  {}", run.took.as_secs_f64(), run.test);
    }
    println!("by file:");
    for (file, total) in files {
        println!("{}", total.line(file));
    }
    println!("by part:");
    for (part, total) in &parts {
        println!("{}", total.line(part));
    }
    for (part, _) in parts.iter().filter(|(_, total)| total.failed > 0) {
        println!("FAILED: part {part}; `make test PART={part}` runs it alone");
    }
    println!("{:>8.1} s  the whole run", whole.as_secs_f64());
}

/// The file a test is in: all but its own name.
fn file(test: &str) -> &str {
    test.rsplit_once("::").map_or(test, |(file, _)| file)
}

/// The part of the suite that a file belongs to: the first folder.
fn part(file: &str) -> &str {
    file.split("::").nth(1).unwrap_or(file)
}

fn lock() -> MutexGuard<'static, Vec<Run>> {
    RUNS.lock().unwrap_or_else(PoisonError::into_inner)
}
