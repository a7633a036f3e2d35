//! The guards that are installed, and whether one holds.

use curfew::core::guard::{Guard, GuardKind, GuardSettings, guards};
use curfew::core::time::duration::AccessDuration;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::support::manifests::{binding, ordinary_job, role};

/// What the manifests were made for: the default flags.
pub fn installed() -> anyhow::Result<Vec<Guard>> {
    let settings = GuardSettings {
        namespace: "curfew-system".to_owned(),
        operator: "curfew".to_owned(),
        sweeper: "curfew-sweep".to_owned(),
        identities: "curfew-identities".to_owned(),
        cap: AccessDuration::parse("12h")?,
        creators: Vec::new(),
    };
    Ok(guards(&settings))
}

/// The API of a guard's kind.
pub fn api_of(guard: GuardKind, client: Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", guard.name());
    Api::all_with(client, &ApiResource::from_gvk(&kind))
}

/// Whether one of the guards on grants and on what we make refuses a forgery.
pub async fn holds(client: &Client, guard: &str) -> Result<(), String> {
    let mut forged = match guard {
        "curfew-grant" => json!({"apiVersion": "access.curfew.dev/v1alpha1", "kind": "AccessGrant",
            "metadata": {"name": "forged"}, "spec": {"policyRef": {"name": "none"}, "reason": "a forgery",
                "requester": {"username": "admin", "groups": ["system:masters", "system:authenticated"]}}}),
        "curfew-fuse" => ordinary_job("forged"),
        "curfew-role" => role("forged"),
        "curfew-reserved-names" => binding("curfew-forged", "view", "mallory"),
        _ => binding("forged", "view", "mallory"),
    };
    if guard != "curfew-reserved-names" {
        crate::support::merge(
            &mut forged,
            json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": "none"}}}),
        );
    }
    match make(client, Some("default"), forged).await {
        Ok(_) => Err("a forgery was accepted".to_owned()),
        Err(error) if error.to_string().contains(guard) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Tries to create an object.
pub async fn make(client: &Client, namespace: Option<&str>, object: Value) -> kube::Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let types = object.types.clone().unwrap_or_default();
    let kind = GroupVersionKind::try_from(&types).map_err(|error| kube::Error::Service(error.into()))?;
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api.create(&dry_run, &object).await
}
