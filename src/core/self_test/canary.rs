//! The canary: a `ServiceAccount` that exists to be refused.
//!
//! The operator cannot try every forgery itself: it is the one who may write statuses and make what carries the label.
//! The canary holds the rights that bring a forgery as far as admission, and a guard of its own that lets it make
//! dry runs only. Without that guard, whoever got its token could run pods as anybody, by a Job.

use serde_json::json;

use crate::api::{GROUP, Requester};
use crate::core::guard::{Guard, GuardKind};

/// Name of the canary, of its `ClusterRole` and of its guard.
pub const CANARY: &str = "curfew-canary";

/// The canary of the operator in `namespace`, as the API server knows it.
pub fn canary_identity(namespace: &str) -> Requester {
    Requester {
        username: format!("system:serviceaccount:{namespace}:{CANARY}"),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ],
    }
}

/// The guard that keeps the canary to dry runs.
pub fn canary_guards(namespace: &str) -> [Guard; 2] {
    let username = canary_identity(namespace).username;
    let rule = |group: &str, version: &str, operations: &[&str], resources: &[&str]| {
        json!({"apiGroups": [group], "apiVersions": [version], "operations": operations, "resources": resources,
            "scope": "*"})
    };
    let writes = ["CREATE", "UPDATE", "DELETE"];
    let metadata = json!({"name": CANARY, "labels": {"app.kubernetes.io/name": "curfew"}});
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": metadata,
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "namespaceSelector": {},
                "objectSelector": {},
                "resourceRules": [
                    rule(GROUP, "*", &writes, &["*/*"]),
                    rule("batch", "*", &writes, &["jobs", "jobs/status"]),
                    rule("rbac.authorization.k8s.io", "*", &writes, &["roles", "rolebindings"]),
                ],
            },
            "matchConditions": [
                {"name": "canary", "expression": format!("request.userInfo.username == '{username}'")},
            ],
            "validations": [{
                "expression": "has(request.dryRun) && request.dryRun",
                "message": "the canary of Curfew's self-test changes nothing: it makes dry runs only",
                "reason": "Forbidden",
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": metadata,
        "spec": {"policyName": CANARY, "validationActions": ["Deny"]},
    });
    [
        (GuardKind::ValidatingPolicy, policy),
        (GuardKind::ValidatingBinding, binding),
    ]
    .map(|(kind, manifest)| Guard {
        kind,
        name: CANARY.to_owned(),
        manifest,
    })
}
