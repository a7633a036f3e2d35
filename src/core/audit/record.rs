//! The audit record of a transition.

use crate::api::ResolvedEntitlement;
use crate::api::ResolvedIdentity;
use crate::api::ResolvedRole;
use crate::api::Rule;
use crate::core::rbac::roles::Roles;
use jiff::Timestamp;
use serde::Serialize;

use crate::api::{ApprovalRecord, DecisionKind, Reference, Subject, UserInfo};
use crate::core::decision::verdict::{Counting, DecisionVerdict};

/// One line of the audit log for each transition. It stays after the objects are deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// Time of the transition (UTC).
    pub time: Timestamp,
    /// State of the grant after the transition.
    pub state: &'static str,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
    /// Namespace of the grant.
    pub namespace: String,
    /// Name of the grant.
    pub grant: String,
    /// Uid of the grant.
    pub uid: String,
    /// The policy that the grant names.
    pub policy: String,
    /// The requester.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester: Option<UserInfo>,
    /// The subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// The requester's reason.
    pub purpose: String,
    /// References of the request, such as tickets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// Hash of the effective access.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_hash: Option<String>,
    /// Names of the entitlements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entitlements: Vec<String>,
    /// The access in full; only in the record of the activation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<GivenAccess>,
    /// The approvals; only in the record of the activation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<ApprovalRecord>,
    /// The decision, in the record of a verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionRecord>,
    /// User name of the decider, if a decision ended the access.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// Kind and name of each artifact; with the namespace if it is not the grant's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    /// Recorded end of the access (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Lag: milliseconds from the due end of the access to the proof of its absence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_milliseconds: Option<i64>,
}

/// A decision in the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionRecord {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Approve, Deny or Revoke.
    pub decision: DecisionKind,
    /// The decider.
    pub decider: UserInfo,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// Whether the decision counts; absent while it waits for its stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted: Option<bool>,
}

impl From<&DecisionVerdict> for DecisionRecord {
    fn from(judged: &DecisionVerdict) -> Self {
        let decision = &judged.decision;
        Self {
            name: decision.name.clone(),
            uid: decision.uid.clone(),
            decision: decision.kind,
            decider: UserInfo {
                username: decision.decider.username.clone(),
                groups: decision.decider.groups.clone(),
            },
            because: decision.reason.clone(),
            counted: match judged.verdict.standing {
                Counting::Counted => Some(true),
                Counting::Ignored => Some(false),
                Counting::Waiting => None,
            },
        }
    }
}

/// One entitlement in force, with its rules in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GivenAccess {
    /// Name of the entitlement in the policy.
    pub name: String,
    /// The existing role, as it was at the activation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<ResolvedRole>,
    /// The act-as account, as it was at the activation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act_as: Option<ResolvedIdentity>,
    /// The granted rules.
    pub rules: Vec<Rule>,
}

impl GivenAccess {
    /// Summary of a resolved entitlement. The rules of an existing role come from `roles`.
    pub fn of(entitlement: ResolvedEntitlement, roles: &Roles) -> Self {
        let ResolvedEntitlement {
            name,
            role,
            act_as,
            rules,
        } = entitlement;
        let current = role
            .as_ref()
            .and_then(|role| roles.get(&(role.kind, role.name.clone())));
        Self {
            rules: current.map_or(rules, |role| role.rules().to_vec()),
            name,
            role,
            act_as,
        }
    }
}
