//! `AccessDecision`: one person's word on one grant.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{UserInfo, schema_of_conditions};

/// One person's word on one grant. Never edited; deleting it changes nothing that was decided.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "access.curfew.dev",
    version = "v1alpha1",
    kind = "AccessDecision",
    namespaced,
    doc = "AccessDecision is one person's word on one grant: Approve, Deny or Revoke. It is never edited.",
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
        .message("a decision is never edited: make another one, such as Revoke"),
    validation = Rule::new("has(self.accessHash) == (self.decision == 'Approve')")
        .message("accessHash goes with Approve and only with it: what was looked at, the grant's status.resolved.hash"),
    validation = Rule::new("has(self.reason) || self.decision == 'Approve'")
        .message("to deny or revoke, say why in reason")
)]
pub struct AccessDecisionSpec {
    /// The grant that is decided.
    pub grant_ref: GrantRef,
    /// `Approve`, `Deny` or `Revoke`.
    pub decision: DecisionKind,
    /// Hash of the access that the decider saw, the grant's `status.resolved.hash`. Required to approve: an approval
    /// of something else does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub access_hash: Option<String>,
    /// Who decides. Filled in by the API server where it can (1.36 and newer), checked by it always: it must be
    /// exactly whoever creates the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decider: Option<UserInfo>,
    /// Why; recorded as evidence. Required to deny and to revoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub reason: Option<String>,
}

/// Names one [`super::AccessGrant`] of the decision's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantRef {
    /// Name of the grant.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Uid of the grant: a grant that was deleted and made again is another request.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DecisionKind {
    /// The access may be given. An approver of the policy says so.
    Approve,
    /// It must not be given. One approver suffices.
    Deny,
    /// It ends now, or is not given. The requester, the subject, an approver of the policy, or whoever holds the verb
    /// `revoke` on the grant says so.
    Revoke,
}

impl DecisionKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Approve, Self::Deny, Self::Revoke];
}

/// What Curfew made of a decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessDecisionStatus {
    /// Generation of the decision that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    #[schemars(schema_with = "schema_of_conditions")]
    #[allow(missing_docs, reason = "described by its schema")]
    pub conditions: Vec<Condition>,
    /// The request that a Revoke stands against, where automation would only ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub stands_against: Option<StandsAgainst>,
}

/// A request that is refused when the same automation makes it again under the same name. Deleting the decision lifts
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StandsAgainst {
    /// User name of the automation.
    #[schemars(length(max = 253))]
    pub requester: String,
    /// SHA-256 over the spec of the request.
    #[schemars(length(max = 80))]
    pub spec_hash: String,
    /// Until when: the request's `notAfter` (UTC).
    pub until: MicroTime,
}
