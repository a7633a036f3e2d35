//! Grants, as a drain lists, deletes and releases them.

use kube::api::Patch;
use kube::{Api, Client};
use serde_json::json;

use crate::api::{AccessGrant, REVOKE_FINALIZER};
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::objects::{pages, params};
use crate::core::cleanup::drain::DrainedGrant;

/// All grants; empty if the CRD is not installed.
pub async fn asked(client: &Client) -> Result<Vec<DrainedGrant>, Error> {
    let grants = Api::<AccessGrant>::all(client.clone());
    pages::objects("list grants", &grants, |grant| Some(DrainedGrant::from(grant)))
        .await
        .or_else(|error| error.absent_as(Vec::new()))
}

/// Result of the deletion of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dismissed {
    /// It was deleted.
    Deleted,
    /// It did not exist any more.
    Already,
    /// It is being deleted, but finalizers block the deletion.
    HeldBack,
}

/// Deletes a grant, but not another grant of the same name. The garbage collector deletes what the grant owns.
pub async fn dismiss(client: &Client, grant: &DrainedGrant) -> Result<Dismissed, Error> {
    let params = params::delete(params::of_uid(&grant.uid));
    let grants = Api::<AccessGrant>::namespaced(client.clone(), &grant.namespace);
    match call("delete grant", grants.delete(&grant.name, &params)).await {
        Ok(answer) if answer.is_left() => Ok(Dismissed::HeldBack),
        Ok(_) => Ok(Dismissed::Deleted),
        Err(error) => error.absent_as(Dismissed::Already),
    }
}

/// Removes Curfew's finalizer from a grant, for an operator that will not come back. Other finalizers stay.
///
/// # Errors
/// The guard `curfew-grant` denies this while it is installed.
pub async fn release(client: &Client, grant: &DrainedGrant) -> Result<Dismissed, Error> {
    let others: Vec<&String> = grant
        .finalizers
        .iter()
        .filter(|finalizer| *finalizer != REVOKE_FINALIZER)
        .collect();
    let without_ours = Patch::Merge(json!({"metadata": {
        "uid": grant.uid, "resourceVersion": grant.resource_version, "finalizers": others,
    }}));
    let params = params::patch();
    let grants = Api::<AccessGrant>::namespaced(client.clone(), &grant.namespace);
    let patched = grants.patch_metadata(&grant.name, &params, &without_ours);
    match call("release grant", patched).await {
        Ok(_) if others.is_empty() => Ok(Dismissed::Deleted),
        Ok(_) => Ok(Dismissed::HeldBack),
        Err(error) => error.absent_as(Dismissed::Already),
    }
}
