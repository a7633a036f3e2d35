//! State of the guards: in force, breached, unproven.

/// State of the guards in the namespace of the access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardState {
    /// The guards are proven to be in force.
    InForce,
    /// The guards are not in force. Requests and decisions may be forged. The text says why, for people.
    Breached(String),
    /// There is no valid proof, and no breach was found. The text says why, for people.
    Unproven(String),
}

impl GuardState {
    /// State before the first self-test: access may not be granted.
    pub fn unasked() -> Self {
        Self::Unproven("the admission guards have not been tested yet".to_owned())
    }

    /// Why the guards are breached; `None` if no breach was found.
    pub fn breach(&self) -> Option<&str> {
        match self {
            Self::InForce | Self::Unproven(_) => None,
            Self::Breached(why) => Some(why),
        }
    }
}
