//! Literal arguments of functions, read once when an expression is parsed.

use jiff::SignedDuration;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use regex::RegexBuilder;

use crate::core::expression::node::Pattern;

/// Maximum size of a compiled pattern in bytes, and the steps that one byte of text costs at that size. In the worst
/// case the whole compiled pattern is tried at each byte, so the cost of a match grows with the size. A pattern with
/// nested repetitions is large, not slow. `\w` with all of Unicode takes about 30 KiB.
const PATTERN_SIZES: [(usize, usize); 3] = [(4 * 1024, 1), (16 * 1024, 4), (64 * 1024, 16)];

/// Compiled pattern; the error is a message for people.
pub(super) fn pattern(text: &str) -> Result<Pattern, String> {
    let mut too_large = String::new();
    for (size, weight) in PATTERN_SIZES {
        match RegexBuilder::new(text).size_limit(size).build() {
            Ok(regex) => return Ok(Pattern { regex, weight }),
            Err(regex::Error::CompiledTooBig(_)) => {
                too_large = format!("this pattern is too large: compiled it takes more than {size} bytes");
            }
            // The error repeats the pattern over several lines; the last line names the mistake.
            Err(error) => {
                let error = error.to_string();
                let reason = error
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ");
                return Err(format!("this is not a regular expression (RE2 syntax): {reason}"));
            }
        }
    }
    Err(too_large)
}

/// Duration in the syntax of CEL, such as `1h30m` or `90s`.
pub(super) fn literal_duration(text: &str) -> Option<SignedDuration> {
    // jiff also accepts words and ISO 8601, which CEL does not.
    let plain = text
        .chars()
        .all(|character| character.is_ascii_digit() || ".-hmsun".contains(character));
    plain.then(|| text.parse().ok()).flatten()
}

/// Time zone of an IANA name.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled()
        .get(name)
        .ok()
        .filter(|zone| !zone.is_unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_pattern_costs_more_steps() {
        for (text, weight) in [
            ("PAY-[0-9]+", 1),
            ("^[A-Z]+-[0-9]+ .*$", 1),
            ("(a+)+$", 1),
            (r"\d+", 4),
            (r"\w+", 16),
        ] {
            assert_eq!(pattern(text).unwrap().weight, weight, "{text}");
        }
        assert!(pattern(r"\w{100}").unwrap_err().contains("too large"));
    }

    #[test]
    fn durations_have_the_syntax_of_cel() {
        for (text, milliseconds) in [
            ("1h30m", 5_400_000),
            ("90s", 90_000),
            ("1.5h", 5_400_000),
            ("-1m", -60_000),
            ("0s", 0),
            ("1500ms", 1_500),
        ] {
            let read = literal_duration(text).map(|duration| duration.as_millis());
            assert_eq!(read, Some(milliseconds), "{text}");
        }
        for text in [
            "",
            "1",
            "h",
            "1 h",
            "1d",
            "1 hour",
            "PT1H",
            "1h ago",
            "99999999999999999999h",
        ] {
            assert_eq!(literal_duration(text), None, "{text}");
        }
    }
}
