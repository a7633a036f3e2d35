//! Guards as the objects the API server reads. Every field that it would fill in is stated: what is read back equals
//! what was written.

use serde_json::{Map, Value, json};

use super::{Guard, GuardKind, named};
use crate::api::GRANT_UID_LABEL;

const API_VERSION: &str = "admissionregistration.k8s.io/v1";

/// A `ValidatingAdmissionPolicy`, always with `failurePolicy: Fail`: what cannot be judged is refused.
pub(super) struct Validating {
    /// What follows `curfew-` in its name.
    pub(super) name: &'static str,
    /// Objects it looks at, by their labels: the new one or the old one.
    pub(super) objects: Value,
    /// Namespaces it looks at, by their labels.
    pub(super) namespaces: Value,
    /// Requests it looks at.
    pub(super) rules: Vec<Value>,
    /// It looks at nothing for which one of these is false.
    pub(super) conditions: Vec<(&'static str, String)>,
    /// Values with a name; computed when first used, in this order.
    pub(super) variables: Vec<(String, String)>,
    /// What has to hold.
    pub(super) validations: Vec<Value>,
}

impl Default for Validating {
    fn default() -> Self {
        Self {
            name: "",
            objects: everything(),
            namespaces: everything(),
            rules: Vec::new(),
            conditions: Vec::new(),
            variables: Vec::new(),
            validations: Vec::new(),
        }
    }
}

impl Validating {
    /// The policy and its binding.
    pub(super) fn guards(self) -> [Guard; 2] {
        let name = named(self.name);
        let mut spec = Map::new();
        spec.insert("failurePolicy".to_owned(), json!("Fail"));
        spec.insert(
            "matchConstraints".to_owned(),
            constraints(&self.objects, &self.namespaces, &self.rules),
        );
        // The API server leaves out lists that are empty.
        if !self.conditions.is_empty() {
            spec.insert("matchConditions".to_owned(), pairs(self.conditions));
        }
        if !self.variables.is_empty() {
            spec.insert("variables".to_owned(), pairs(self.variables));
        }
        spec.insert("validations".to_owned(), Value::Array(self.validations));
        [
            guard(GuardKind::ValidatingPolicy, &name, &Value::Object(spec)),
            guard(
                GuardKind::ValidatingBinding,
                &name,
                &json!({"policyName": name, "validationActions": ["Deny"]}),
            ),
        ]
    }
}

/// A `MutatingAdmissionPolicy` on these requests, with one JSON patch, and its binding.
pub(super) fn patching(name: &str, rules: &[Value], condition: (&str, &str), patch: &str) -> [Guard; 2] {
    let name = named(name);
    let spec = json!({
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": constraints(&everything(), &everything(), rules),
        "matchConditions": pairs([condition]),
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
    });
    [
        guard(GuardKind::MutatingPolicy, &name, &spec),
        guard(GuardKind::MutatingBinding, &name, &json!({"policyName": name})),
    ]
}

/// A selector that leaves nothing out.
pub(super) fn everything() -> Value {
    json!({})
}

/// Objects that carry our label.
pub(super) fn ours() -> Value {
    json!({"matchExpressions": [{"key": GRANT_UID_LABEL, "operator": "Exists"}]})
}

/// Objects that do not carry our label.
pub(super) fn not_ours() -> Value {
    json!({"matchExpressions": [{"key": GRANT_UID_LABEL, "operator": "DoesNotExist"}]})
}

/// Requests of these operations on these resources, in every scope.
pub(super) fn requests(group: &str, version: &str, operations: &[&str], resources: &[&str]) -> Value {
    json!({
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": operations,
        "resources": resources,
        "scope": "*",
    })
}

/// What has to hold, and the sentence for whoever is refused.
pub(super) fn demand(expression: impl Into<String>, message: impl Into<String>) -> Value {
    json!({"expression": expression.into(), "message": message.into(), "reason": "Forbidden"})
}

/// Like [`demand`], with a sentence that is computed.
pub(super) fn demand_saying(expression: &str, message: &str) -> Value {
    json!({"expression": expression, "messageExpression": message, "reason": "Forbidden"})
}

fn constraints(objects: &Value, namespaces: &Value, rules: &[Value]) -> Value {
    json!({
        "matchPolicy": "Equivalent",
        "namespaceSelector": namespaces,
        "objectSelector": objects,
        "resourceRules": rules,
    })
}

fn pairs<N: Into<String>, E: Into<String>>(pairs: impl IntoIterator<Item = (N, E)>) -> Value {
    let pair = |(name, expression): (N, E)| json!({"name": name.into(), "expression": expression.into()});
    Value::Array(pairs.into_iter().map(pair).collect())
}

fn guard(kind: GuardKind, name: &str, spec: &Value) -> Guard {
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
