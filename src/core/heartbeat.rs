//! Heartbeats: operator and sweep look after each other. Either one's silence is an alert, since each is what holds
//! when the other does not.

use jiff::{SignedDuration, Timestamp};

/// Name of the Lease, in the operator's namespace, that the operator renews while it lives.
pub const OPERATOR: &str = "curfew-operator-heartbeat";

/// Name of the Lease there that the sweep renews after each round that has succeeded.
pub const SWEEP: &str = "curfew-sweep";

/// How long the operator may be silent: it beats every 30 s, so this is three beats missed, and a restart.
pub const OPERATOR_SILENCE: SignedDuration = SignedDuration::from_mins(2);

/// How long the sweep may be silent: it goes every minute, and a `CronJob` starts its pods seconds late, or skips one.
pub const SWEEP_SILENCE: SignedDuration = SignedDuration::from_mins(5);

/// How long somebody has been silent who was heard `last` (never: `None`), as somebody sees it who listens since
/// `since`. Negative where the clocks differ.
pub fn silence(last: Option<Timestamp>, since: Timestamp, now: Timestamp) -> SignedDuration {
    now.duration_since(last.unwrap_or(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn silence_is_counted_from_the_last_beat_or_from_when_somebody_listens() {
        let (since, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:10:00Z"));
        for (last, minutes) in [
            (None, 10),
            (Some(at("2026-01-01T00:09:00Z")), 1),
            // An operator that starts hears at once that the sweep has been silent for long.
            (Some(at("2025-12-31T23:10:00Z")), 60),
            (Some(at("2026-01-01T00:11:00Z")), -1),
        ] {
            assert_eq!(
                silence(last, since, now),
                SignedDuration::from_mins(minutes),
                "{last:?}"
            );
        }
    }
}
