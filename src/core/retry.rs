//! How soon to try again what did not succeed.

use std::time::Duration;

/// What kind of failure it was; each has its own delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The object has changed since it was read: read it again at once.
    Conflict,
    /// The object is gone.
    Gone,
    /// The API server asks for patience.
    Throttled,
    /// The outcome is unknown or the server could not be reached.
    Transient,
    /// The API server refuses.
    Denied,
    /// The API server finds the object wrong.
    Invalid,
}

/// Who tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Convergence: everything about a grant.
    Controller,
    /// The end of access.
    Expiry,
}

/// Longest delay while access is overdue: with the promise that access is gone 2 s after its end once the API
/// server answers.
const EXPIRY_CAP: Duration = Duration::from_secs(1);

/// Longest delay otherwise: a minute after an outage everybody has been served.
const CONTROLLER_CAP: Duration = Duration::from_secs(30);

/// How long to wait before attempt `attempt` (0 for the first retry), without jitter.
pub fn delay(class: Class, lane: Lane, attempt: u32) -> Duration {
    let first = match class {
        // Long enough for the watch to deliver the newer object (p99 25 ms), short enough not to be felt.
        Class::Conflict | Class::Gone => Duration::from_millis(50),
        Class::Transient => Duration::from_millis(100),
        Class::Throttled => Duration::from_millis(500),
        // Rights and schemas change by hand, in minutes.
        Class::Denied | Class::Invalid => Duration::from_secs(2),
    };
    let cap = match lane {
        Lane::Expiry => EXPIRY_CAP,
        Lane::Controller => CONTROLLER_CAP,
    };
    // 2^16 times the first delay is beyond every cap.
    first.saturating_mul(1 << attempt.min(16)).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [Class; 6] = [
        Class::Conflict,
        Class::Gone,
        Class::Throttled,
        Class::Transient,
        Class::Denied,
        Class::Invalid,
    ];

    #[test]
    fn delays_grow_up_to_the_cap_of_their_lane() {
        for class in CLASSES {
            for (lane, cap) in [(Lane::Expiry, EXPIRY_CAP), (Lane::Controller, CONTROLLER_CAP)] {
                let delays: Vec<_> = (0..40).map(|attempt| delay(class, lane, attempt)).collect();
                assert!(delays.is_sorted(), "{class:?} {lane:?}: {delays:?}");
                assert_eq!(delays.last(), Some(&cap), "{class:?} {lane:?}");
                assert!(delays.iter().all(|delay| !delay.is_zero()));
            }
        }
    }

    #[test]
    fn overdue_access_is_tried_again_within_a_second_whatever_failed() {
        for class in CLASSES {
            assert!(
                delay(class, Lane::Expiry, u32::MAX) <= Duration::from_secs(1),
                "{class:?}"
            );
        }
    }
}
