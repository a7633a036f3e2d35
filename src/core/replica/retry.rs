//! Delay before a failed attempt is repeated.

use std::time::Duration;

/// Kind of failure. Each kind has its own first delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The object has changed since the read: HTTP 409. Read again at once.
    Conflict,
    /// The object does not exist any more.
    Gone,
    /// The API server limits requests.
    Throttled,
    /// The outcome is unknown, or the API server could not be reached.
    Transient,
    /// The API server denied the request.
    Denied,
    /// The API server rejected the object as invalid.
    Invalid,
}

/// Kind of work that is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Reconciles of grants by the leader.
    Controller,
    /// Removal of expired access.
    Expiry,
}

/// Longest delay for expired access: 1 s. Curfew promises that access is gone 2 s after its end, once the API server
/// answers.
const EXPIRY_CAP: Duration = Duration::from_secs(1);

/// Longest delay for other work: 30 s. One minute after an outage, every grant has been reconciled.
const CONTROLLER_CAP: Duration = Duration::from_secs(30);

/// Delay before retry number `attempt` (0 for the first retry), without jitter: doubles up to the cap of `lane`.
pub fn delay(class: Class, lane: Lane, attempt: u32) -> Duration {
    let first = match class {
        // The watch delivers the newer object within 25 ms (p99); no one notices 50 ms.
        Class::Conflict | Class::Gone => Duration::from_millis(50),
        Class::Transient => Duration::from_millis(100),
        Class::Throttled => Duration::from_millis(500),
        // People change rights and schemas by hand, which takes minutes.
        Class::Denied | Class::Invalid => Duration::from_secs(2),
    };
    let cap = match lane {
        Lane::Expiry => EXPIRY_CAP,
        Lane::Controller => CONTROLLER_CAP,
    };
    // 2^16 times the first delay exceeds every cap.
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
    fn delays_grow_to_the_cap_of_their_work() {
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
    fn expired_access_is_retried_within_1s_after_any_failure() {
        for class in CLASSES {
            assert!(
                delay(class, Lane::Expiry, u32::MAX) <= Duration::from_secs(1),
                "{class:?}"
            );
        }
    }
}
