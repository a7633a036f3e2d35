//! Bindings, Roles, Jobs and pods as JSON.

use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::harness::PEOPLE;
use crate::support::json::RBAC;

/// User name and groups of a person, as `kubectl auth whoami` prints them.
pub fn user(person: &str) -> Value {
    let groups = PEOPLE
        .iter()
        .filter(|known| known.name == person)
        .flat_map(|known| known.groups);
    let groups: Vec<&str> = groups.copied().chain(["system:authenticated"]).collect();
    json!({"username": person, "groups": groups})
}

/// RoleBinding of a ClusterRole to a user.
pub fn binding(name: &str, role: &str, user: &str) -> Value {
    json!({
        "apiVersion": RBAC, "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
}

/// Role without rules.
pub fn role(name: &str) -> Value {
    json!({"apiVersion": RBAC, "kind": "Role", "metadata": {"name": name}, "rules": []})
}

/// Job without any label of Curfew.
pub fn ordinary_job(name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "work", "image": "example.com/work:1"}]}}},
    })
}

/// Pod that satisfies the Pod Security Standard `restricted`.
pub fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "image": "example.com/a:1", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}})
}

/// Creates an object. An object of this name that exists already is left as it is.
pub async fn create<K>(api: &Api<K>, object: Value) -> anyhow::Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    match api
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(error.into()),
    }
}
