//! RBAC rules: of a policy, and as recorded in a grant's status.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// RBAC rule that a policy hands out. It means the same as in a Role. Not allowed are the verbs `*`, `bind`, `escalate`,
/// `impersonate`, `approve` and `sign`, and verbs that start with `impersonate:` or `impersonate-on:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!self.verbs.exists(v, v in ['*','bind','escalate','impersonate','approve','sign'] || v.startsWith('impersonate:') || v.startsWith('impersonate-on:'))")
    .message("verbs '*', bind, escalate, impersonate, approve and sign cannot be granted"))]
pub struct GrantableRule {
    /// API groups of the resources. `""` is the core group.
    #[schemars(length(min = 1, max = 16), inner(length(max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub api_groups: Vec<String>,
    /// Resources, such as `pods`, or `pods/exec` for a subresource.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub resources: Vec<String>,
    /// Verbs, each by name.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 63)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub verbs: Vec<String>,
    /// Names of the objects to which the rule is limited. Default: all objects of the resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub resource_names: Vec<String>,
}

/// RBAC rule of the effective access of a grant.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// API groups of the resources. `""` is the core group. Empty for a rule about URLs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub api_groups: Vec<String>,
    /// Resources, such as `pods`, or `pods/exec` for a subresource. Empty for a rule about URLs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub resources: Vec<String>,
    /// Verbs, each by name.
    #[schemars(length(max = 64), inner(length(max = 63)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub verbs: Vec<String>,
    /// Names of the objects to which the rule is limited. Empty: all objects of the resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub resource_names: Vec<String>,
    /// URLs that are not resources. They take effect only in cluster-wide bindings, which Curfew never creates.
    #[serde(default, rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub non_resource_urls: Vec<String>,
}

impl From<&GrantableRule> for Rule {
    fn from(rule: &GrantableRule) -> Self {
        Self {
            api_groups: rule.api_groups.clone(),
            resources: rule.resources.clone(),
            verbs: rule.verbs.clone(),
            resource_names: rule.resource_names.clone(),
            non_resource_urls: Vec::new(),
        }
    }
}
