//! Output of the demo on stdout.
//!
//! No function here fails: the demo must clean up even if nobody reads its output any more (`make demo | head`).

use std::io::{IsTerminal as _, Write as _};
use std::pin::pin;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Interval at which a line of progress is redrawn on a terminal.
const REDRAW: Duration = Duration::from_millis(100);
/// Interval at which progress is printed where no line can be redrawn.
const RETELL: Duration = Duration::from_secs(10);
/// Width of the bar of a countdown, in characters.
const CELLS: u32 = 40;

/// Printer of everything that the demo shows.
pub struct Screen {
    /// Whether stdout is a terminal, where lines can be redrawn.
    terminal: bool,
    /// Whether to print colours.
    colour: bool,
    /// Number of the current step; 0 before the first.
    step: usize,
    /// Whether the cursor is at the end of a line that will be redrawn.
    drawing: bool,
}

impl Screen {
    /// A printer to stdout. It uses colours if stdout is a terminal and `NO_COLOR` is unset or empty.
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            terminal,
            colour: terminal && !no_colour,
            step: 0,
            drawing: false,
        }
    }

    /// Prints the title of the demo.
    pub fn title(&mut self, text: &str) {
        let text = self.paint("1", text);
        self.line(&text);
    }

    /// Prints the heading of the next step, with its number.
    pub fn step(&mut self, text: &str) {
        self.step += 1;
        self.heading(&format!("{}. {text}", self.step));
    }

    /// Prints a heading without a number.
    pub fn heading(&mut self, text: &str) {
        self.blank();
        let text = self.paint("1", text);
        self.line(&text);
    }

    /// Prints an explanation.
    pub fn say(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&format!("   {line}"));
        }
    }

    /// Prints a command as a person types it, after the name of the person and a `$`.
    pub fn command(&mut self, who: &str, command: &str) {
        let command = self.paint("36", &format!("{who}$ {command}"));
        self.line(&format!("   {command}"));
    }

    /// Prints the output of a command or the content of a file.
    pub fn answer(&mut self, text: &str) {
        for line in text.lines() {
            let line = self.paint("2", &format!("| {line}"));
            self.line(&format!("     {line}"));
        }
    }

    /// Prints the result of a claim.
    pub fn verdict(&mut self, proven: bool, claim: &str, observed: &str) {
        let observed = self.paint("2", &format!("({observed})"));
        self.row(Some(proven), &format!("{claim} {observed}"));
    }

    /// Prints a row of the table of claims. `None` means that the claim was not checked.
    pub fn row(&mut self, proven: Option<bool>, text: &str) {
        let mark = match proven {
            None => "-".to_owned(),
            Some(true) => self.paint("32", "✓"),
            Some(false) => self.paint("31", "✗"),
        };
        self.line(&format!(" {mark} {text}"));
    }

    /// Prints the last line of a demo that succeeded.
    pub fn success(&mut self, text: &str) {
        let text = self.paint("1;32", text);
        self.line(&text);
    }

    /// Prints an error.
    pub fn failure(&mut self, text: &str) {
        let text = self.paint("1;31", text);
        self.line(&text);
    }

    /// Prints an empty line.
    pub fn blank(&mut self) {
        self.line("");
    }

    /// Shows the time while `work` runs, and prints how long `work` took.
    pub async fn during<T>(
        &mut self,
        what: &str,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        let mut work = pin!(work);
        let period = if self.terminal { REDRAW } else { RETELL };
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                _ = tick.tick() => self.draw(&format!("   {what} ... {:.0} s", began.elapsed().as_secs_f64())),
            }
        };
        let took = began.elapsed().as_secs_f64();
        self.draw_last(&format!(
            "   {what}: {} {took:.1} s",
            if outcome.is_ok() { "took" } else { "failed after" }
        ));
        outcome
    }

    /// Shows the time left until `end` while `work` runs.
    pub async fn counting_down<T>(
        &mut self,
        end: Timestamp,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let total = left_until(end);
        let mut work = pin!(work);
        loop {
            let left = left_until(end);
            self.draw(&format!(
                "   [{}] {:4.1} s left",
                bar(left, total),
                left.as_secs_f64()
            ));
            let pause = if self.terminal {
                REDRAW
            } else {
                // Prints at each multiple of 5 s before the end, and at the end.
                let until_multiple = left.as_secs_f64() % 5.0;
                Duration::from_secs_f64(if until_multiple < 0.05 {
                    5.0
                } else {
                    until_multiple
                })
            };
            tokio::select! {
                outcome = &mut work => {
                    if self.drawing {
                        self.draw_last(&format!("   [{}]  0.0 s left", bar(Duration::ZERO, total)));
                    }
                    return outcome;
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Prints a line that the next [`draw`](Self::draw) replaces. Without a terminal the line stays.
    fn draw(&mut self, text: &str) {
        if self.terminal {
            put(&format!("\r\x1b[K{text}"));
            self.drawing = true;
        } else {
            self.line(text);
        }
    }

    /// Replaces the drawn line for the last time. This line stays.
    fn draw_last(&mut self, text: &str) {
        if self.drawing {
            self.drawing = false;
            put("\r\x1b[K");
        }
        self.line(text);
    }

    fn line(&mut self, text: &str) {
        let end = if self.drawing { "\n" } else { "" };
        self.drawing = false;
        put(&format!("{end}{}\n", text.trim_end()));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .unwrap_or_default();
}

fn left_until(end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}

fn bar(left: Duration, total: Duration) -> String {
    let full = (1..=CELLS).filter(|cell| total.mul_f64(f64::from(*cell) / f64::from(CELLS)) <= left);
    let full = full.count();
    let cells = usize::try_from(CELLS).unwrap_or_default();
    format!("{}{}", "#".repeat(full), ".".repeat(cells - full))
}
