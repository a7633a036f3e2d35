//! How access ends.

use jiff::Timestamp;

use crate::api::{RevocationCause, reasons};

/// How a grant ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub cause: RevocationCause,
    /// What exactly happened, for people.
    pub message: String,
    /// Who decided so, if somebody did.
    pub by: Option<String>,
    /// The moment from which no access should have been: the recorded end, or when the cause was seen.
    pub due: Timestamp,
    /// Whether the access ever was in force.
    pub was_active: bool,
}

impl Ending {
    /// The state of a grant that ended so.
    pub fn state(&self) -> &'static str {
        match self.cause {
            RevocationCause::DeadlineReached => reasons::EXPIRED,
            RevocationCause::RefusedByApiServer => reasons::FAILED,
            RevocationCause::RevokeDecision => reasons::REVOKED,
            _ if !self.was_active => reasons::FAILED,
            _ => reasons::REVOKED,
        }
    }

    /// The condition reason.
    pub fn reason(&self) -> &'static str {
        match self.cause {
            RevocationCause::DeadlineReached => reasons::DEADLINE_REACHED,
            RevocationCause::ArtifactChanged => reasons::ARTIFACT_CHANGED,
            RevocationCause::RoleChanged => reasons::ROLE_CHANGED,
            RevocationCause::PolicyChanged => reasons::POLICY_CHANGED,
            RevocationCause::PolicyDeleted => reasons::POLICY_DELETED,
            RevocationCause::GrantDeleted => reasons::GRANT_DELETED,
            RevocationCause::RevokeDecision => reasons::REVOKE_DECISION,
            RevocationCause::RefusedByApiServer => reasons::REFUSED_BY_API_SERVER,
        }
    }

    /// Milliseconds from the moment it was due until `at`.
    pub fn lag_milliseconds(&self, at: Timestamp) -> i64 {
        i64::try_from(at.duration_since(self.due).as_millis()).unwrap_or(i64::MAX)
    }
}
