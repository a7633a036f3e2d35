//! Creation of artifacts, and their handover from the grant to the fuse.

use k8s_openapi::serde::Serialize;
use kube::Api;
use kube::api::Patch;
use serde_json::json;

use crate::api::ArtifactKind;
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::client::observer::Outcome;
use crate::cluster::context::Cluster;
use crate::cluster::grant::applied::Applied;
use crate::cluster::grant::live_read::read_live;
use crate::cluster::objects::keys::OwnedArtifact;
use crate::cluster::objects::kinds::{ArtifactApi, for_kind, for_object};
use crate::cluster::objects::{params, write};
use crate::core::artifact::Artifact;
use crate::core::artifact::found::Found;
use crate::core::artifact::key::ArtifactKey;
use crate::core::artifact::target::Target;
use crate::core::grant::enforcement::fuse_states;
use crate::core::replica::retry::Class;

/// Whether the API server refuses to create this object and would refuse a retry too.
///
/// An unavailable admission webhook for Jobs counts as a refusal, because it can stay unavailable for hours. The policy
/// says whether access waits that long for its fuse. An unavailable webhook for Roles or bindings does not count: it
/// prevents new access and ends none.
pub(crate) fn is_refusal(kind: ArtifactKind, error: &Error) -> bool {
    matches!(error.class(), Class::Denied | Class::Invalid)
        || (kind == ArtifactKind::Job && error.is_of_a_webhook())
}

/// Creates one artifact, owned by the fuse of this uid if the artifact says so.
///
/// # Guarantees
/// An existing object of the same name counts as created only if it carries the grant's label and equals the artifact.
/// So a lost response, or a faster replica, does no harm.
///
/// # Errors
/// [`Error::Overdue`] if the access of the artifact has expired already; [`Error::NotOurs`] if another object has the
/// name.
pub(crate) async fn create(
    edges: &Cluster,
    artifact: &Artifact,
    fuse_uid: &str,
) -> Result<(Applied, Outcome), Error> {
    if artifact.is_overdue(edges.clock.now()) {
        return Err(Error::Overdue {
            kind: artifact.kind(),
            name: artifact.name.clone(),
        });
    }
    let created =
        for_object!(artifact, fuse_uid, object => create_object(edges, &artifact.namespace, &object).await);
    match created {
        Ok((key, held)) => {
            let done = made(artifact, &held.found);
            edges.index.made(key, held);
            Ok((done, Outcome::Applied))
        }
        Err(error) if error.is_already_there() => {
            let existing = read_live(edges, &artifact.key()).await?;
            let is_same = |held: &OwnedArtifact| {
                held.grant_uid == artifact.grant.uid && artifact.compare(&held.found).is_ok()
            };
            match existing.filter(is_same) {
                Some(held) => Ok((made(artifact, &held.found), Outcome::AlreadySo)),
                None => Err(Error::NotOurs {
                    kind: artifact.kind(),
                    name: artifact.name.clone(),
                }),
            }
        }
        Err(error) => Err(error),
    }
}

fn made(artifact: &Artifact, found: &Found) -> Applied {
    let fuse_state = fuse_states(std::slice::from_ref(found)).remove(&artifact.key());
    Applied::Made(artifact.key(), found.uid.clone(), fuse_state)
}

async fn create_object<K: ArtifactApi + Serialize>(
    edges: &Cluster,
    namespace: &str,
    object: &K,
) -> Result<(ArtifactKey, OwnedArtifact), Error> {
    let api = Api::<K>::namespaced(edges.client.clone(), namespace);
    let created = call(K::REQUESTS.create, api.create(&params::post(), object)).await?;
    Ok(created.created())
}

/// Makes the fuse of this uid the only owner of an artifact.
///
/// The patch names the uid of the object that was found, so it cannot change another object of the same name.
pub(crate) async fn hand_over(edges: &Cluster, target: &Target, fuse_uid: &str) -> Result<Applied, Error> {
    // A fuse has no owner.
    if target.kind == ArtifactKind::Job {
        return Ok(Applied::Nothing);
    }
    for_kind!(target.kind, K => hand_over_object::<K>(edges, target, fuse_uid).await)?;
    Ok(Applied::Nothing)
}

async fn hand_over_object<K: ArtifactApi>(
    edges: &Cluster,
    target: &Target,
    fuse_uid: &str,
) -> Result<(), Error> {
    let patch = Patch::Merge(json!({"metadata": {
        "uid": target.uid,
        "ownerReferences": [write::held_by_fuse(&target.key(), fuse_uid)],
    }}));
    let api = Api::<K>::namespaced(edges.client.clone(), &target.namespace);
    call(
        K::REQUESTS.hand_over,
        api.patch_metadata(&target.name, &params::patch(), &patch),
    )
    .await
    .map(drop)
}
