//! Guard state: the result of the self-test, and how long it is valid.

use std::time::Duration;

use crate::core::guard::state::GuardState;

/// How long a proof is valid. The self-test runs every minute, and may be half a minute late.
pub const VALIDITY: Duration = Duration::from_secs(90);

/// Result of one half of the self-test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The guard state that the test found.
    pub standing: GuardState,
    /// Time since the test.
    pub age: Duration,
}

/// Guard state of both halves of the self-test together: the installed specs and the forgeries.
///
/// `None` if there is no breach, and a half has no valid proof. A breach stays valid at any age, until the same half of
/// the self-test finds another state.
pub fn standing(specs: Option<&Evidence>, forgeries: Option<&Evidence>) -> Option<GuardState> {
    let halves = [specs, forgeries];
    let breach = halves
        .into_iter()
        .flatten()
        .find(|evidence| evidence.standing.breach().is_some());
    if let Some(breach) = breach {
        return Some(breach.standing.clone());
    }
    halves
        .into_iter()
        .all(|half| half.is_some_and(|evidence| evidence.age <= VALIDITY))
        .then_some(GuardState::InForce)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::guard::state::GuardState;

    fn evidence(standing: GuardState, seconds: u64) -> Evidence {
        Evidence {
            standing,
            age: Duration::from_secs(seconds),
        }
    }

    fn breached(why: &str) -> GuardState {
        GuardState::Breached(why.to_owned())
    }

    #[test]
    fn guards_are_in_force_only_with_two_valid_proofs() {
        use GuardState::InForce;
        let table = [
            (
                Some(evidence(InForce, 0)),
                Some(evidence(InForce, 0)),
                Some(InForce),
            ),
            (
                Some(evidence(InForce, 90)),
                Some(evidence(InForce, 90)),
                Some(InForce),
            ),
            (Some(evidence(InForce, 91)), Some(evidence(InForce, 0)), None),
            (Some(evidence(InForce, 0)), Some(evidence(InForce, 91)), None),
            (None, Some(evidence(InForce, 0)), None),
            (Some(evidence(InForce, 0)), None, None),
            (None, None, None),
            (
                Some(evidence(breached("a"), 0)),
                Some(evidence(InForce, 0)),
                Some(breached("a")),
            ),
            (
                Some(evidence(InForce, 0)),
                Some(evidence(breached("b"), 0)),
                Some(breached("b")),
            ),
            (Some(evidence(breached("a"), 900)), None, Some(breached("a"))),
            (None, Some(evidence(breached("b"), 900)), Some(breached("b"))),
            (
                Some(evidence(breached("a"), 0)),
                Some(evidence(breached("b"), 0)),
                Some(breached("a")),
            ),
        ];
        for (specs, forgeries, expected) in table {
            assert_eq!(
                standing(specs.as_ref(), forgeries.as_ref()),
                expected,
                "{specs:?} {forgeries:?}"
            );
        }
    }
}
