//! How long each test took, so that what makes the suite long is known.
#![allow(
    clippy::print_stdout,
    reason = "how long it took, for whoever reads the suite's output"
)]

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many of the slowest tests are named at the end.
const SLOWEST: usize = 20;

static TOOK: Mutex<Vec<(&'static str, Duration)>> = Mutex::new(Vec::new());

/// Says how long a test took, and remembers it.
pub fn note(test: &'static str, took: Duration) {
    println!("took {:.1} s: {test}", took.as_secs_f64());
    lock().push((test, took));
}

/// Says which tests took longest, and how long the tests of each part took together; some of them went side by side.
pub fn sum_up() {
    let mut took = lock().clone();
    took.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
    let mut parts = BTreeMap::<&str, (usize, Duration)>::new();
    for (test, took) in &took {
        let part = parts.entry(part(test)).or_default();
        *part = (part.0 + 1, part.1 + *took);
    }
    println!("\nthe longest tests:");
    for (test, took) in took.iter().take(SLOWEST) {
        println!("{:>8.1} s  {test}", took.as_secs_f64());
    }
    println!("all of them, by part:");
    for (part, (count, took)) in parts {
        println!("{:>8.1} s  {part} ({count})", took.as_secs_f64());
    }
}

/// The file a test is in.
fn part(test: &str) -> &str {
    test.rsplit_once("::").map_or(test, |(part, _)| part)
}

fn lock() -> MutexGuard<'static, Vec<(&'static str, Duration)>> {
    TOOK.lock().unwrap_or_else(PoisonError::into_inner)
}
