//! Writes of the grant itself: status, finalizer, deletion.

use jiff::Timestamp;
use kube::api::{Patch, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::api::{AccessGrant, AccessGrantStatus, REVOKE_FINALIZER};
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::context::Cluster;
use crate::cluster::grant::applied::Applied;
use crate::cluster::objects::params;
use crate::core::grant::enforcement::Backstops;
use crate::core::grant::retention::prune;
use crate::core::grant::revocation::DueRevocation;
use crate::core::grant::status;

/// Replaces the status of a grant.
///
/// # Errors
/// A conflict if the grant has changed since it was read: the replacement carries its resourceVersion.
pub(crate) async fn write(
    edges: &Cluster,
    grant: &AccessGrant,
    status: &AccessGrantStatus,
) -> Result<Applied, Error> {
    let replacement = status::replacement(grant, status);
    let (grants, name, params) = (api(edges, grant), grant.name_any(), params::post());
    let replaced = grants.replace_status(&name, &params, &replacement);
    let mut written = call("write status", replaced).await?;
    prune(&mut written);
    Ok(Applied::Written(Box::new(written)))
}

/// Records that access is in force since `since`. `seen_at` is the time at which this process first saw the request.
pub(crate) async fn active(
    edges: &Cluster,
    grant: &AccessGrant,
    uids: &status::Uids,
    backstops: &Backstops,
    since: Option<Timestamp>,
    seen_at: Option<Timestamp>,
) -> Result<Applied, Error> {
    let now = edges.clock.now();
    let since = since.unwrap_or(now);
    let active = status::active(grant, uids, backstops, since, now);
    let done = write(edges, grant, &active).await?;
    edges
        .observer
        .activated(seen_at.map(|seen| since.duration_since(seen)));
    Ok(done)
}

/// Records the state of the fuses.
pub(crate) async fn fuses(
    edges: &Cluster,
    grant: &AccessGrant,
    uids: &status::Uids,
    backstops: &Backstops,
) -> Result<Applied, Error> {
    let fused = status::fused(grant, uids, backstops, edges.clock.now());
    write(edges, grant, &fused).await
}

/// Records that access ended at `at`, the time of the proof of absence.
pub(crate) async fn ended(
    edges: &Cluster,
    grant: &AccessGrant,
    ending: &DueRevocation,
    at: Timestamp,
) -> Result<Applied, Error> {
    let done = write(edges, grant, &status::ended(grant, ending, at)).await?;
    edges.observer.ended(ending, at);
    Ok(done)
}

/// Adds Curfew's finalizer to a grant.
pub(crate) async fn add_finalizer(edges: &Cluster, grant: &AccessGrant) -> Result<Applied, Error> {
    let mut finalizers = grant.finalizers().to_vec();
    finalizers.push(REVOKE_FINALIZER.to_owned());
    set_finalizers(edges, grant, "add finalizer", &finalizers).await
}

/// Removes Curfew's finalizer from a grant. A grant that is being deleted may be gone after that.
pub(crate) async fn remove_finalizer(edges: &Cluster, grant: &AccessGrant) -> Result<Applied, Error> {
    let mut finalizers = grant.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != REVOKE_FINALIZER);
    let removed = set_finalizers(edges, grant, "remove finalizer", &finalizers).await;
    removed.or_else(|error| error.absent_as(Applied::Nothing))
}

/// The patch names the resourceVersion, so it fails rather than drop a finalizer that someone has added since.
async fn set_finalizers(
    edges: &Cluster,
    grant: &AccessGrant,
    what: &'static str,
    finalizers: &[String],
) -> Result<Applied, Error> {
    let patch = Patch::Merge(json!({"metadata": {
        "uid": grant.metadata.uid,
        "resourceVersion": grant.metadata.resource_version,
        "finalizers": finalizers,
    }}));
    let (grants, name, params) = (api(edges, grant), grant.name_any(), params::patch());
    let mut written = call(what, grants.patch(&name, &params, &patch)).await?;
    prune(&mut written);
    Ok(Applied::Written(Box::new(written)))
}

/// Deletes a grant, if it is still the version that was read.
pub(crate) async fn delete(edges: &Cluster, grant: &AccessGrant) -> Result<Applied, Error> {
    let params = params::delete(Preconditions {
        uid: grant.uid(),
        resource_version: grant.resource_version(),
    });
    let (grants, name) = (api(edges, grant), grant.name_any());
    call("delete grant", grants.delete(&name, &params))
        .await
        .map(|_| Applied::Nothing)
        .or_else(|error| error.absent_as(Applied::Nothing))
}

fn api(edges: &Cluster, grant: &AccessGrant) -> Api<AccessGrant> {
    Api::namespaced(edges.client.clone(), &grant.namespace().unwrap_or_default())
}
