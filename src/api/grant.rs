//! `AccessGrant`: one request for access and its whole life.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DurationText, FuseDemand, Principal, RoleKind, Rule, Subject, UserInfo, schema_of_conditions};

/// One request for access and its whole life: asked, approved, active, ended. Never edited, never reused.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "access.curfew.dev",
    version = "v1alpha1",
    kind = "AccessGrant",
    namespaced,
    doc = "AccessGrant is one request for access and its whole life: asked, approved, active, ended. It is never edited and never reused.",
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
    .message("a grant is never edited: make a new one; whoever may delete this one ends it by that"))]
pub struct AccessGrantSpec {
    /// The policy under which access is asked for.
    pub policy_ref: PolicyRef,
    /// Why the access is needed; recorded as evidence, and checked against the policy's demands.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub reason: String,
    /// Who asks. Filled in by the API server where it can (1.36 and newer), checked by it always: it must be
    /// exactly whoever creates the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<UserInfo>,
    /// Who gets the access. Default: the requester. Anybody else must be listed in the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// What is asked for, by name. Default: the policy's entitlements with selection `Default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub entitlements: Option<Vec<EntitlementRequest>>,
    /// How long the access lasts, from its activation. Default: the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<DurationText>,
    /// Not before this moment (RFC 3339, such as `2026-12-01T08:00:00Z`), at most 30 days ahead. The access starts by
    /// itself then, if it is approved; what policy and roles say is judged again first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 35),
        regex(
            pattern = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$"
        )
    )]
    pub not_before: Option<String>,
    /// Hard end, whatever the duration says (RFC 3339, such as `2026-12-01T18:00:00Z`). Required when a service
    /// account asks, so that a request that automation makes again is dead on arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // Without `format: date-time`, which accepts what CEL then cannot read (February 30th, +99:99): the rule that a
    // spec never changes would fail on such a grant, and with it every write of its status.
    #[schemars(
        length(max = 35),
        regex(
            pattern = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$"
        )
    )]
    pub not_after: Option<String>,
    /// Tickets, incidents or changes the request belongs to; recorded as evidence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type", "id"]))]
    pub references: Vec<Reference>,
}

/// Names an [`super::AccessPolicy`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// Name of the policy.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One entitlement asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntitlementRequest {
    /// Name of the entitlement in the policy.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The objects needed; narrows the entitlement to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub resource_names: Option<Vec<String>>,
}

/// Something outside the cluster that a request belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// What it is, such as `Ticket`, `Incident` or `Change`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub kind: String,
    /// Its identifier there.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub id: String,
}

/// What Curfew observed and did. The API server itself keeps it from being widened, also against Curfew.
// One writer writes it, and each part whole: atomic parts spare the API server the bookkeeping of single fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.expiresAt) || (has(self.expiresAt) && self.expiresAt <= oldSelf.expiresAt)")
        .message("expiresAt only moves earlier"),
    validation = Rule::new(
        "!has(oldSelf.expiresAt) || (has(self.resolved) == has(oldSelf.resolved) && \
         (!has(self.resolved) || self.resolved == oldSelf.resolved))")
        .message("the resolved access stays once it is being made"),
    validation = Rule::new(
        "!has(oldSelf.expiresAt) || (has(self.approvals) == has(oldSelf.approvals) && \
         (!has(self.approvals) || self.approvals == oldSelf.approvals))")
        .message("the approvals stay once the access is being made"),
    validation = Rule::new("!has(oldSelf.endedAt) || (has(self.endedAt) && self.endedAt == oldSelf.endedAt)")
        .message("an ended grant stays ended"),
    validation = Rule::new(
        "!has(oldSelf.endedAt) || !self.conditions.exists(c, c.type == 'Active' && c.status == 'True')")
        .message("an ended grant never becomes active")
)]
pub struct AccessGrantStatus {
    /// Generation of the grant that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    #[schemars(schema_with = "schema_of_conditions")]
    #[allow(missing_docs, reason = "described by its schema")]
    pub conditions: Vec<Condition>,
    /// Who gets the access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub subject: Option<Subject>,
    /// The effective access, as rules. While the grant waits it is what approvals are asked for; once the access is
    /// being made it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub resolved: Option<ResolvedAccess>,
    /// Who approved it. Stays once the access is being made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 160), extend("x-kubernetes-list-type" = "atomic"))]
    pub approvals: Vec<ApprovalRecord>,
    /// Since when the access is in force (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<MicroTime>,
    /// When the access ends (UTC). Recorded before the access is made; only moves earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<MicroTime>,
    /// Since when everything made for the grant is proven absent (UTC), or since when it is denied. Final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<MicroTime>,
    /// What is made for the grant. Recorded before it is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub artifacts: Vec<ArtifactRecord>,
    /// Which layers each see to it that the access ends: those of every piece that gives it, such as
    /// `Controller, Fuse, Sweep`. Told when the access came into force or its fuse changed; not anew for each change of
    /// the sweep, whose silence is an alert of its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub enforced_by: String,
    /// How the access ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub revocation: Option<Revocation>,
}

/// One person's approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRecord {
    /// The stage of the policy it counts in.
    #[schemars(length(min = 1, max = 63))]
    pub stage: String,
    /// Who approved, as the API server authenticated them.
    #[schemars(length(min = 1, max = 253))]
    pub username: String,
    /// The entry of the stage's approvers that made them one: themselves, or a group they were in.
    pub approver: Principal,
    /// Hash of the access they approved.
    #[schemars(length(max = 80))]
    pub access_hash: String,
    /// Name of their decision.
    #[schemars(length(min = 1, max = 253))]
    pub decision: String,
    /// Uid of their decision.
    #[schemars(length(max = 64))]
    pub decision_uid: String,
    /// When they decided (UTC).
    pub decided_at: Time,
    /// Why it does not count any more, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub void: Option<String>,
}

/// The effective access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedAccess {
    /// SHA-256 over the access, its subject, its length and the identity of policy, namespace and roles.
    #[schemars(length(max = 80))]
    pub hash: String,
    /// Generation of the policy it was resolved against.
    pub policy_generation: i64,
    /// How long the access lasts at most, from its activation.
    #[schemars(length(max = 18))]
    pub duration: String,
    /// What its policy demands of the fuses that hold it.
    #[serde(default)]
    pub fuse: FuseDemand,
    /// The items of access.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub entitlements: Vec<ResolvedEntitlement>,
}

/// One item of the effective access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedEntitlement {
    /// Its name in the policy.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The existing role it is bound to; none for rules of the policy's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<ResolvedRole>,
    /// The service account that `role` allows to act as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act_as: Option<ResolvedIdentity>,
    /// What it allows, where the rules are the policy's own. For an existing role its uid and the hash of its rules
    /// stand here, and the audit record has the rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<Rule>,
}

/// An existing role as it was when the access was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedRole {
    /// `ClusterRole` or `Role`.
    pub kind: RoleKind,
    /// Name of the role.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Uid of the role: one that was deleted and made again is another role.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// SHA-256 over its rules, in canonical order.
    #[schemars(length(max = 80))]
    pub rules_hash: String,
}

/// A service account to act as, as it was when the access was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedIdentity {
    /// Its namespace, in which the right to act as it is bound.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 63))]
    pub service_account: String,
    /// Its uid: one that was deleted and made again is another one.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// One thing made for a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactRecord {
    /// `Job` (the fuse), `Role` or `RoleBinding`.
    pub kind: ArtifactKind,
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The entitlement it serves.
    #[schemars(length(max = 63))]
    pub entitlement: String,
    /// Its uid, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
    /// Who sees to it that it ends, each by itself, as far as was known when the access came into force or its fuse
    /// changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "atomic"))]
    pub enforced_by: Vec<Enforcer>,
}

/// A layer that ends access by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Enforcer {
    /// The operator.
    Controller,
    /// The fuse that holds it, which is lit.
    Fuse,
    /// The sweep, whose heartbeat is heard.
    Sweep,
}

/// Kind of a thing made for a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ArtifactKind {
    /// The fuse: a Job that never runs a pod and owns the rest.
    Job,
    /// A Role with the entitlement's own rules.
    Role,
    /// The binding that gives the access.
    RoleBinding,
}

/// How access ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// Why it ended.
    pub cause: RevocationCause,
    /// Who ended it, where somebody decided so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub by: Option<String>,
    /// What exactly happened.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Milliseconds between the promised end and the proof of absence; only where the end was promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_milliseconds: Option<i64>,
}

/// Why access ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RevocationCause {
    /// Its end was reached.
    DeadlineReached,
    /// Something made for it was changed or deleted by somebody else.
    ArtifactChanged,
    /// A named role changed.
    RoleChanged,
    /// The policy changed and would refuse it now.
    PolicyChanged,
    /// The policy was deleted and did not come back.
    PolicyDeleted,
    /// The grant was deleted.
    GrantDeleted,
    /// Somebody who may decided so.
    RevokeDecision,
    /// The access could not be made.
    RefusedByApiServer,
}

impl RevocationCause {
    /// All of them.
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
