//! `AccessDecision`: one person's decision about one grant.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{UserInfo, schema_of_conditions};

/// One person's decision about one grant: Approve, Deny or Revoke. It is never edited. Deleting a decision does not
/// undo it. Exception: after a Revoke of an automated request is deleted, the request can be made again.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "access.curfew.dev",
    version = "v1alpha1",
    kind = "AccessDecision",
    namespaced,
    doc = "AccessDecision is one person's decision about one grant: Approve, Deny or Revoke. It is never edited. Deleting a decision does not undo it. Exception: after a Revoke of an automated request is deleted, the request can be made again.",
    status = "AccessDecisionStatus",
    derive = "PartialEq",
    shortname = "adec",
    category = "curfew",
    selectable = ".spec.grantRef.name",
    selectable = ".spec.decision",
    printcolumn(name = "Grant", type_ = "string", json_path = ".spec.grantRef.name"),
    printcolumn(name = "Decision", type_ = "string", json_path = ".spec.decision"),
    printcolumn(name = "Decider", type_ = "string", json_path = ".spec.decider.username"),
    printcolumn(
        name = "Verdict",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Counted")].reason"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Counted")].message"#,
        priority = "1"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", priority = "1"),
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("the name of a decision has at most 63 characters")
)]
#[x_kube(
    validation = Rule::new("self == oldSelf")
        .message("a decision cannot be changed: create another one, such as Revoke"),
    validation = Rule::new("has(self.accessHash) == (self.decision == 'Approve')")
        .message("Approve requires accessHash (copy the grant's status.resolved.hash); Deny and Revoke must not have it"),
    validation = Rule::new("has(self.reason) || self.decision == 'Approve'")
        .message("Deny and Revoke require a reason: say why in spec.reason")
)]
pub struct AccessDecisionSpec {
    /// Grant to decide, in the decision's namespace.
    pub grant_ref: GrantRef,
    /// Decision: `Approve`, `Deny` or `Revoke`. `Approve` and `Deny` decide a waiting request; `Revoke` also ends
    /// active access.
    pub decision: DecisionKind,
    /// Hash of the access that you approve: copy `status.resolved.hash` of the grant. Required with `Approve`; must be
    /// unset with `Deny` and `Revoke`. If the access has changed since, the approval does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub access_hash: Option<String>,
    /// User or service account that makes the decision. Leave it out: Kubernetes 1.36 and newer fills it in. On older
    /// versions, copy the output of `kubectl auth whoami`. The API server always checks that it is the account that
    /// creates the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decider: Option<UserInfo>,
    /// Reason for the decision; kept as evidence. Required with `Deny` and `Revoke`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub reason: Option<String>,
}

/// Reference to one [`crate::api::AccessGrant`] in the decision's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantRef {
    /// Name of the grant.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Uid of the grant (`metadata.uid`). A grant that was deleted and recreated is another request.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// Kind of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DecisionKind {
    /// The request may be granted. Only approvers of the policy may decide it.
    Approve,
    /// The request is denied. Only approvers of the policy may decide it, and one Deny is enough.
    Deny,
    /// The access ends now, or is never granted. Requester, subject, approvers of the policy, and anyone with the verb
    /// `revoke` on the grant may decide it.
    Revoke,
}

impl DecisionKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Approve, Self::Deny, Self::Revoke];
}

/// Result of a decision. Curfew writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessDecisionStatus {
    /// Generation of the decision that Curfew evaluated last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    #[schemars(schema_with = "schema_of_conditions")]
    #[allow(missing_docs, reason = "described by its schema")]
    pub conditions: Vec<Condition>,
    /// Request that this Revoke blocks. Set only for the request of a service account, because a tool may recreate it.
    /// Unset: the decision blocks nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub blocks: Option<Blocks>,
}

/// Request that is denied if the same service account makes it again under the same name. Deleting the decision ends
/// the block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Blocks {
    /// User name of the service account that made the request.
    #[schemars(length(max = 253))]
    pub requester: String,
    /// SHA-256 over the spec of the request.
    #[schemars(length(max = 80))]
    pub spec_hash: String,
    /// End of the block: the request's `notAfter` (UTC).
    pub until: MicroTime,
}
