//! Whether access may be given: what is known of the guards, and how old it is.

use std::time::Duration;

/// How long a proof counts. The self-test comes every minute; half of that on top lets one come late.
pub const VALIDITY: Duration = Duration::from_secs(90);

/// Whether the guards stand where access is to be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They do, and lately proved it.
    InForce,
    /// They do not; why, for people. What is asked meanwhile may be forged.
    Breached(String),
    /// Nobody could find out; why, for people.
    Unproven(String),
}

impl Standing {
    /// The answer to whoever has not asked: nothing may be given.
    pub fn unasked() -> Self {
        Self::Unproven("nobody has tried the admission guards yet".to_owned())
    }

    /// What is wrong with the guards.
    pub fn breach(&self) -> Option<&str> {
        match self {
            Self::InForce | Self::Unproven(_) => None,
            Self::Breached(why) => Some(why),
        }
    }
}

/// What one half of the self-test found, and how long ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What it found.
    pub standing: Standing,
    /// How long ago.
    pub age: Duration,
}

/// What both halves say together; `None`: there is no proof that still counts, and no breach either. A breach counts
/// until the opposite is proven, however old it is.
pub fn standing(specs: Option<&Evidence>, forgeries: Option<&Evidence>) -> Option<Standing> {
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
        .then_some(Standing::InForce)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(standing: Standing, seconds: u64) -> Evidence {
        Evidence {
            standing,
            age: Duration::from_secs(seconds),
        }
    }

    fn breached(why: &str) -> Standing {
        Standing::Breached(why.to_owned())
    }

    #[test]
    fn access_is_given_only_by_two_proofs_that_still_count() {
        use Standing::InForce;
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
