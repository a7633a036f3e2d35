//! Access durations, parsed.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::api::DurationText;

/// A duration of whole seconds, from 1 s to 768 h (32 days). This is long enough for any temporary access,
/// and short enough that adding two of them never overflows a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessDuration(u32);

/// Why a text is not a [`AccessDuration`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessDurationError {
    /// Not of the form `1h30m`.
    #[error("{0:?} is not a duration: write hours, minutes and seconds, such as 8h, 1h30m or 90s")]
    Malformed(String),
    /// Below 1 s or above 768 h.
    #[error("{0} is out of range: a duration lies between 1s and 768h")]
    OutOfRange(String),
}

impl AccessDuration {
    /// The longest duration, 768 h: the default maximum lease of `HashiCorp` Vault, which many people know.
    pub const MAX: Self = Self(768 * 3600);

    /// A duration of this many seconds; `None` if it is out of bounds.
    pub const fn from_seconds(seconds: u32) -> Option<Self> {
        if seconds >= 1 && seconds <= Self::MAX.0 {
            Some(Self(seconds))
        } else {
            None
        }
    }

    /// Parses a text such as `1h30m`. A unit can occur more than once, as in Go.
    ///
    /// # Errors
    /// Returns an error if the form is wrong, or the sum is below 1 s or above 768 h.
    pub fn parse(text: &str) -> Result<Self, AccessDurationError> {
        let malformed = || AccessDurationError::Malformed(text.to_owned());
        let out_of_range = || AccessDurationError::OutOfRange(text.to_owned());
        let mut total: u64 = 0;
        let mut number: Option<u64> = None;
        for character in text.chars() {
            if let Some(digit) = character.to_digit(10) {
                let so_far = number.unwrap_or(0).checked_mul(10).ok_or_else(out_of_range)?;
                number = Some(so_far.checked_add(u64::from(digit)).ok_or_else(out_of_range)?);
                continue;
            }
            let unit: u64 = match character {
                'h' => 3600,
                'm' => 60,
                's' => 1,
                _ => return Err(malformed()),
            };
            let part = number
                .take()
                .ok_or_else(malformed)?
                .checked_mul(unit)
                .ok_or_else(out_of_range)?;
            total = total.checked_add(part).ok_or_else(out_of_range)?;
        }
        if number.is_some() || text.is_empty() {
            return Err(malformed());
        }
        u32::try_from(total)
            .ok()
            .and_then(Self::from_seconds)
            .ok_or_else(out_of_range)
    }

    /// Whole seconds, 1 to 2,764,800.
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// `from` plus this duration, at most [`Timestamp::MAX`].
    pub fn after(self, from: Timestamp) -> Timestamp {
        from.checked_add(SignedDuration::from_secs(i64::from(self.0)))
            .unwrap_or(Timestamp::MAX)
    }
}

impl TryFrom<&DurationText> for AccessDuration {
    type Error = AccessDurationError;

    fn try_from(text: &DurationText) -> Result<Self, AccessDurationError> {
        Self::parse(&text.0)
    }
}

impl fmt::Display for AccessDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes, seconds) = (self.0 / 3600, self.0 % 3600 / 60, self.0 % 60);
        for (number, unit) in [(hours, 'h'), (minutes, 'm'), (seconds, 's')] {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_parsed_as_in_go() {
        for (text, seconds) in [
            ("1s", 1),
            ("90s", 90),
            ("1h30m", 5400),
            ("1m1m", 120),
            ("768h", 2_764_800),
            ("00001h", 3600),
        ] {
            assert_eq!(
                AccessDuration::parse(text).map(AccessDuration::seconds),
                Ok(seconds),
                "{text}"
            );
        }
    }

    #[test]
    fn a_malformed_duration_is_refused_with_the_accepted_form() {
        for text in ["", "5", "h", "1d", "-1h", "1.5h", "1h ", " 1h", "1H", "P1D", "١h"] {
            let error = AccessDuration::parse(text).unwrap_err();
            assert_eq!(error, AccessDurationError::Malformed(text.to_owned()));
            assert!(error.to_string().contains("1h30m"), "{error}");
        }
    }

    #[test]
    fn a_duration_out_of_bounds_is_refused_without_overflow() {
        for text in [
            "0s",
            "0h0m0s",
            "769h",
            "99999h",
            "18446744073709551615h",
            "99999999999999999999999s",
        ] {
            assert_eq!(
                AccessDuration::parse(text),
                Err(AccessDurationError::OutOfRange(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn a_duration_prints_as_the_shortest_equal_text() {
        for (text, printed) in [("90s", "1m30s"), ("3600s", "1h"), ("1h0m5s", "1h5s")] {
            assert_eq!(
                AccessDuration::parse(text).map(|span| span.to_string()),
                Ok(printed.to_owned())
            );
        }
    }

    #[test]
    fn adding_a_duration_never_overflows() {
        assert_eq!(AccessDuration::MAX.after(Timestamp::MAX), Timestamp::MAX);
    }
}
