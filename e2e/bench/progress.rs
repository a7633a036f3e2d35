//! Progress messages on stderr. Stdout has only the table.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Printer of progress, with the seconds since the start before each line.
#[derive(Debug)]
pub struct Teller {
    began: Instant,
    phase: usize,
    phases: usize,
}

impl Teller {
    /// A printer that counts to `phases`. The clock starts now.
    pub fn new(phases: usize) -> Self {
        Self {
            began: Instant::now(),
            phase: 0,
            phases,
        }
    }

    /// Prints the start of the next phase.
    pub fn phase(&mut self, what: impl Display) {
        self.phase += 1;
        self.line(&format!("[{}/{}] {what}", self.phase, self.phases));
    }

    /// Prints progress within a phase.
    pub fn step(&self, what: impl Display) {
        self.line(&format!("        {what}"));
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    #[expect(clippy::print_stderr, reason = "stdout has only the table")]
    fn line(&self, what: &str) {
        eprintln!("{:7.1} s  {what}", self.began.elapsed().as_secs_f64());
    }
}
