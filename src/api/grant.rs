//! `AccessGrant`: one request for access and its whole life.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    DurationText, FuseDemand, Principal, RoleKind, Rule, Subject, UserInfo, schema_of_conditions,
};

/// One request for access and its whole life: asked, approved, active, ended. It is never edited and never used twice.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "access.curfew.dev",
    version = "v1alpha1",
    kind = "AccessGrant",
    namespaced,
    doc = "AccessGrant is one request for access and its whole life: asked, approved, active, ended. It is never edited and never used twice.",
    status = "AccessGrantStatus",
    derive = "PartialEq",
    shortname = "agrant",
    category = "curfew",
    selectable = ".spec.policyRef.name",
    selectable = ".spec.requester.username",
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name"),
    printcolumn(name = "Subject", type_ = "string", json_path = ".status.subject.name"),
    printcolumn(name = "State", type_ = "string", json_path = r#".status.conditions[?(@.type=="Active")].reason"#),
    printcolumn(
        name = "Approval",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Approved")].message"#
    ),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Requester", type_ = "string", json_path = ".spec.requester.username", priority = "1"),
    printcolumn(name = "Enforced", type_ = "string", json_path = ".status.enforcedBy", priority = "1"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Active")].message"#,
        priority = "1"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", priority = "1"),
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name of a grant has at most 63 characters")
)]
#[x_kube(validation = Rule::new("self == oldSelf")
    .message("a grant cannot be changed: create a new one; to end this one, delete it"))]
pub struct AccessGrantSpec {
    /// Policy that decides this request.
    pub policy_ref: PolicyRef,
    /// Reason for the request. Approvers read it, and it is kept as evidence. The policy can demand a length or a
    /// pattern.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub reason: String,
    /// User or service account that makes the request. Leave it out: Kubernetes 1.36 and newer fills it in. On older
    /// versions, copy the output of `kubectl auth whoami`. The API server always checks that it is the account that
    /// creates the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<UserInfo>,
    /// User or service account that gets the access. Default: the requester. Another subject must be listed in the
    /// policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Entitlements of the policy to request, by name. Default: the policy's entitlements with `selection: Default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub entitlements: Option<Vec<EntitlementRequest>>,
    /// Length of the access, counted from its start. Default: `duration.default` of the policy, or `duration.max` if
    /// the policy has no default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<DurationText>,
    /// Earliest start of the access (RFC 3339, such as `2026-12-01T08:00:00Z`), at most 30 days ahead. At that time the
    /// access starts by itself if it is approved; Curfew checks policy and roles again first. Default: access starts as
    /// soon as it is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 35),
        regex(
            pattern = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$"
        )
    )]
    pub not_before: Option<String>,
    /// Latest end of the access (RFC 3339, such as `2026-12-01T18:00:00Z`), also if `duration` is longer. Required for
    /// service accounts, so that an old request that a tool recreates is denied. Default: `duration` alone decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // Not `format: date-time`: it accepts texts that CEL cannot read (February 30th, +99:99). The rule that a spec
    // never changes would then fail, and with it every write of the grant's status.
    #[schemars(
        length(max = 35),
        regex(
            pattern = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$"
        )
    )]
    pub not_after: Option<String>,
    /// Tickets, incidents or changes that explain the request; kept as evidence. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type", "id"]))]
    pub references: Vec<Reference>,
}

/// Reference to an [`crate::api::AccessPolicy`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// Name of the policy.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Entitlement that a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntitlementRequest {
    /// Name of the entitlement in the policy.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Names of the objects to which to limit the entitlement. Default: no limit; the policy may require one
    /// (`narrowing`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub resource_names: Option<Vec<String>>,
}

/// Ticket, incident or change outside the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Type of the reference, such as `Ticket`, `Incident` or `Change`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub kind: String,
    /// Identifier of the reference in its own system, such as `PAY-1234`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub id: String,
}

/// State of a grant. Curfew writes it. The API server denies every change that would widen or prolong recorded access,
/// also to Curfew.
// One writer writes each part as a whole. Atomic parts save the API server the managed fields of single items.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.expiresAt) || (has(self.expiresAt) && self.expiresAt <= oldSelf.expiresAt)")
        .message("expiresAt only moves earlier"),
    validation = Rule::new(
        "!has(oldSelf.expiresAt) || (has(self.resolved) == has(oldSelf.resolved) && \
         (!has(self.resolved) || self.resolved == oldSelf.resolved))")
        .message("status.resolved cannot change after expiresAt is set"),
    validation = Rule::new(
        "!has(oldSelf.expiresAt) || (has(self.approvals) == has(oldSelf.approvals) && \
         (!has(self.approvals) || self.approvals == oldSelf.approvals))")
        .message("status.approvals cannot change after expiresAt is set"),
    validation = Rule::new("!has(oldSelf.endedAt) || (has(self.endedAt) && self.endedAt == oldSelf.endedAt)")
        .message("an ended grant stays ended"),
    validation = Rule::new(
        "!has(oldSelf.endedAt) || !self.conditions.exists(c, c.type == 'Active' && c.status == 'True')")
        .message("an ended grant never becomes active")
)]
pub struct AccessGrantStatus {
    /// Generation of the grant that Curfew evaluated last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    #[schemars(schema_with = "schema_of_conditions")]
    #[allow(missing_docs, reason = "described by its schema")]
    pub conditions: Vec<Condition>,
    /// User or service account that gets the access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub subject: Option<Subject>,
    /// Effective access: rules, subject and length. While the grant waits, approvers approve exactly this. It does not
    /// change after `expiresAt` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub resolved: Option<ResolvedAccess>,
    /// Approvals of the request. They do not change after `expiresAt` is set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 160), extend("x-kubernetes-list-type" = "atomic"))]
    pub approvals: Vec<ApprovalRecord>,
    /// Time at which the access came into force (UTC). Unset: it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<MicroTime>,
    /// Time at which the access ends (UTC). Curfew sets it before it creates the access. It only moves earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<MicroTime>,
    /// Time since which all artifacts of the grant are proven absent, or at which the request was denied (UTC). Final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<MicroTime>,
    /// Objects that Curfew creates for the grant. Curfew records each one before it creates it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub artifacts: Vec<ArtifactRecord>,
    /// Layers that each end the access by themselves, such as `Controller, Fuse, Sweep`. Only layers that cover every
    /// artifact that gives access are listed. Set when access starts or its fuse changes. Not updated when the sweep
    /// starts or stops; the metric `curfew_sweep_last_success_timestamp_seconds` shows that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub enforced_by: String,
    /// Cause of the end of the access. Unset while the access lasts, and on a denied grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub revocation: Option<Revocation>,
}

/// Approval of one person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRecord {
    /// Stage of the policy in which the approval counts.
    #[schemars(length(min = 1, max = 63))]
    pub stage: String,
    /// User name of the approver, as the API server authenticated the approver.
    #[schemars(length(min = 1, max = 253))]
    pub username: String,
    /// Entry of the stage's list that matched the approver: the user or one of the user's groups.
    pub approver: Principal,
    /// Hash of the access that was approved.
    #[schemars(length(max = 80))]
    pub access_hash: String,
    /// Name of the `AccessDecision`.
    #[schemars(length(min = 1, max = 253))]
    pub decision: String,
    /// Uid of the `AccessDecision`.
    #[schemars(length(max = 64))]
    pub decision_uid: String,
    /// Time at which the `AccessDecision` was created (UTC).
    pub decided_at: Time,
    /// Reason why the approval does not count any more. Unset while it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub void: Option<String>,
}

/// Effective access of a grant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedAccess {
    /// SHA-256 over the access, its subject, its length, and the identity of policy, namespace and roles. An approval
    /// names it in `accessHash`.
    #[schemars(length(max = 80))]
    pub hash: String,
    /// Generation of the policy from which the access was resolved.
    pub policy_generation: i64,
    /// Longest length of the access, counted from its start.
    #[schemars(length(max = 18))]
    pub duration: String,
    /// Demand of the policy on the fuses of this access.
    #[serde(default)]
    pub fuse: FuseDemand,
    /// Items of the access.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub entitlements: Vec<ResolvedEntitlement>,
}

/// Item of the effective access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedEntitlement {
    /// Name of the entitlement in the policy.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Existing role that is bound. Unset if the policy has rules of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<ResolvedRole>,
    /// Service account that `role` allows to act as. Unset for other entitlements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act_as: Option<ResolvedIdentity>,
    /// Allowed rules, if the policy has rules of its own. Empty for an existing role: `role` has its uid and the hash
    /// of its rules, and the audit record has the rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<Rule>,
}

/// Existing role, as it was when the access was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedRole {
    /// Kind of the role: `ClusterRole` or `Role`.
    pub kind: RoleKind,
    /// Name of the role.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Uid of the role. A role that was deleted and recreated is another role.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// SHA-256 over the role's rules, in canonical order.
    #[schemars(length(max = 80))]
    pub rules_hash: String,
}

/// Service account to act as, as it was when the access was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedIdentity {
    /// Namespace of the service account. The right to act as the account is bound there.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the service account.
    #[schemars(length(max = 63))]
    pub service_account: String,
    /// Uid of the service account. An account that was deleted and recreated is another account.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// Object that Curfew creates for a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactRecord {
    /// Kind of the object: `Job` (the fuse), `Role` or `RoleBinding`.
    pub kind: ArtifactKind,
    /// Namespace of the object.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the object.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Name of the entitlement for which the object is created.
    #[schemars(length(max = 63))]
    pub entitlement: String,
    /// Uid of the object. Unset until Curfew has seen the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
    /// Layers that each end this object by themselves. Set when access starts or its fuse changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "atomic"))]
    pub enforced_by: Vec<Enforcer>,
}

/// Layer that ends access by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Enforcer {
    /// The operator.
    Controller,
    /// The fuse that owns the object; it is lit.
    Fuse,
    /// The sweep; its heartbeat is fresh.
    Sweep,
}

/// Kind of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ArtifactKind {
    /// The fuse: a Job that never runs a pod and owns the other artifacts.
    Job,
    /// A Role with the entitlement's own rules.
    Role,
    /// The RoleBinding that gives the access.
    RoleBinding,
}

/// End of access: cause, message and delay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// Cause of the end.
    pub cause: RevocationCause,
    /// User name of the person who ended the access. Unset if no person decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub by: Option<String>,
    /// Details of the cause, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Milliseconds between the promised end and the proof of absence. Unset if no end was promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_milliseconds: Option<i64>,
}

/// Cause of the end of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RevocationCause {
    /// The end of the access was reached.
    DeadlineReached,
    /// Someone else changed or deleted an artifact of the grant.
    ArtifactChanged,
    /// A role of the grant changed.
    RoleChanged,
    /// The policy changed and would deny the grant now.
    PolicyChanged,
    /// The policy was deleted and not recreated.
    PolicyDeleted,
    /// The grant was deleted.
    GrantDeleted,
    /// An `AccessDecision` revoked the access.
    RevokeDecision,
    /// The API server rejected an artifact of the grant.
    RefusedByApiServer,
}

impl RevocationCause {
    /// Every cause.
    pub const ALL: [Self; 8] = [
        Self::DeadlineReached,
        Self::ArtifactChanged,
        Self::RoleChanged,
        Self::PolicyChanged,
        Self::PolicyDeleted,
        Self::GrantDeleted,
        Self::RevokeDecision,
        Self::RefusedByApiServer,
    ];
}
