//! Condition types and reasons: the one table of them.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Condition types. `Ready`, `Reconciling` and `Stalled` are those of kstatus, for tools that know no others.
pub mod conditions {
    /// The policy admits the request. `False` is final.
    pub const ACCEPTED: &str = "Accepted";
    /// On a grant: people approved it, as its policy asks. Absent where nobody is asked.
    pub const APPROVED: &str = "Approved";
    /// On a decision: it changed something. `False` is final: it changes nothing.
    pub const COUNTED: &str = "Counted";
    /// The access is in force. Its reason is the state that `kubectl get` prints.
    pub const ACTIVE: &str = "Active";
    /// The grant is over and everything made for it is proven absent. Final.
    pub const ENDED: &str = "Ended";
    /// Every fuse of the grant is lit, and burns at its end. Absent where none is wanted.
    pub const FUSED: &str = "Fused";
    /// Somebody else changed what was made for the grant. Sticky: what the subject could do is no longer certain.
    pub const DRIFTED: &str = "Drifted";
    /// On a grant: the access is in force. On a policy: grants may name it.
    pub const READY: &str = "Ready";
    /// Something is still to come. Present only while true (kstatus).
    pub const RECONCILING: &str = "Reconciling";
    /// Nothing is to come, and what was asked for was not given. Present only while true (kstatus).
    pub const STALLED: &str = "Stalled";
}

/// Condition reasons. Those of `Active` are the states of a grant; the rest say why a request was refused, why
/// access ended, or what a policy lacks.
pub mod reasons {
    /// State: not judged yet.
    pub const PENDING: &str = "Pending";
    /// State: the policy admits it, and people are asked.
    pub const AWAITING_APPROVAL: &str = "AwaitingApproval";
    /// State: nothing is missing but its time.
    pub const SCHEDULED: &str = "Scheduled";
    /// State: judged and recorded, the access is being made.
    pub const ACTIVATING: &str = "Activating";
    /// State: the access is in force.
    pub const ACTIVE: &str = "Active";
    /// State: the access ended at its time.
    pub const EXPIRED: &str = "Expired";
    /// State: the access was ended before its time.
    pub const REVOKED: &str = "Revoked";
    /// State: refused; never was access.
    pub const DENIED: &str = "Denied";
    /// State: admitted, but the access could not be made; nothing of it is left.
    pub const FAILED: &str = "Failed";

    /// The request satisfies its policy.
    pub const POLICY_SATISFIED: &str = "PolicySatisfied";
    /// The named policy does not exist (yet).
    pub const POLICY_NOT_FOUND: &str = "PolicyNotFound";
    /// The named policy has a problem of its own, or has not been judged yet.
    pub const POLICY_NOT_READY: &str = "PolicyNotReady";
    /// The admission guards are not proven to stand: nobody vouches for who asks, so nothing is given until they do.
    pub const GUARDS_NOT_IN_FORCE: &str = "GuardsNotInForce";
    /// Held: nobody could find out whether the admission guards are in force.
    pub const GUARDS_UNPROVEN: &str = "GuardsUnproven";
    /// Held: the operator's clock and the API server's differ too much for anybody to say when access would end.
    pub const CLOCK_SKEWED: &str = "ClockSkewed";
    /// Asked while the admission guards were not in force: nobody can vouch for who asked.
    pub const NOT_ATTESTED: &str = "NotAttested";
    /// The policy does not select the grant's namespace.
    pub const NAMESPACE_NOT_SELECTED: &str = "NamespaceNotSelected";
    /// The namespace is being deleted.
    pub const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";
    /// Nobody attested who asks.
    pub const REQUESTER_UNKNOWN: &str = "RequesterUnknown";
    /// The policy does not list the requester.
    pub const REQUESTER_NOT_LISTED: &str = "RequesterNotListed";
    /// The policy does not let this subject receive the access.
    pub const SUBJECT_NOT_LISTED: &str = "SubjectNotListed";
    /// A name that is never given access: `system:` names, control or invisible characters.
    pub const SUBJECT_FORBIDDEN: &str = "SubjectForbidden";
    /// The reason is too short or does not match the policy's pattern.
    pub const REASON_INSUFFICIENT: &str = "ReasonInsufficient";
    /// The duration cannot be read.
    pub const DURATION_INVALID: &str = "DurationInvalid";
    /// The duration exceeds what the policy or the cluster allows.
    pub const DURATION_TOO_LONG: &str = "DurationTooLong";
    /// `notAfter` cannot be read.
    pub const NOT_AFTER_INVALID: &str = "NotAfterInvalid";
    /// `notAfter` has passed: dead on arrival.
    pub const NOT_AFTER_PASSED: &str = "NotAfterPassed";
    /// A service account asks without `notAfter`.
    pub const NOT_AFTER_REQUIRED: &str = "NotAfterRequired";
    /// The policy offers no entitlement of that name, or none by default.
    pub const ENTITLEMENT_UNKNOWN: &str = "EntitlementUnknown";
    /// The entitlement must be, must not be, or cannot be narrowed so.
    pub const NARROWING_REFUSED: &str = "NarrowingRefused";
    /// What is asked for is not a subset of what the policy offers.
    pub const BEYOND_POLICY: &str = "BeyondPolicy";
    /// No window of the policy is open.
    pub const OUTSIDE_WINDOWS: &str = "OutsideWindows";
    /// A condition of the policy does not hold, or could not be judged.
    pub const CONDITION_NOT_MET: &str = "ConditionNotMet";
    /// A named role does not exist.
    pub const ROLE_NOT_FOUND: &str = "RoleNotFound";
    /// A service account to act as does not exist, or the role that allows to act as it.
    pub const IDENTITY_NOT_FOUND: &str = "IdentityNotFound";
    /// A named role holds rules that the policy does not say it hands out knowingly.
    pub const ROLE_FORBIDDEN: &str = "RoleForbidden";
    /// The subject has as many live grants of this policy as it allows.
    pub const LIMIT_REACHED: &str = "LimitReached";

    /// The requester has as many requests waiting under this policy as it allows.
    pub const TOO_MANY_PENDING: &str = "TooManyPending";
    /// `notBefore` cannot be read, or lies too far ahead or behind `notAfter`.
    pub const NOT_BEFORE_INVALID: &str = "NotBeforeInvalid";
    /// Somebody revoked this very request of the same automation before.
    pub const REVOKED_BEFORE: &str = "RevokedBefore";
    /// Not enough people approved in time.
    pub const APPROVAL_TIMED_OUT: &str = "ApprovalTimedOut";
    /// An approver denied it.
    pub const DENIED_BY_APPROVER: &str = "DeniedByApprover";
    /// People approved it.
    pub const APPROVED: &str = "Approved";
    /// What was approved is not what would be given now, or whoever approved may not any more.
    pub const APPROVAL_VOID: &str = "ApprovalVoid";

    /// Decision: it counts.
    pub const COUNTED: &str = "Counted";
    /// Decision: it waits for its stage.
    pub const STAGE_NOT_REACHED: &str = "StageNotReached";
    /// Decision ignored: there is no grant of that name and uid.
    pub const GRANT_NOT_FOUND: &str = "GrantNotFound";
    /// Decision ignored: requester and subject do not decide about their own request; they may revoke it.
    pub const SELF_DECISION: &str = "SelfDecision";
    /// Decision ignored: the policy does not list the decider for what is asked.
    pub const DECIDER_NOT_LISTED: &str = "DeciderNotListed";
    /// Decision ignored: the decider has approved already.
    pub const ALREADY_APPROVED: &str = "AlreadyApproved";
    /// Decision ignored: nobody's approval is asked for (any more).
    pub const NOT_ASKED: &str = "NotAsked";
    /// Decision ignored: the grant had been decided or was over before.
    pub const TOO_LATE: &str = "TooLate";
    /// Decision ignored: the access is not the one that was approved.
    pub const ACCESS_CHANGED: &str = "AccessChanged";
    /// Decision ignored: the decider may not revoke this grant.
    pub const MAY_NOT_REVOKE: &str = "MayNotRevoke";

    /// Fused: every fuse is lit.
    pub const FUSE_LIT: &str = "FuseLit";
    /// Not fused: not lit yet, which in a crowd takes some seconds and is nothing to worry about.
    pub const FUSE_NOT_LIT: &str = "FuseNotLit";
    /// Not fused: kube-controller-manager has not started the Job for long, or has taken its start back.
    pub const FUSE_NOT_STARTED: &str = "FuseNotStarted";
    /// Not fused: the Job is suspended.
    pub const FUSE_SUSPENDED: &str = "FuseSuspended";
    /// Not fused: lit so late that it burns well after the access has to be gone.
    pub const FUSE_LATE: &str = "FuseLate";
    /// Not fused: the API server refuses to make the Job, as by a quota or an admission policy.
    pub const FUSE_REFUSED: &str = "FuseRefused";

    /// The end was reached.
    pub const DEADLINE_REACHED: &str = "DeadlineReached";
    /// An artifact of the grant was changed or deleted by somebody else.
    pub const ARTIFACT_CHANGED: &str = "ArtifactChanged";
    /// The rules of a named role changed, or the role went.
    pub const ROLE_CHANGED: &str = "RoleChanged";
    /// The policy changed and would refuse the grant now.
    pub const POLICY_CHANGED: &str = "PolicyChanged";
    /// The policy was deleted and did not come back.
    pub const POLICY_DELETED: &str = "PolicyDeleted";
    /// The grant was deleted.
    pub const GRANT_DELETED: &str = "GrantDeleted";
    /// Somebody who may decided so.
    pub const REVOKE_DECISION: &str = "RevokeDecision";
    /// The API server refused to make the access.
    pub const REFUSED_BY_API_SERVER: &str = "RefusedByApiServer";

    /// Policy: grants may name it.
    pub const READY: &str = "Ready";
    /// Policy: a field cannot be used as it stands.
    pub const INVALID: &str = "Invalid";
    /// Policy: the operator lacks the rights to hand something out.
    pub const RIGHTS_MISSING: &str = "RightsMissing";
}

/// Schema of a list of `metav1.Condition` with the bounds the API conventions give its fields.
pub fn schema_of_conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "description": "Observations of the object's state; the only truth about it.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "What is observed."},
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "Whether it is so."
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "description": "Generation of the object this was observed of."
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "description": "Why, as one word a machine can compare."
                },
                "message": {"type": "string", "maxLength": 32768, "description": "Why, as a sentence for people."},
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When `status` last changed (UTC)."
                }
            }
        }
    })
}
