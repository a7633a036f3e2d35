//! `AccessPolicy`: which access people may request, where and for how long. The security team writes it once.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{DurationText, GrantableRule, Principal, schema_of_conditions};

/// Rules for requests: which people get which access, in which namespaces and for how long. Cluster-scoped; written by
/// the security team.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "access.curfew.dev",
    version = "v1alpha1",
    kind = "AccessPolicy",
    doc = "AccessPolicy says who may request which access, in which namespaces and for how long. The security team writes it once.",
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
        .message("paths SelfServe and Manual require approval; path Automatic must not have it"),
    validation = Rule::new(
        "!has(self.approval) || has(self.approval.requiredWhen) == (self.path == 'SelfServe')")
        .message("path SelfServe requires approval.requiredWhen; path Manual must not have it"),
    validation = Rule::new("self.fuse != 'None' || self.entitlements.all(e, !has(e.actAs))")
        .message("fuse None cannot be used with actAs, because only a fuse can own a binding in another namespace: set \
                  fuse to Preferred or Required")
)]
pub struct AccessPolicySpec {
    /// Purpose of the policy, for people who choose among policies. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub description: String,
    /// Namespaces in which grants may name this policy. Required; `{}` selects all namespaces.
    pub namespace_selector: NamespaceSelector,
    /// Users, groups and service accounts that may request access. An entry matches the requester by user name, by any
    /// of the requester's groups, or as a service account.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub requesters: Vec<Principal>,
    /// Users and service accounts, other than the requester, that may receive the access. Default: none; only the
    /// requester may receive it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(validation = Rule::new("self.all(s, s.kind != 'Group')")
        .message("a group cannot receive access, because no one would be accountable: list users or service accounts"))]
    pub subjects: Vec<Principal>,
    /// How a request is decided. `Automatic`: the policy's rules suffice. `SelfServe`: they suffice, unless
    /// `approval.requiredWhen` is true. `Manual`: every request needs approval.
    pub path: Path,
    /// Hours of the week in which access may exist. Access ends when the last open window closes. Default: access may
    /// exist at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub windows: Vec<Window>,
    /// Additional rules (CEL) that a request must meet. Curfew checks them when the request is made and when access
    /// starts, not while access lasts. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub conditions: Vec<RequestCondition>,
    /// Approvers of requests. Required with the paths `Manual` and `SelfServe`; must be unset with `Automatic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalSpec>,
    /// How long access lasts, counted from its start.
    pub duration: DurationLimits,
    /// Demands on the `reason` of a request. Default: any reason of 1 to 1024 characters is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ReasonDemands>,
    /// How many grants may be live, and how many requests may wait, at the same time. Default: one live grant for each
    /// subject and five waiting requests for each requester.
    #[serde(default)]
    #[schemars(extend("default" = {}))]
    pub limits: Limits,
    /// What happens to a live grant if an edited policy would deny it. `Revoke`: the access ends. `Keep`: the access
    /// lasts until its end. Default: `Revoke`.
    #[serde(default)]
    pub on_policy_change: OnChange,
    /// Whether a Job with a deadline (the "fuse") also ends the access, so that it ends even if Curfew is down.
    /// `Required`: access starts only after its fuses are lit (their deadlines run); until then the grant waits.
    /// `Preferred`: access starts at once, also if a fuse cannot be created or is not lit; the condition `Fused` of the
    /// grant then says why. `None`: no fuse is created; not allowed with `actAs`. Default: `Preferred`.
    #[serde(default)]
    pub fuse: FuseDemand,
    /// How long an ended grant stays as a record; afterwards Curfew deletes it. A denied grant stays for 24 hours at
    /// most. Default: `720h` (30 days).
    #[serde(default = "AccessPolicySpec::default_retention")]
    pub retention: DurationText,
    /// Items of access that this policy can hand out. A request names them with `spec.entitlements`.
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub entitlements: Vec<Entitlement>,
}

impl AccessPolicySpec {
    fn default_retention() -> DurationText {
        DurationText::from("720h")
    }

    /// Spec of a policy that grants no access to anyone.
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

/// Selector of namespaces by their labels, with the meaning of a Kubernetes label selector. All requirements must hold;
/// an empty selector selects all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct NamespaceSelector {
    /// Labels that a namespace must have, with exactly these values. To select a namespace by name, use
    /// `kubernetes.io/metadata.name`: users who may label the namespace cannot change that label. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    #[schemars(inner(length(max = 63)))]
    pub match_labels: BTreeMap<String, String>,
    /// Additional requirements on the namespace's labels; all must hold. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<SelectorRequirement>,
}

/// One requirement on the labels of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "(self.operator in ['In','NotIn']) == (has(self.values) && size(self.values) > 0)")
    .message("operators In and NotIn require values; Exists and DoesNotExist must not have them"))]
pub struct SelectorRequirement {
    /// Key of the label.
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// Comparison of the label with `values`: `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: SelectorOperator,
    /// Values to compare with. Required with `In` and `NotIn`; must be unset with `Exists` and `DoesNotExist`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)), extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<String>,
}

/// Comparison of a [`SelectorRequirement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectorOperator {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The namespace has the label.
    Exists,
    /// The namespace does not have the label.
    DoesNotExist,
}

/// How a request is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Path {
    /// The policy's rules suffice; no approval is needed.
    Automatic,
    /// The policy's rules suffice, unless `approval.requiredWhen` is true: then approval is needed.
    SelfServe,
    /// Every request needs approval.
    Manual,
}

/// Hours of the week in which access may exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from != self.to").message("a window needs a length: from and to are equal"))]
pub struct Window {
    /// Name of the window. Messages use it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// IANA time zone of `from`, `to` and `days`, such as `Europe/Berlin` or `UTC`.
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// Days on which the window opens. Default: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub days: Vec<Day>,
    /// Local time at which the window opens, as `HH:MM`.
    #[schemars(length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// Local time at which the window closes, as `HH:MM` or `24:00`. A time before `from` is on the next day; a time
    /// equal to `from` is not allowed.
    #[schemars(length(max = 5), regex(pattern = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"))]
    pub to: String,
}

/// Day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are weekdays")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Additional rule (CEL) that a request must meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestCondition {
    /// Name of the condition. Messages use it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// CEL expression that must be true, such as `request.reason.matches('PAY-[0-9]+')`. A pattern may match anywhere
    /// in the text; to match the whole text, write `^` and `$`. An expression that cannot be evaluated counts as not
    /// met: for example if it reads a label that does not exist, or takes more than 100,000 steps.
    ///
    /// Variables: `request` (`name`, `reason`, `duration`, `notAfter` if it is set, `references` with `type` and `id`,
    /// `entitlements` by name), `requester` (`username`, `groups`), `subject` (`kind`, `name`, and `namespace` of a
    /// service account), `namespaceObject` (`name`, `labels`), `policy` (`name`, `labels`) and `now`.
    ///
    /// Functions: `has`, `size`, `contains`, `startsWith`, `endsWith`, `matches`, `duration`, `timestamp`, `all`,
    /// `exists`, `exists_one`, `filter`, `map`, and parts of times such as `now.getHours('Europe/Berlin')`.
    #[schemars(length(min = 1, max = 2048))]
    pub expression: String,
    /// Message for a requester whose request does not meet the condition. Say what the requester must do.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub message: String,
}

/// Approvers of requests, and when and how long they are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalSpec {
    /// CEL expression; approval is required if it is true. Example: `request.duration > duration('1h')`. The variables
    /// and functions are those of `conditions`. If the expression cannot be evaluated, approval is required. Required
    /// with path `SelfServe`; must be unset with `Manual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub required_when: Option<String>,
    /// How long a request waits for approval, counted from its creation; then it is denied. Approvers may have less
    /// time: the request's `notAfter` and the end of the window also end the wait. Default: `1h`.
    #[serde(default = "ApprovalSpec::default_timeout")]
    pub timeout: DurationText,
    /// Stages of approval. Curfew asks one stage after the other. Each person counts once over all stages. Requester
    /// and subject never count.
    #[schemars(length(min = 1, max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub stages: Vec<ApprovalStage>,
}

impl ApprovalSpec {
    fn default_timeout() -> DurationText {
        DurationText::from("1h")
    }
}

/// Group of approvers, and how many of them must approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalStage {
    /// Name of the stage. Messages and records use it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[^\p{Cc}\p{Cf}]+$"))]
    pub name: String,
    /// How many of the approvers must approve. Default: 1.
    #[serde(default = "ApprovalStage::one")]
    #[schemars(range(min = 1, max = 16))]
    pub required: u8,
    /// Users and groups that may approve, deny and revoke. Service accounts are not allowed.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(validation = Rule::new("self.all(a, a.kind != 'ServiceAccount')")
        .message("approvers must be users or groups: anyone who may edit a namespace can act as its service accounts"))]
    pub approvers: Vec<Principal>,
}

impl ApprovalStage {
    const fn one() -> u8 {
        1
    }
}

/// How long access lasts, counted from its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.default) || ![self.default, self.max].all(d, d.matches('^([0-9]{1,5}(h|m|s)){1,3}$')) || duration(self.default) <= duration(self.max)")
    .message("default must not exceed max"))]
pub struct DurationLimits {
    /// Duration of a request that sets none. Default: `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<DurationText>,
    /// Longest duration that a request may ask for. The operator's `--max-duration` limits it as well.
    pub max: DurationText,
}

/// Demands on the `reason` of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReasonDemands {
    /// Fewest characters of the reason, without surrounding white space. Default: no demand beyond the schema's 1
    /// character.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub min_length: Option<u16>,
    /// Regular expression (RE2 syntax) that must match the whole reason. Default: every reason matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub pattern: Option<String>,
}

/// How many grants may be live, and how many requests may wait, at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Most live grants of this policy for one subject, over all namespaces. A request beyond it is denied. Default: 1,
    /// so a subject has one live grant at a time.
    #[serde(default = "Limits::one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub active_per_subject: u16,
    /// Most requests of one requester under this policy that wait for approval or for their start time, over all
    /// namespaces. Default: 5.
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

/// What happens to live access if its policy, role or service account changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnChange {
    /// The access ends.
    #[default]
    Revoke,
    /// The access lasts until its end.
    Keep,
}

/// Named item of access. Exactly one of `role`, `rules` and `actAs` must be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.role), has(self.rules), has(self.actAs)].exists_one(given, given)")
        .message("set exactly one of role, rules and actAs"),
    validation = Rule::new(
        "!(self.selection == 'Default' && has(self.rules) && self.rules.narrowing == 'Required')")
        .message("selection Default cannot be used with narrowing Required: a request that names no entitlement would always be denied")
)]
pub struct Entitlement {
    /// Name of the entitlement. A request asks for it by this name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Whether a request that names no entitlement gets this entitlement. `Default`: yes. `OnRequest`: only a request
    /// that names it. Default: `OnRequest`.
    #[serde(default)]
    pub selection: Selection,
    /// Existing Role or ClusterRole. Curfew binds it unchanged, in the grant's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleEntitlement>,
    /// Rules written in this policy. Curfew creates a Role with them for each grant, and deletes the Role when access
    /// ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<RulesEntitlement>,
    /// Service account to act as (`kubectl --as`), for access that a binding in one namespace cannot give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act_as: Option<ActAsEntitlement>,
}

/// Demand of a policy on fuses, the Jobs that end access even if Curfew is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FuseDemand {
    /// Access starts only after its fuses are lit.
    Required,
    /// Fuses are created; access starts also if a fuse cannot be created or is not lit.
    #[default]
    Preferred,
    /// No fuse is created.
    None,
}

/// Whether a request that names no entitlement gets this entitlement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Selection {
    /// A request that names no entitlement gets it.
    Default,
    /// Only a request that names it gets it.
    #[default]
    OnRequest,
}

/// Existing Role or ClusterRole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.name.startsWith('system:')").message("system: roles cannot be granted"))]
pub struct RoleEntitlement {
    /// Kind of the role. `ClusterRole`, or `Role` for the Role of that name in the grant's namespace.
    pub kind: RoleKind,
    /// Name of the role. Names that start with `system:` are not allowed.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// What happens to live access if the rules of the role change. `Revoke`: the access ends. `Keep`: the access lasts
    /// until its end. Default: `Revoke`.
    #[serde(default)]
    pub on_change: OnChange,
    /// Whether this role may be handed out if it can be used to gain more access: its rules contain wildcard verbs,
    /// `bind`, `escalate` or `impersonate`. The holder of such a role can create access that outlives the grant. The
    /// built-in roles `edit` and `admin` are such roles. `Refuse`: a request for such a role is denied. `Allow`: it is
    /// handed out. Default: `Refuse`.
    #[serde(default)]
    pub escalation: Escalation,
}

/// Whether a role that can be used to gain more access may be handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Escalation {
    /// A request for such a role is denied.
    #[default]
    Refuse,
    /// Such a role is handed out.
    Allow,
}

/// Service account to act as (`kubectl --as`). The owner of the policy binds its rights to it once. A grant gives its
/// subject only the right to act as it. The API server audits each request under both names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActAsEntitlement {
    /// Name of the service account, in the namespace for act-as accounts (default `curfew-identities`). A ClusterRole
    /// `curfew-act-as-<name>` must exist as well; it must allow only to impersonate this service account.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub service_account: String,
    /// What happens to live access if that ClusterRole changes, or the service account is deleted or recreated.
    /// `Revoke`: the access ends. `Keep`: the access lasts until its end. Default: `Revoke`.
    #[serde(default)]
    pub on_change: OnChange,
}

/// Kind of an existing role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum RoleKind {
    /// ClusterRole, bound in the grant's namespace.
    ClusterRole,
    /// Role in the grant's namespace.
    Role,
}

/// Rules written in the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RulesEntitlement {
    /// Whether a request must limit the rules to named objects (`resourceNames`). `Optional`: it may. `Required`: it
    /// must. `Forbidden`: it must not. Default: `Optional`.
    #[serde(default)]
    pub narrowing: Narrowing,
    /// Rules that the policy offers.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub items: Vec<GrantableRule>,
}

/// Whether a request limits the rules to named objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Narrowing {
    /// The request may name objects.
    #[default]
    Optional,
    /// The request must name objects.
    Required,
    /// The request must not name objects.
    Forbidden,
}

/// State of a policy. Curfew writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessPolicyStatus {
    /// Generation of the policy that Curfew checked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Number of live grants of this policy: recorded as granted and not ended.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub live_grants: u32,
    #[serde(default)]
    #[schemars(schema_with = "schema_of_conditions")]
    #[allow(missing_docs, reason = "described by its schema")]
    pub conditions: Vec<Condition>,
}
