//! Logs: one line for each event, to standard error.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people; in colour on a terminal.
    Text,
    /// One JSON object on each line: `timestamp`, `level`, `target`, `fields` (with `message`) and `span`, which
    /// names the grant.
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
    /// Something else in this process has set up logging already.
    #[error("logging is set up already")]
    AlreadySetUp,
}

/// Sends what `filter` admits to standard error. Timestamps are RFC 3339 in UTC with microseconds.
///
/// Once per process.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let colour = std::io::stderr().is_terminal();
    subscriber(format, admitted_by(filter)?, colour, std::io::stderr)
        .try_init()
        .map_err(|_| TelemetryError::AlreadySetUp)
}

/// [`EnvFilter`] takes a word that is no level for a target: `inof` would switch all of our logs off and say
/// nothing. Here a target needs its level, except within span directives (`[span]`), which are read as they are.
fn admitted_by(filter: &str) -> Result<EnvFilter, TelemetryError> {
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
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, filter: &str, talk: impl FnOnce()) -> String {
        let paper = Paper::default();
        let writer = paper.clone();
        let subscriber = subscriber(format, admitted_by(filter).unwrap(), false, move || {
            writer.clone()
        });
        tracing::subscriber::with_default(subscriber, talk);
        let text = paper.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_json_line_names_the_grant_and_keeps_fields_apart() {
        let text = written(LogFormat::Json, "info", || {
            let _pass = tracing::info_span!("grant", key = "prod/pay-123").entered();
            tracing::info!(lag_ms = 3, "ended\non time");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "curfew::app::telemetry::tests");
        assert_eq!(line["fields"]["message"], "ended\non time");
        assert_eq!(line["fields"]["lag_ms"], 3);
        assert_eq!(line["span"]["name"], "grant");
        assert_eq!(line["span"]["key"], "prod/pay-123");
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
    fn text_is_without_colour_where_nobody_sees_it() {
        let text = written(LogFormat::Text, "info", || {
            let _pass = tracing::info_span!("grant", key = "prod/pay-123").entered();
            tracing::warn!("late");
        });
        assert!(text.contains(r#" WARN grant{key="prod/pay-123"}: "#), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn only_what_the_filter_admits_is_written() {
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
    fn a_bad_filter_is_named_with_an_example() {
        for filter in [
            "inof",
            "info,kube",
            "curfew=loud",
            "=info=",
            "é",
            "[grant",
            " [é]x=y",
        ] {
            let error = admitted_by(filter).unwrap_err().to_string();
            assert!(error.contains(&format!("{filter:?}")), "{error}");
            assert!(error.contains("\"warn,curfew=debug\""), "{error}");
        }
    }

    #[test]
    fn span_directives_are_admitted() {
        for filter in ["[grant]=debug", "info,curfew[grant{key=\"prod/pay-123\"}]=trace"] {
            admitted_by(filter).unwrap();
        }
    }
}
