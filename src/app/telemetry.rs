//! Logs: one line for each event, to standard error.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people, in colour on a terminal.
    Text,
    /// One JSON object on each line: `timestamp`, `level`, `target`, `fields` (with `message`) and `span`. The span
    /// names the object that the line is about: namespace, grant and uid, or the policy.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error(
        "log filter {filter:?}: {problem}; give levels (error, warn, info, debug, trace or off), for everything \
         or for one target: \"info\", \"warn,curfew=debug\""
    )]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Logging was set up before in this process.
    #[error("logging is set up already")]
    AlreadySetUp,
}

/// Starts to log to standard error. Timestamps are RFC 3339 in UTC with microseconds.
///
/// # Errors
/// The filter cannot be read, or the function was called before in this process.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let colour = std::io::stderr().is_terminal();
    subscriber(format, parse_filter(filter)?, colour, std::io::stderr)
        .try_init()
        .map_err(|_| TelemetryError::AlreadySetUp)
}

/// Parses a filter, more strictly than [`EnvFilter`], which reads a word that is no level as a target. The filter `inof`
/// would switch all logs of this program off without a word. Here a target needs a level. Only span directives
/// (`[span]`) are parsed by [`EnvFilter`] alone.
fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let refused = |problem: String| TelemetryError::Filter {
        filter: filter.to_owned(),
        problem,
    };
    // `EnvFilter` slices an untrimmed directive by the offsets of the trimmed one (0.3.23), which panics within a
    // wide character.
    let directives: Vec<&str> = filter.split(',').map(str::trim).collect();
    if !filter.contains('[')
        && let Some(word) = directives
            .iter()
            .find(|word| !word.contains('=') && word.parse::<LevelFilter>().is_err())
    {
        return Err(refused(format!("{word:?} is not a level")));
    }
    EnvFilter::try_new(directives.join(",")).map_err(|error| refused(error.to_string()))
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colour: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // The default clock of the crate writes RFC 3339 in UTC with microseconds.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_writer(writer);
    match format {
        LogFormat::Text => Box::new(lines.finish()),
        LogFormat::Json => Box::new(
            lines
                .json()
                .with_current_span(true)
                .with_span_list(false)
                .finish(),
        ),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::sync::Notify;

    use crate::app::telemetry::{LogFormat, parse_filter, subscriber};

    /// A log in memory. It notifies at each write.
    #[derive(Clone)]
    pub struct Log {
        text: Arc<Mutex<Vec<u8>>>,
        written: Arc<Notify>,
    }

    impl Log {
        pub fn new(written: Arc<Notify>) -> Self {
            Self {
                text: Arc::default(),
                written,
            }
        }

        /// Writes JSON to this log.
        pub fn subscriber(&self, filter: &str) -> impl tracing::Subscriber + Send + Sync + use<> {
            let writer = self.clone();
            subscriber(LogFormat::Json, parse_filter(filter).unwrap(), false, move || {
                writer.clone()
            })
        }

        pub fn text(&self) -> String {
            String::from_utf8(self.text.lock().clone()).unwrap()
        }
    }

    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let length = self.text.lock().write(text)?;
            self.written.notify_one();
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::app::telemetry::testing::Log;

    fn written(format: LogFormat, filter: &str, talk: impl FnOnce()) -> String {
        let log = Log::new(Arc::default());
        let writer = log.clone();
        let subscriber = subscriber(format, parse_filter(filter).unwrap(), false, move || {
            writer.clone()
        });
        tracing::subscriber::with_default(subscriber, talk);
        log.text()
    }

    #[test]
    fn a_json_line_keeps_fields_and_span_apart() {
        let text = written(LogFormat::Json, "info", || {
            let _span = tracing::info_span!("reconcile", grant = "pay-123").entered();
            tracing::info!(lag_ms = 3, "ended\non time");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "curfew::app::telemetry::tests");
        assert_eq!(line["fields"]["message"], "ended\non time");
        assert_eq!(line["fields"]["lag_ms"], 3);
        assert_eq!(line["span"]["name"], "reconcile");
        assert_eq!(line["span"]["grant"], "pay-123");
        assert!(line.get("spans").is_none(), "{line}");
    }

    #[test]
    fn timestamps_are_rfc_3339_in_utc_with_microseconds() {
        let text = written(LogFormat::Json, "info", || tracing::info!("now"));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let stamp = line["timestamp"].as_str().unwrap();
        let (seconds, fraction) = stamp.split_once('.').unwrap();
        assert_eq!((seconds.len(), fraction.len()), (19, 7), "{stamp}");
        assert!(fraction.ends_with('Z'), "{stamp}");
        let age = jiff::Timestamp::now() - stamp.parse::<jiff::Timestamp>().unwrap();
        assert!(age.get_seconds() < 60, "{stamp}");
    }

    #[test]
    fn text_has_no_colour_outside_a_terminal() {
        let text = written(LogFormat::Text, "info", || {
            let _span = tracing::info_span!("reconcile", grant = "pay-123").entered();
            tracing::warn!("late");
        });
        assert!(text.contains(r#" WARN reconcile{grant="pay-123"}: "#), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn the_filter_selects_the_lines() {
        let talk = || {
            tracing::debug!("ours");
            tracing::debug!(target: "kube", "theirs");
            tracing::warn!(target: "kube", "warning");
        };
        let text = written(LogFormat::Text, "warn, curfew=debug", talk);
        assert!(text.contains("ours") && text.contains("warning"), "{text}");
        assert!(!text.contains("theirs"), "{text}");
        assert_eq!(written(LogFormat::Text, "off", talk), "");
    }

    #[test]
    fn the_error_of_a_bad_filter_quotes_it_and_gives_an_example() {
        for filter in [
            "inof",
            "info,kube",
            "curfew=loud",
            "=info=",
            "é",
            "[grant",
            " [é]x=y",
        ] {
            let error = parse_filter(filter).unwrap_err().to_string();
            assert!(error.contains(&format!("{filter:?}")), "{error}");
            assert!(error.contains("\"warn,curfew=debug\""), "{error}");
        }
    }

    #[test]
    fn span_directives_are_accepted() {
        for filter in ["[grant]=debug", "info,curfew[grant{key=\"prod/pay-123\"}]=trace"] {
            parse_filter(filter).unwrap();
        }
    }
}
