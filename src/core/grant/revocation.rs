//! Revocation: why, when and by whom the access of a grant ends.

use jiff::Timestamp;

use crate::api::{GrantState, RevocationCause, reasons};
use crate::core::grant::live::Live;

/// End of the access of one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRevocation {
    /// The cause, for machines.
    pub cause: RevocationCause,
    /// What happened, for people.
    pub message: String,
    /// User name of the decider, if a decision ended the access.
    pub by: Option<String>,
    /// Time (UTC) at which the access had to be gone: the recorded end, or the time at which the cause was seen.
    pub due: Timestamp,
    /// Whether the access was ever in force.
    pub was_active: bool,
}

impl DueRevocation {
    /// The end of a live grant at its recorded time.
    pub(crate) fn at_its_time(live: &Live<'_>) -> Self {
        Self {
            cause: RevocationCause::DeadlineReached,
            message: format!("the end was reached at {}", live.expires_at),
            by: None,
            due: live.expires_at,
            was_active: live.active,
        }
    }

    /// State of the ended grant: `Expired`, `Revoked`, or `Failed` if access was never in force.
    pub fn state(&self) -> GrantState {
        match self.cause {
            RevocationCause::DeadlineReached => GrantState::Expired,
            RevocationCause::RefusedByApiServer => GrantState::Failed,
            RevocationCause::RevokeDecision => GrantState::Revoked,
            _ if !self.was_active => GrantState::Failed,
            _ => GrantState::Revoked,
        }
    }

    /// Reason of the condition `Ended`.
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

    /// What happened and how late access was proven absent at `at`, for people.
    pub(crate) fn note(&self, at: Timestamp) -> String {
        let lag = self.lag_milliseconds(at);
        match self.cause {
            RevocationCause::DeadlineReached => format!("the access ended {lag} ms after its time"),
            _ => format!("{}; proven absent {lag} ms later", self.message),
        }
    }

    /// Lag in milliseconds: from [`due`](Self::due) to `at`.
    pub fn lag_milliseconds(&self, at: Timestamp) -> i64 {
        i64::try_from(at.duration_since(self.due).as_millis()).unwrap_or(i64::MAX)
    }
}
