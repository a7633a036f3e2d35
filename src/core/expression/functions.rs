//! Literals that functions take: read once, when an expression is parsed.

use jiff::SignedDuration;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use regex::RegexBuilder;

use super::node::Pattern;

/// Bytes a compiled pattern may take, and the steps that one byte of text then costs. In the worst case a pattern
/// is tried at each byte with everything it is compiled to; what grows with its size is what a match may cost, and
/// a pattern of nested repetitions is large, not slow. `\w` with all of Unicode takes some 30 KiB.
const PATTERN_SIZES: [(usize, usize); 3] = [(4 * 1024, 1), (16 * 1024, 4), (64 * 1024, 16)];

/// Compiles a pattern, or says why it is none.
pub(super) fn pattern(text: &str) -> Result<Pattern, String> {
    let mut refusal = String::new();
    for (size, weight) in PATTERN_SIZES {
        match RegexBuilder::new(text).size_limit(size).build() {
            Ok(regex) => return Ok(Pattern { regex, weight }),
            Err(regex::Error::CompiledTooBig(_)) => {
                refusal = format!("this pattern is too large: compiled it takes more than {size} bytes");
            }
            // The error repeats the pattern over several lines; its last says what is wrong.
            Err(error) => {
                let error = error.to_string();
                let said = error
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ");
                return Err(format!("this is not a regular expression (RE2 syntax): {said}"));
            }
        }
    }
    Err(refusal)
}

/// Reads a duration as CEL writes it, `1h30m` or `90s`.
pub(super) fn literal_duration(text: &str) -> Option<SignedDuration> {
    // jiff reads more than CEL does: words, ISO 8601.
    let plain = text
        .chars()
        .all(|character| character.is_ascii_digit() || ".-hmsun".contains(character));
    plain.then(|| text.parse().ok()).flatten()
}

/// The time zone of an IANA name.
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
    fn patterns_cost_by_their_size() {
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
    fn durations_are_read_as_cel_writes_them() {
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
