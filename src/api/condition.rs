//! Condition types, grant states and condition reasons.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Condition types. `Ready`, `Reconciling` and `Stalled` come from kstatus, for tools that know only those.
pub mod conditions {
    /// On a grant: the policy admits the request. `False` is final.
    pub const ACCEPTED: &str = "Accepted";
    /// On a grant: the request has the approvals that its policy requires. Absent if no approval is required.
    pub const APPROVED: &str = "Approved";
    /// On a decision: it had an effect. `False` is final: the decision is ignored.
    pub const COUNTED: &str = "Counted";
    /// On a grant: the access is in force. Its reason is the state that `kubectl get` prints
    /// ([`GrantState`](super::GrantState)).
    pub const ACTIVE: &str = "Active";
    /// On a grant: it is over, and all its artifacts are proven absent. Final.
    pub const ENDED: &str = "Ended";
    /// On a grant: every fuse is lit and expires at the end of the access. Absent if the policy wants no fuse.
    pub const FUSED: &str = "Fused";
    /// On a grant: someone else changed an artifact. It never becomes `False` again, because what the subject could do
    /// is no longer certain.
    pub const DRIFTED: &str = "Drifted";
    /// On a grant: the access is in force. On a policy: requests can use it.
    pub const READY: &str = "Ready";
    /// Work is still to come. Present only while true (kstatus).
    pub const RECONCILING: &str = "Reconciling";
    /// No work is to come, and the request was not fulfilled. Present only while true (kstatus).
    pub const STALLED: &str = "Stalled";
}

/// State of a grant: the reason of its condition `Active`, and the column `STATE` of `kubectl get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantState {
    /// Not evaluated yet.
    Pending,
    /// The policy admits the request; approvers have to decide.
    AwaitingApproval,
    /// Admitted and approved; waits for its start time.
    Scheduled,
    /// Granted and recorded; the access is being created.
    Activating,
    /// The access is in force.
    Active,
    /// The access ended at its time.
    Expired,
    /// The access was ended before its time.
    Revoked,
    /// Denied; there never was access.
    Denied,
    /// Admitted, but the access could not be created; nothing of it is left.
    Failed,
}

impl GrantState {
    /// Every state, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::AwaitingApproval,
        Self::Scheduled,
        Self::Activating,
        Self::Active,
        Self::Expired,
        Self::Revoked,
        Self::Denied,
        Self::Failed,
    ];

    /// Text of the state in conditions, Events, audit records and metrics. Written by hand: a renamed variant must not
    /// change what others read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::AwaitingApproval => "AwaitingApproval",
            Self::Scheduled => "Scheduled",
            Self::Activating => "Activating",
            Self::Active => "Active",
            Self::Expired => "Expired",
            Self::Revoked => "Revoked",
            Self::Denied => "Denied",
            Self::Failed => "Failed",
        }
    }

    /// State with this text; `None` if there is no such state.
    pub fn from_reason(reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == reason)
    }
}

/// Condition reasons, as text. The groups: states of a grant (reasons of `Active`), admission, approval, decisions,
/// fuses, causes of the end, and policies.
pub mod reasons {
    use crate::api::condition::GrantState;

    /// State: not evaluated yet.
    pub const PENDING: &str = GrantState::Pending.as_str();
    /// State: the policy admits the request; approvers have to decide.
    pub const AWAITING_APPROVAL: &str = GrantState::AwaitingApproval.as_str();
    /// State: admitted and approved; waits for its start time.
    pub const SCHEDULED: &str = GrantState::Scheduled.as_str();
    /// State: granted and recorded; the access is being created.
    pub const ACTIVATING: &str = GrantState::Activating.as_str();
    /// State: the access is in force.
    pub const ACTIVE: &str = GrantState::Active.as_str();
    /// State: the access ended at its time.
    pub const EXPIRED: &str = GrantState::Expired.as_str();
    /// State: the access was ended before its time.
    pub const REVOKED: &str = GrantState::Revoked.as_str();
    /// State: denied; there never was access.
    pub const DENIED: &str = GrantState::Denied.as_str();
    /// State: admitted, but the access could not be created; nothing of it is left.
    pub const FAILED: &str = GrantState::Failed.as_str();

    /// The request satisfies its policy.
    pub const POLICY_SATISFIED: &str = "PolicySatisfied";
    /// The named policy does not exist, or not yet.
    pub const POLICY_NOT_FOUND: &str = "PolicyNotFound";
    /// The named policy has a problem, or has not been checked yet.
    pub const POLICY_NOT_READY: &str = "PolicyNotReady";
    /// Held: the admission guards are not in force. Until they are, `spec.requester` may be forged, so no access is
    /// granted.
    pub const GUARDS_NOT_IN_FORCE: &str = "GuardsNotInForce";
    /// Held: the operator could not find out whether the admission guards are in force.
    pub const GUARDS_UNPROVEN: &str = "GuardsUnproven";
    /// Held: the operator's clock and the API server's clock differ too much to say when access would end.
    pub const CLOCK_SKEWED: &str = "ClockSkewed";
    /// Denied: the request was made while the guards were not in force, so its requester may be forged.
    pub const NOT_ATTESTED: &str = "NotAttested";
    /// Denied: the policy does not select the grant's namespace.
    pub const NAMESPACE_NOT_SELECTED: &str = "NamespaceNotSelected";
    /// Denied: the namespace is being deleted.
    pub const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";
    /// Denied: the API server did not attest the requester.
    pub const REQUESTER_UNKNOWN: &str = "RequesterUnknown";
    /// Denied: the policy does not list the requester.
    pub const REQUESTER_NOT_LISTED: &str = "RequesterNotListed";
    /// Denied: the policy does not let this subject receive the access.
    pub const SUBJECT_NOT_LISTED: &str = "SubjectNotListed";
    /// Denied: access is never granted to this name (`system:` names, control or invisible characters).
    pub const SUBJECT_FORBIDDEN: &str = "SubjectForbidden";
    /// Denied: the reason is too short, or does not match the policy's pattern.
    pub const REASON_INSUFFICIENT: &str = "ReasonInsufficient";
    /// Denied: the duration cannot be parsed.
    pub const DURATION_INVALID: &str = "DurationInvalid";
    /// Denied: the duration exceeds the limit of the policy or of the cluster.
    pub const DURATION_TOO_LONG: &str = "DurationTooLong";
    /// Denied: `notAfter` cannot be parsed.
    pub const NOT_AFTER_INVALID: &str = "NotAfterInvalid";
    /// Denied: `notAfter` has passed.
    pub const NOT_AFTER_PASSED: &str = "NotAfterPassed";
    /// Denied: a service account asks without `notAfter`.
    pub const NOT_AFTER_REQUIRED: &str = "NotAfterRequired";
    /// Denied: the policy has no entitlement of that name, or none with `selection: Default`.
    pub const ENTITLEMENT_UNKNOWN: &str = "EntitlementUnknown";
    /// Denied: the entitlement requires, forbids or does not support narrowing (`resourceNames`).
    pub const NARROWING_REFUSED: &str = "NarrowingRefused";
    /// Denied: the requested access is not a subset of the policy's.
    pub const BEYOND_POLICY: &str = "BeyondPolicy";
    /// Denied: no window of the policy is open.
    pub const OUTSIDE_WINDOWS: &str = "OutsideWindows";
    /// Denied: a condition of the policy is not met, or could not be evaluated.
    pub const CONDITION_NOT_MET: &str = "ConditionNotMet";
    /// Denied: a named role does not exist.
    pub const ROLE_NOT_FOUND: &str = "RoleNotFound";
    /// Denied: the service account to act as does not exist, or the ClusterRole that allows to act as it.
    pub const IDENTITY_NOT_FOUND: &str = "IdentityNotFound";
    /// Denied: a role can be used to gain more access, and the policy does not say `escalation: Allow`.
    pub const ROLE_FORBIDDEN: &str = "RoleForbidden";
    /// Denied: the subject has as many live grants of this policy as the policy allows.
    pub const LIMIT_REACHED: &str = "LimitReached";

    /// Denied: the requester has as many waiting requests under this policy as the policy allows.
    pub const TOO_MANY_PENDING: &str = "TooManyPending";
    /// Denied: `notBefore` cannot be parsed, is more than 30 days ahead, or is not before `notAfter`.
    pub const NOT_BEFORE_INVALID: &str = "NotBeforeInvalid";
    /// Denied: a Revoke blocks this request, because the same service account made it before.
    pub const REVOKED_BEFORE: &str = "RevokedBefore";
    /// Denied: not enough approvals in time.
    pub const APPROVAL_TIMED_OUT: &str = "ApprovalTimedOut";
    /// Denied: an approver denied the request.
    pub const DENIED_BY_APPROVER: &str = "DeniedByApprover";
    /// Approvers approved the request.
    pub const APPROVED: &str = "Approved";
    /// The recorded approvals do not count any more: the access, or the right of an approver, has changed.
    pub const APPROVAL_VOID: &str = "ApprovalVoid";

    /// Decision: it counts.
    pub const COUNTED: &str = "Counted";
    /// Decision: it waits until its stage is asked.
    pub const STAGE_NOT_REACHED: &str = "StageNotReached";
    /// Decision ignored: no grant has that name and uid.
    pub const GRANT_NOT_FOUND: &str = "GrantNotFound";
    /// Decision ignored: requester and subject cannot decide their own request; they may revoke it.
    pub const SELF_DECISION: &str = "SelfDecision";
    /// Decision ignored: the policy does not list the decider as an approver of this request.
    pub const DECIDER_NOT_LISTED: &str = "DeciderNotListed";
    /// Decision ignored: the decider has already approved.
    pub const ALREADY_APPROVED: &str = "AlreadyApproved";
    /// Decision ignored: approval is not required, or not any more.
    pub const NOT_ASKED: &str = "NotAsked";
    /// Decision ignored: the grant was already decided or over.
    pub const TOO_LATE: &str = "TooLate";
    /// Decision ignored: the access is not the one that was approved.
    pub const ACCESS_CHANGED: &str = "AccessChanged";
    /// Decision ignored: the decider may not revoke this grant.
    pub const MAY_NOT_REVOKE: &str = "MayNotRevoke";

    /// Fused: every fuse is lit.
    pub const FUSE_LIT: &str = "FuseLit";
    /// Not fused: a fuse is not lit yet. With many grants at once this takes some seconds and is no problem.
    pub const FUSE_NOT_LIT: &str = "FuseNotLit";
    /// Not fused: kube-controller-manager has not started the Job for a long time, or has reset its start.
    pub const FUSE_NOT_STARTED: &str = "FuseNotStarted";
    /// Not fused: the Job is suspended.
    pub const FUSE_SUSPENDED: &str = "FuseSuspended";
    /// Not fused: the fuse was lit late; it expires well after the access must be gone.
    pub const FUSE_LATE: &str = "FuseLate";
    /// Not fused: the API server rejects the Job, for example because of a quota or an admission policy.
    pub const FUSE_REFUSED: &str = "FuseRefused";

    /// The end of the access was reached.
    pub const DEADLINE_REACHED: &str = "DeadlineReached";
    /// Someone else changed or deleted an artifact of the grant.
    pub const ARTIFACT_CHANGED: &str = "ArtifactChanged";
    /// The rules of a role changed, or the role was deleted.
    pub const ROLE_CHANGED: &str = "RoleChanged";
    /// The policy changed and would deny the grant now.
    pub const POLICY_CHANGED: &str = "PolicyChanged";
    /// The policy was deleted and not recreated.
    pub const POLICY_DELETED: &str = "PolicyDeleted";
    /// The grant was deleted.
    pub const GRANT_DELETED: &str = "GrantDeleted";
    /// A person with the right to revoke did so.
    pub const REVOKE_DECISION: &str = "RevokeDecision";
    /// The API server rejected an artifact of the grant.
    pub const REFUSED_BY_API_SERVER: &str = "RefusedByApiServer";

    /// Policy: requests can use it.
    pub const READY: &str = "Ready";
    /// Policy: a field is not valid.
    pub const INVALID: &str = "Invalid";
    /// Policy: the operator lacks rights that the policy hands out.
    pub const RIGHTS_MISSING: &str = "RightsMissing";
}

/// Schema of a list of `metav1.Condition`, with the bounds of the API conventions.
pub fn schema_of_conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "description": "Current state of this object.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "Type of the condition, such as `Ready`."},
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "`True`, `False`, or `Unknown` if it cannot be determined."
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "description": "Generation of the object (`metadata.generation`) that the condition describes."
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "description": "Reason for the status, as one word for programs."
                },
                "message": {"type": "string", "maxLength": 32768, "description": "Reason for the status, as a sentence for people."},
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "Time at which `status` last changed (UTC)."
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_every_state_once_in_order_of_declaration() {
        let position = |state: GrantState| match state {
            GrantState::Pending => 0,
            GrantState::AwaitingApproval => 1,
            GrantState::Scheduled => 2,
            GrantState::Activating => 3,
            GrantState::Active => 4,
            GrantState::Expired => 5,
            GrantState::Revoked => 6,
            GrantState::Denied => 7,
            GrantState::Failed => 8,
        };
        let positions = GrantState::ALL.map(position);
        assert_eq!(positions.to_vec(), (0..GrantState::ALL.len()).collect::<Vec<_>>());
    }

    #[test]
    fn every_state_is_found_by_its_text() {
        for state in GrantState::ALL {
            assert_eq!(GrantState::from_reason(state.as_str()), Some(state));
        }
        assert_eq!(GrantState::from_reason("active"), None);
    }
}
