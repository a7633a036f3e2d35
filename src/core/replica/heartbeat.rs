//! Heartbeat Leases: operator and sweep monitor each other. Each one ends access when the other is down, so a silence
//! of either raises an alert.

use jiff::{SignedDuration, Timestamp};

/// Name of the Lease that the operator renews while it runs. In the operator's namespace.
pub const OPERATOR: &str = "curfew-operator-heartbeat";

/// Name of the Lease that the sweep renews after each successful round. In the operator's namespace.
pub const SWEEP: &str = "curfew-sweep";

/// Longest accepted silence of the operator. The operator renews every 30 s: this is three missed renewals and a
/// restart.
pub const OPERATOR_SILENCE: SignedDuration = SignedDuration::from_mins(2);

/// Longest accepted silence of the sweep. The sweep runs every minute; a `CronJob` can start a pod seconds late or skip
/// a run.
pub const SWEEP_SILENCE: SignedDuration = SignedDuration::from_mins(5);

/// Time since the last renewal at `last`; if there is no renewal (`None`), time since the monitor started at `since`.
/// Negative if the clocks differ.
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
    fn silence_counts_from_the_last_renewal_or_the_monitor_start() {
        let (since, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:10:00Z"));
        for (last, minutes) in [
            (None, 10),
            (Some(at("2026-01-01T00:09:00Z")), 1),
            // An operator that starts sees at once that the sweep has been silent for a long time.
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
