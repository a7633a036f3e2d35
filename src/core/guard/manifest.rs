//! Guards as objects of the API server.
//!
//! Each field that the API server would default is set, so the `spec` that is read back equals the `spec` that was
//! written. The types are those of k8s-openapi, so a misspelt field does not compile.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicyBindingSpec,
    ValidatingAdmissionPolicySpec, Validation, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde::Serialize;
use serde_json::json;

use crate::api::GRANT_UID_LABEL;
use crate::core::guard::{Guard, GuardKind, named};

const API_VERSION: &str = "admissionregistration.k8s.io/v1";

/// Label that the API server sets on each namespace: its name.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A `ValidatingAdmissionPolicy` and its binding.
///
/// `failurePolicy` is always `Fail`: a request is denied if an expression cannot be evaluated.
#[derive(Default)]
pub(super) struct Validating {
    /// Name of the policy without the prefix `curfew-`.
    pub(super) name: &'static str,
    /// Labels of the objects that it applies to. It applies if the new or the old object has them.
    pub(super) objects: LabelSelector,
    /// Labels of the namespaces that it applies to.
    pub(super) namespaces: LabelSelector,
    /// Operations and resources that it applies to.
    pub(super) rules: Vec<NamedRuleWithOperations>,
    /// Name and CEL expression. It applies only to requests for which each of them is true.
    pub(super) conditions: Vec<(&'static str, String)>,
    /// Name and CEL expression. A variable may use the variables before it; it is computed when first used.
    pub(super) variables: Vec<(String, String)>,
    /// Each of them must be true, or the request is denied.
    pub(super) validations: Vec<Validation>,
}

impl Validating {
    /// The policy and its binding.
    pub(super) fn guards(self) -> [Guard; 2] {
        let name = named(self.name);
        let variables: Vec<_> = self
            .variables
            .into_iter()
            .map(|(name, expression)| Variable { expression, name })
            .collect();
        let policy = ValidatingAdmissionPolicySpec {
            failure_policy: Some("Fail".to_owned()),
            match_constraints: Some(constraints(self.objects, self.namespaces, self.rules)),
            match_conditions: unless_empty(match_conditions(self.conditions)),
            variables: unless_empty(variables),
            validations: Some(self.validations),
            ..ValidatingAdmissionPolicySpec::default()
        };
        let binding = ValidatingAdmissionPolicyBindingSpec {
            policy_name: Some(name.clone()),
            validation_actions: Some(vec!["Deny".to_owned()]),
            ..ValidatingAdmissionPolicyBindingSpec::default()
        };
        [
            guard(GuardKind::ValidatingPolicy, &name, &policy),
            guard(GuardKind::ValidatingBinding, &name, &binding),
        ]
    }
}

/// Spec of a `MutatingAdmissionPolicy` of version v1, which k8s-openapi has from its feature `v1_36` on. A test
/// compares it with the v1alpha1 type, which has the same fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MutatingPolicySpec {
    failure_policy: &'static str,
    reinvocation_policy: &'static str,
    match_constraints: MatchResources,
    match_conditions: Vec<MatchCondition>,
    mutations: Vec<Mutation>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Mutation {
    patch_type: &'static str,
    json_patch: JsonPatch,
}

#[derive(Serialize)]
struct JsonPatch {
    expression: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MutatingBindingSpec {
    policy_name: String,
}

/// A `MutatingAdmissionPolicy` with one JSON patch, and its binding. `condition` is a name and a CEL expression.
pub(super) fn patching(
    name: &str,
    rule: NamedRuleWithOperations,
    condition: (&'static str, String),
    patch: String,
) -> [Guard; 2] {
    let name = named(name);
    let policy = MutatingPolicySpec {
        failure_policy: "Fail",
        reinvocation_policy: "Never",
        match_constraints: constraints(everything(), everything(), vec![rule]),
        match_conditions: match_conditions([condition]),
        mutations: vec![Mutation {
            patch_type: "JSONPatch",
            json_patch: JsonPatch { expression: patch },
        }],
    };
    let binding = MutatingBindingSpec {
        policy_name: name.clone(),
    };
    [
        guard(GuardKind::MutatingPolicy, &name, &policy),
        guard(GuardKind::MutatingBinding, &name, &binding),
    ]
}

/// Selector that matches each object.
pub(super) fn everything() -> LabelSelector {
    LabelSelector::default()
}

/// Selector of the objects that carry Curfew's label.
pub(super) fn ours() -> LabelSelector {
    by_label(GRANT_UID_LABEL, "Exists", None)
}

/// Selector of the objects that do not carry Curfew's label.
pub(super) fn not_ours() -> LabelSelector {
    by_label(GRANT_UID_LABEL, "DoesNotExist", None)
}

/// Selector of one namespace.
pub(super) fn only_namespace(name: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some([(NAMESPACE_NAME_LABEL.to_owned(), name.to_owned())].into()),
        ..LabelSelector::default()
    }
}

/// Selector of all namespaces but these.
pub(super) fn namespaces_except(names: &[&str]) -> LabelSelector {
    by_label(NAMESPACE_NAME_LABEL, "NotIn", Some(owned(names)))
}

/// Rule for these operations on these resources, in every scope.
pub(super) fn requests(
    group: &str,
    version: &str,
    operations: &[&str],
    resources: &[&str],
) -> NamedRuleWithOperations {
    NamedRuleWithOperations {
        api_groups: Some(owned(&[group])),
        api_versions: Some(owned(&[version])),
        operations: Some(owned(operations)),
        resources: Some(owned(resources)),
        scope: Some("*".to_owned()),
        ..NamedRuleWithOperations::default()
    }
}

/// Validation: the CEL expression must be true; `message` is for the person whose request is denied.
pub(super) fn demand(expression: impl Into<String>, message: impl Into<String>) -> Validation {
    Validation {
        expression: expression.into(),
        message: Some(message.into()),
        message_expression: None,
        reason: Some("Forbidden".to_owned()),
    }
}

/// Like [`demand`], with a CEL expression that gives the message.
pub(super) fn demand_saying(expression: impl Into<String>, message: impl Into<String>) -> Validation {
    Validation {
        expression: expression.into(),
        message: None,
        message_expression: Some(message.into()),
        reason: Some("Forbidden".to_owned()),
    }
}

fn by_label(key: &str, operator: &str, values: Option<Vec<String>>) -> LabelSelector {
    LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values,
        }]),
        ..LabelSelector::default()
    }
}

fn constraints(
    objects: LabelSelector,
    namespaces: LabelSelector,
    rules: Vec<NamedRuleWithOperations>,
) -> MatchResources {
    MatchResources {
        match_policy: Some("Equivalent".to_owned()),
        namespace_selector: Some(namespaces),
        object_selector: Some(objects),
        resource_rules: Some(rules),
        ..MatchResources::default()
    }
}

fn match_conditions(conditions: impl IntoIterator<Item = (&'static str, String)>) -> Vec<MatchCondition> {
    conditions
        .into_iter()
        .map(|(name, expression)| MatchCondition {
            expression,
            name: name.to_owned(),
        })
        .collect()
}

/// The API server drops empty lists, so a guard must not have any.
fn unless_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn guard(kind: GuardKind, name: &str, spec: &impl Serialize) -> Guard {
    Guard {
        kind,
        name: name.to_owned(),
        manifest: json!({
            "apiVersion": API_VERSION,
            "kind": kind.name(),
            "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "curfew"}},
            "spec": spec,
        }),
    }
}
