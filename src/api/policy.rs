//! `AccessPolicy`: written once by the security team, says who may have what, where and for how long.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DurationText, GrantableRule, Principal, schema_of_conditions};

/// Who may have what, where and for how long. Cluster-scoped; written by the security team.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "access.curfew.dev",
    version = "v1alpha1",
    kind = "AccessPolicy",
    doc = "AccessPolicy says who may have what access, in which namespaces and for how long.",
    status = "AccessPolicyStatus",
    derive = "PartialEq",
    shortname = "apol",
    category = "curfew",
    printcolumn(name = "Path", type_ = "string", json_path = ".spec.path"),
    printcolumn(name = "Max", type_ = "string", json_path = ".spec.duration.max"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Live", type_ = "integer", json_path = ".status.liveGrants"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Description",
        type_ = "string",
        json_path = ".spec.description",
        priority = "1"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = "1"
    )
)]
#[x_kube(
    validation = Rule::new("has(self.approval) == (self.path != 'Automatic')")
        .message("paths SelfServe and Manual need approval, and path Automatic has none"),
    validation = Rule::new(
        "!has(self.approval) || has(self.approval.requiredWhen) == (self.path == 'SelfServe')")
        .message("approval.requiredWhen goes with path SelfServe, which needs it, and with no other"),
    validation = Rule::new("self.fuse != 'None' || self.entitlements.all(e, !has(e.actAs))")
        .message("fuse None does not go with actAs: nothing else would hold that binding, which a grant in another \
                  namespace cannot own; say Preferred or Required")
)]
pub struct AccessPolicySpec {
    /// What the policy is for, for those who choose among policies.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub description: String,
    /// Namespaces in which grants may name this policy. Must be given; `{}` selects all of them.
    pub namespace_selector: NamespaceSelector,
    /// Who may ask. A requester matches by user name, by any of their groups, or as service account.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub requesters: Vec<Principal>,
    /// Who, other than the requester, may receive the access: users and service accounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(validation = Rule::new("self.all(s, s.kind != 'Group')")
        .message("a group cannot receive access: nobody would be accountable"))]
    pub subjects: Vec<Principal>,
    /// How a request is decided. `Automatic`: this policy suffices. `SelfServe`: it suffices unless
    /// `approval.requiredWhen` asks for people. `Manual`: people approve every request.
    pub path: Path,
    /// Times at which access may exist. None given: always. Access ends when the last open window closes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub windows: Vec<Window>,
    /// What has to be true of a request besides, judged when it is asked and when the access comes into force, not
    /// while it lasts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub conditions: Vec<RequestCondition>,
    /// Who approves requests, with path `Manual`, and with `SelfServe` when `requiredWhen` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// How long access lasts.
    pub duration: DurationLimits,
    /// What the reason of a request must look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ReasonDemands>,
    /// How many grants may be live, and how many may wait, at once.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub limits: Limits,
    /// What happens to a live grant that this policy, once edited, would refuse.
    #[serde(default)]
    pub on_policy_change: OnChange,
    /// Whether access hangs on fuses, Jobs at whose deadline Kubernetes itself removes it, be the operator alive or
    /// not. `Required`: it is given only once its fuses are lit, and waits until then. `Preferred`: it is given at
    /// once; where a fuse cannot be made or is not lit, the condition `Fused` of the grant says so. `None`: without.
    #[serde(default)]
    pub fuse: FuseDemand,
    /// How long an ended grant stays as a record; a denied one stays a day at most.
    #[serde(default = "AccessPolicySpec::default_retention")]
    pub retention: DurationText,
    /// The items of access this policy can hand out.
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub entitlements: Vec<Entitlement>,
}

impl AccessPolicySpec {
    fn default_retention() -> DurationText {
        DurationText::from("720h")
    }

    /// Of a policy that gives nobody anything.
    pub(crate) fn nothing() -> Self {
        Self {
            description: String::new(),
            namespace_selector: NamespaceSelector::default(),
            requesters: Vec::new(),
            subjects: Vec::new(),
            path: Path::Manual,
            windows: Vec::new(),
            conditions: Vec::new(),
            approval: None,
            duration: DurationLimits {
                default: None,
                max: DurationText::from("0s"),
            },
            reason: None,
            limits: Limits::default(),
            on_policy_change: OnChange::default(),
            fuse: FuseDemand::default(),
            retention: Self::default_retention(),
            entitlements: Vec::new(),
        }
    }
}

/// Namespaces by label, with the meaning of a Kubernetes label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct NamespaceSelector {
    /// Labels a namespace must carry with exactly these values. `kubernetes.io/metadata.name` selects by name
    /// and cannot be changed by whoever may label the namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    #[schemars(inner(length(max = 63)))]
    pub match_labels: BTreeMap<String, String>,
    /// Further demands on labels; all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<SelectorRequirement>,
}

/// One demand on the labels of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "(self.operator in ['In','NotIn']) == (has(self.values) && size(self.values) > 0)")
    .message("values go with operators In and NotIn, and only with them"))]
pub struct SelectorRequirement {
    /// Label key.
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: SelectorOperator,
    /// Values for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)), extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<String>,
}

/// How a [`SelectorRequirement`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectorOperator {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// How a request is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Path {
    /// The policy suffices; nobody is asked.
    Automatic,
    /// The policy suffices, unless its `approval.requiredWhen` asks for people.
    SelfServe,
    /// People approve every request.
    Manual,
}

/// A weekly recurring time at which access may exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from != self.to").message("a window needs a length: from and to are equal"))]
pub struct Window {
    /// Name of the window, for messages.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// IANA time zone in which `from` and `to` are read, such as `Europe/Berlin` or `UTC`.
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// Days on which the window opens. None given: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub days: Vec<Day>,
    /// Local time at which it opens, `HH:MM`.
    #[schemars(length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// Local time at which it closes, `HH:MM` or `24:00`; not after `from` means on the next day.
    #[schemars(length(max = 5), regex(pattern = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"))]
    pub to: String,
}

/// Day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "each says itself")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Something that has to be true of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestCondition {
    /// Name of the condition, for messages.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// What has to be true, in CEL, such as `request.reason.matches('PAY-[0-9]+')` (the pattern may match anywhere;
    /// write `^` and `$` for the whole). What it can name: `request` (`name`, `reason`, `duration`, `notAfter` where
    /// it is given, `references` with `type` and `id`, `entitlements` by name), `requester` (`username`, `groups`),
    /// `subject` (`kind`, `name`, and `namespace` of a service account), `namespaceObject` (`name`, `labels`),
    /// `policy` (`name`, `labels`) and `now`. Functions: `has`, `size`, `contains`, `startsWith`, `endsWith`,
    /// `matches`, `duration`, `timestamp`, `all`, `exists`, `exists_one`, `filter`, `map`, and parts of times such as
    /// `now.getHours('Europe/Berlin')`. A condition that cannot be judged, because it asks for a label that is not
    /// there or takes more than 100,000 steps, counts as not met.
    #[schemars(length(min = 1, max = 2048))]
    pub expression: String,
    /// What to tell a requester who does not meet it: what to do.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub message: String,
}

/// Who approves requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// When people are asked, in CEL, such as `request.duration > duration('1h')`; it can name what conditions can.
    /// What cannot be judged asks for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub required_when: Option<String>,
    /// How long a request waits for people, from its creation; then it is denied.
    #[serde(default = "Approval::default_timeout")]
    pub timeout: DurationText,
    /// Who has to approve, one stage after the other. Over all stages, each person counts once, and neither
    /// requester nor subject do.
    #[schemars(length(min = 1, max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub stages: Vec<ApprovalStage>,
}

impl Approval {
    fn default_timeout() -> DurationText {
        DurationText::from("1h")
    }
}

/// Some people, of whom some have to approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalStage {
    /// Name of the stage, for messages and records.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub name: String,
    /// How many of its approvers have to approve.
    #[serde(default = "ApprovalStage::one")]
    #[schemars(range(min = 1, max = 16))]
    pub required: u8,
    /// Who may approve, deny and revoke: users and groups.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(validation = Rule::new("self.all(a, a.kind != 'ServiceAccount')")
        .message("approvers are people: whoever may edit a namespace can act as a service account of it"))]
    pub approvers: Vec<Principal>,
}

impl ApprovalStage {
    const fn one() -> u8 {
        1
    }
}

/// How long access lasts, from its activation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.default) || ![self.default, self.max].all(d, d.matches('^([0-9]{1,5}(h|m|s)){1,3}$')) || duration(self.default) <= duration(self.max)")
    .message("default must not exceed max"))]
pub struct DurationLimits {
    /// Used when a request names none. Without it, `max` is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<DurationText>,
    /// The longest a request may ask for. The operator's own cap bounds it too.
    pub max: DurationText,
}

/// What the reason of a request must look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReasonDemands {
    /// Fewest characters, after surrounding white space is taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub min_length: Option<u16>,
    /// Regular expression (RE2 syntax) that the whole reason must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub pattern: Option<String>,
}

/// How many grants may be live, and how many may wait, at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Most live grants of this policy for one subject, over all namespaces.
    #[serde(default = "Limits::one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub active_per_subject: u16,
    /// Most requests of one requester under this policy that wait at once, for people or for their time, over all
    /// namespaces.
    #[serde(default = "Limits::five")]
    #[schemars(range(min = 1, max = 10_000))]
    pub pending_per_requester: u16,
}

impl Limits {
    const fn one() -> u16 {
        1
    }

    const fn five() -> u16 {
        5
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            active_per_subject: Self::one(),
            pending_per_requester: Self::five(),
        }
    }
}

/// What happens to live access when what it rests on changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnChange {
    /// End it.
    #[default]
    Revoke,
    /// Let it run to its end.
    Keep,
}

/// One named item of access: exactly one of `role`, `rules` and `actAs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.role), has(self.rules), has(self.actAs)].exists_one(given, given)")
        .message("exactly one of role, rules and actAs"),
    validation = Rule::new(
        "!(self.selection == 'Default' && has(self.rules) && self.rules.narrowing == 'Required')")
        .message("what must be narrowed cannot be given by default: a request that names nothing would always be refused")
)]
pub struct Entitlement {
    /// Name by which a request asks for it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Whether a request that names no entitlement gets this one.
    #[serde(default)]
    pub selection: Selection,
    /// An existing role, bound as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleEntitlement>,
    /// Rules of the policy's own, made into a Role for the grant and removed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<RulesEntitlement>,
    /// A service account to act as, for access that no binding in a namespace can give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act_as: Option<ActAsEntitlement>,
}

/// What is demanded of the fuses of access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FuseDemand {
    /// They are lit before there is access.
    Required,
    /// They are made, and access is given also where that cannot be.
    #[default]
    Preferred,
    /// There are none.
    None,
}

/// Whether an entitlement is given without being asked for by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Selection {
    /// Given when the request names no entitlement.
    Default,
    /// Given only when named.
    #[default]
    OnRequest,
}

/// An existing role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.name.startsWith('system:')").message("system: roles cannot be granted"))]
pub struct RoleEntitlement {
    /// `ClusterRole`, or `Role` for a role of that name in the grant's namespace.
    pub kind: RoleKind,
    /// Name of the role.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// What happens to live access when the role's rules change.
    #[serde(default)]
    pub on_change: OnChange,
    /// Whether a role may be handed out whose rules hold wildcard verbs, `bind`, `escalate` or `impersonate`:
    /// its holder can make access that outlives the grant. The built-in `edit` and `admin` are such roles.
    #[serde(default)]
    pub escalation: Escalation,
}

/// Whether a role that can be used to gain more access may be handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Escalation {
    /// Such a role is refused.
    #[default]
    Refuse,
    /// Such a role is handed out knowingly.
    Allow,
}

/// A service account to act as (`kubectl --as`). Its rights are bound to it once, by whoever owns the policy; a grant
/// gives its subject the right to act as it, and nothing else. What is done so, the API server audits under both names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActAsEntitlement {
    /// Name of the service account, in the namespace of identities (`curfew-identities`). The ClusterRole
    /// `curfew-act-as-<name>`, which allows to impersonate it and nothing else, must exist as well.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub service_account: String,
    /// What happens to live access when that ClusterRole changes, or the service account is made again.
    #[serde(default)]
    pub on_change: OnChange,
}

/// Kind of an existing role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum RoleKind {
    /// A `ClusterRole`, bound in the grant's namespace.
    ClusterRole,
    /// A `Role` of the grant's namespace.
    Role,
}

/// Rules of the policy's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RulesEntitlement {
    /// Whether a request may, must or must not name the objects it needs (`resourceNames`).
    #[serde(default)]
    pub narrowing: Narrowing,
    /// The rules offered.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub items: Vec<GrantableRule>,
}

/// Whether a request names the objects it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Narrowing {
    /// It may.
    #[default]
    Optional,
    /// It must.
    Required,
    /// It must not.
    Forbidden,
}

/// What Curfew observed of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicyStatus {
    /// Generation of the policy that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many grants of this policy are live: recorded as granted and not ended.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub live_grants: u32,
    #[serde(default)]
    #[schemars(schema_with = "schema_of_conditions")]
    #[allow(missing_docs, reason = "described by its schema")]
    pub conditions: Vec<Condition>,
}
