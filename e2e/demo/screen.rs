//! What people see.
//!
//! Nothing here fails: whoever stops reading (`make demo | head`) must not keep the demo from tidying up.

use std::io::{IsTerminal as _, Write as _};
use std::pin::pin;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// How often a line that shows progress is drawn anew on a terminal.
const REDRAW: Duration = Duration::from_millis(100);
/// How often progress is told where nothing can be drawn anew.
const RETELL: Duration = Duration::from_secs(10);
/// Cells of the bar of a countdown.
const CELLS: u32 = 40;

/// Where everything is printed.
pub struct Screen {
    /// Whether lines can be drawn anew.
    terminal: bool,
    /// Whether to use colour.
    colour: bool,
    /// Number of the step that is shown.
    step: usize,
    /// Whether the cursor stands behind a line that will be drawn anew.
    drawing: bool,
}

impl Screen {
    /// Standard output; in colour if it is a terminal and `NO_COLOR` is not set.
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

    /// The name of the play.
    pub fn title(&mut self, text: &str) {
        let text = self.paint("1", text);
        self.line(&text);
    }

    /// The beginning of the next step.
    pub fn step(&mut self, text: &str) {
        self.step += 1;
        self.heading(&format!("{}. {text}", self.step));
    }

    /// A heading without a number.
    pub fn heading(&mut self, text: &str) {
        self.blank();
        let text = self.paint("1", text);
        self.line(&text);
    }

    /// What is going on, for people.
    pub fn say(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&format!("   {line}"));
        }
    }

    /// A command as somebody types it.
    pub fn command(&mut self, who: &str, command: &str) {
        let command = self.paint("36", &format!("{who}$ {command}"));
        self.line(&format!("   {command}"));
    }

    /// What a command answered, or a file holds.
    pub fn answer(&mut self, text: &str) {
        for line in text.lines() {
            let line = self.paint("2", &format!("| {line}"));
            self.line(&format!("     {line}"));
        }
    }

    /// Whether a claim held.
    pub fn verdict(&mut self, held: bool, claim: &str, seen: &str) {
        let seen = self.paint("2", &format!("({seen})"));
        self.row(Some(held), &format!("{claim} {seen}"));
    }

    /// A row of the table of claims; `None` for one that was not reached.
    pub fn row(&mut self, held: Option<bool>, text: &str) {
        let mark = match held {
            None => "-".to_owned(),
            Some(true) => self.paint("32", "✓"),
            Some(false) => self.paint("31", "✗"),
        };
        self.line(&format!(" {mark} {text}"));
    }

    /// The end, if it is a good one.
    pub fn success(&mut self, text: &str) {
        let text = self.paint("1;32", text);
        self.line(&text);
    }

    /// What went wrong.
    pub fn failure(&mut self, text: &str) {
        let text = self.paint("1;31", text);
        self.line(&text);
    }

    /// An empty line.
    pub fn blank(&mut self) {
        self.line("");
    }

    /// Shows that `work` goes on, and how long it took.
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

    /// Shows the time that is left until `end` while `work` goes on.
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
                // The next full five seconds, and once at the end.
                let past = left.as_secs_f64() % 5.0;
                Duration::from_secs_f64(if past < 0.05 { 5.0 } else { past })
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

    /// A line that the next one replaces, on a terminal; elsewhere a line like any other.
    fn draw(&mut self, text: &str) {
        if self.terminal {
            put(&format!("\r\x1b[K{text}"));
            self.drawing = true;
        } else {
            self.line(text);
        }
    }

    /// The last of them.
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
