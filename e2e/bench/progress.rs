//! What goes on, to stderr: the table alone goes to stdout.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Tells what goes on.
#[derive(Debug)]
pub struct Teller {
    began: Instant,
    phase: usize,
    phases: usize,
}

impl Teller {
    /// Of so many phases.
    pub fn new(phases: usize) -> Self {
        Self {
            began: Instant::now(),
            phase: 0,
            phases,
        }
    }

    /// The next phase begins.
    pub fn phase(&mut self, what: impl Display) {
        self.phase += 1;
        self.line(&format!("[{}/{}] {what}", self.phase, self.phases));
    }

    /// Something within a phase.
    pub fn step(&self, what: impl Display) {
        self.line(&format!("        {what}"));
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    #[expect(clippy::print_stderr, reason = "progress")]
    fn line(&self, what: &str) {
        eprintln!("{:7.1} s  {what}", self.began.elapsed().as_secs_f64());
    }
}
