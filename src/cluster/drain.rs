//! What a drain reads and deletes beside what a sweep does: grants.

use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, Client};
use serde_json::json;

use super::edges::call;
use super::error::Error;
use crate::api::{AccessGrant, CONTROLLER, REVOKE_FINALIZER};
use crate::core::drain::Asked;

/// How many grants one answer may hold; one is up to 12 KiB.
const PAGE: u32 = 500;

/// All grants; none where there is no CRD of them.
pub async fn asked(client: &Client) -> Result<Vec<Asked>, Error> {
    let mut found = Vec::new();
    let grants = Api::<AccessGrant>::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let answer = match call("list grants", grants.list(&page)).await {
            Err(error) if error.is_absent() => return Ok(found),
            other => other?,
        };
        found.extend(answer.items.iter().map(Asked::from));
        match answer.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}

/// What has become of a grant that was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dismissed {
    /// It was deleted.
    Deleted,
    /// It was gone already.
    Already,
    /// It is being deleted, and finalizers hold it back.
    HeldBack,
}

/// Deletes a grant, and none that has come in its place. What it owns is left to the garbage collector.
pub async fn dismiss(client: &Client, grant: &Asked) -> Result<Dismissed, Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(grant.uid.clone()),
            resource_version: None,
        }),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    let grants = Api::<AccessGrant>::namespaced(client.clone(), &grant.namespace);
    match call("delete grant", grants.delete(&grant.name, &params)).await {
        Ok(answer) if answer.is_left() => Ok(Dismissed::HeldBack),
        Ok(_) => Ok(Dismissed::Deleted),
        Err(error) if error.is_absent() => Ok(Dismissed::Already),
        Err(error) => Err(error),
    }
}

/// Takes our finalizer off a grant, in the place of an operator that does not come back; those of others stay. The
/// guard `curfew-grant` refuses this while it stands.
pub async fn release(client: &Client, grant: &Asked) -> Result<Dismissed, Error> {
    let others: Vec<&String> = grant
        .finalizers
        .iter()
        .filter(|finalizer| *finalizer != REVOKE_FINALIZER)
        .collect();
    let without_ours = Patch::Merge(json!({"metadata": {
        "uid": grant.uid, "resourceVersion": grant.resource_version, "finalizers": others,
    }}));
    let params = PatchParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PatchParams::default()
    };
    let grants = Api::<AccessGrant>::namespaced(client.clone(), &grant.namespace);
    let patched = grants.patch_metadata(&grant.name, &params, &without_ours);
    match call("let grant go", patched).await {
        Ok(_) if others.is_empty() => Ok(Dismissed::Deleted),
        Ok(_) => Ok(Dismissed::HeldBack),
        Err(error) if error.is_absent() => Ok(Dismissed::Already),
        Err(error) => Err(error),
    }
}
