//! Writes of the grant itself: status, finalizer, deletion.

use jiff::Timestamp;
use kube::api::{Patch, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::api::{AccessGrant, AccessGrantStatus, REVOKE_FINALIZER};
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::context::Edges;
use crate::cluster::grant::applied::Done;
use crate::cluster::objects::params;
use crate::core::grant::enforcement::Backstops;
use crate::core::grant::retention::slim;
use crate::core::grant::revocation::Ending;
use crate::core::grant::status;

/// Replaces the status of a grant.
///
/// # Errors
/// A conflict if the grant has changed since it was read: the replacement carries its resourceVersion.
pub(crate) async fn write(
    edges: &Edges,
    grant: &AccessGrant,
    status: &AccessGrantStatus,
) -> Result<Done, Error> {
    let replacement = status::replacement(grant, status);
    let (grants, name, params) = (api(edges, grant), grant.name_any(), params::post());
    let replaced = grants.replace_status(&name, &params, &replacement);
    let mut written = call("write status", replaced).await?;
    slim(&mut written);
    Ok(Done::Written(Box::new(written)))
}

/// Records that access is in force since `since`. `seen_at` is the time at which this process first saw the request.
pub(crate) async fn active(
    edges: &Edges,
    grant: &AccessGrant,
    uids: &status::Uids,
    backstops: &Backstops,
    since: Option<Timestamp>,
    seen_at: Option<Timestamp>,
) -> Result<Done, Error> {
    let now = edges.clock.now();
    let since = since.unwrap_or(now);
    let active = status::active(grant, uids, backstops, since, now);
    let done = write(edges, grant, &active).await?;
    edges
        .witness
        .activated(seen_at.map(|seen| since.duration_since(seen)));
    Ok(done)
}

/// Records the state of the fuses.
pub(crate) async fn fuses(
    edges: &Edges,
    grant: &AccessGrant,
    uids: &status::Uids,
    backstops: &Backstops,
) -> Result<Done, Error> {
    let fused = status::fused(grant, uids, backstops, edges.clock.now());
    write(edges, grant, &fused).await
}

/// Records that access ended at `at`, the time of the proof of absence.
pub(crate) async fn ended(
    edges: &Edges,
    grant: &AccessGrant,
    ending: &Ending,
    at: Timestamp,
) -> Result<Done, Error> {
    let done = write(edges, grant, &status::ended(grant, ending, at)).await?;
    edges.witness.ended(ending, at);
    Ok(done)
}

/// Adds Curfew's finalizer to a grant.
pub(crate) async fn add_finalizer(edges: &Edges, grant: &AccessGrant) -> Result<Done, Error> {
    let mut finalizers = grant.finalizers().to_vec();
    finalizers.push(REVOKE_FINALIZER.to_owned());
    set_finalizers(edges, grant, "add finalizer", &finalizers).await
}

/// Removes Curfew's finalizer from a grant. A grant that is being deleted may be gone after that.
pub(crate) async fn remove_finalizer(edges: &Edges, grant: &AccessGrant) -> Result<Done, Error> {
    let mut finalizers = grant.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != REVOKE_FINALIZER);
    let removed = set_finalizers(edges, grant, "remove finalizer", &finalizers).await;
    removed.or_else(|error| error.absent_as(Done::Nothing))
}

/// The patch names the resourceVersion, so it fails rather than drop a finalizer that someone has added since.
async fn set_finalizers(
    edges: &Edges,
    grant: &AccessGrant,
    what: &'static str,
    finalizers: &[String],
) -> Result<Done, Error> {
    let patch = Patch::Merge(json!({"metadata": {
        "uid": grant.metadata.uid,
        "resourceVersion": grant.metadata.resource_version,
        "finalizers": finalizers,
    }}));
    let (grants, name, params) = (api(edges, grant), grant.name_any(), params::patch());
    let mut written = call(what, grants.patch(&name, &params, &patch)).await?;
    slim(&mut written);
    Ok(Done::Written(Box::new(written)))
}

/// Deletes a grant, if it is still the version that was read.
pub(crate) async fn delete(edges: &Edges, grant: &AccessGrant) -> Result<Done, Error> {
    let params = params::delete(Preconditions {
        uid: grant.uid(),
        resource_version: grant.resource_version(),
    });
    let (grants, name) = (api(edges, grant), grant.name_any());
    call("delete grant", grants.delete(&name, &params))
        .await
        .map(|_| Done::Nothing)
        .or_else(|error| error.absent_as(Done::Nothing))
}

fn api(edges: &Edges, grant: &AccessGrant) -> Api<AccessGrant> {
    Api::namespaced(edges.client.clone(), &grant.namespace().unwrap_or_default())
}
