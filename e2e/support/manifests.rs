//! Bindings, Roles, Jobs and pods as JSON.

use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::harness::PEOPLE;
use crate::support::json::RBAC;

/// Somebody, as `kubectl auth whoami` prints it.
pub fn user(person: &str) -> Value {
    let groups = PEOPLE
        .iter()
        .filter(|somebody| somebody.name == person)
        .flat_map(|somebody| somebody.groups);
    let groups: Vec<&str> = groups.copied().chain(["system:authenticated"]).collect();
    json!({"username": person, "groups": groups})
}

/// A binding of a ClusterRole to a person.
pub fn binding(name: &str, role: &str, user: &str) -> Value {
    json!({
        "apiVersion": RBAC, "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
}

/// A Role that allows nothing.
pub fn role(name: &str) -> Value {
    json!({"apiVersion": RBAC, "kind": "Role", "metadata": {"name": name}, "rules": []})
}

/// A Job as anybody makes one.
pub fn ordinary_job(name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "work", "image": "example.com/work:1"}]}}},
    })
}

/// A pod that satisfies the strictest Pod Security Standard.
pub fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "image": "example.com/a:1", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}})
}

/// Makes an object of a namespace, or finds it made.
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
