//! Microseconds, and adding without overflow.

use jiff::{Timestamp, TimestampArithmetic};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// A time as status fields store it: cut to whole microseconds, so that a computed time equals the stored one.
pub fn micro_time(at: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at))
}

/// `by` after `from`; the latest possible time if that is out of range.
pub(crate) fn later(from: Timestamp, by: impl Into<TimestampArithmetic>) -> Timestamp {
    from.saturating_add(by).unwrap_or(Timestamp::MAX)
}
