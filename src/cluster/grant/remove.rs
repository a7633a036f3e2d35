//! Removal of a grant's artifacts, and of nothing else.

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Patch, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::api::ArtifactKind;
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::client::observer::Outcome;
use crate::cluster::context::Cluster;
use crate::cluster::grant::live_read::read_live;
use crate::cluster::objects::kinds::{ArtifactApi, for_kind};
use crate::cluster::objects::params;
use crate::core::artifact::target::Target;
use crate::core::replica::retry::Class;

/// Removes one artifact of a grant.
///
/// # Guarantees
/// An object of the same name without the grant's label stays.
///
/// A binding that is blocked by someone's finalizer still gives access, because RBAC ignores `deletionTimestamp`. Its
/// subjects are therefore removed first, then its finalizers.
pub async fn remove(edges: &Cluster, target: &Target, grant_uid: &str) -> Result<Outcome, Error> {
    let outcome = remove_if_ours(edges, target, grant_uid).await?;
    edges.index.unmade(&target.key());
    Ok(outcome)
}

async fn remove_if_ours(edges: &Cluster, target: &Target, grant_uid: &str) -> Result<Outcome, Error> {
    let uid = match &target.uid {
        Some(uid) => uid.clone(),
        None => match uid_if_ours(edges, target, grant_uid).await? {
            Some(uid) => uid,
            None => return Ok(Outcome::AlreadySo),
        },
    };
    match delete(&edges.client, target, params::of_uid(&uid)).await {
        Ok(remains) => finish(edges, target, remains).await,
        // Another object has taken the name.
        Err(error) if error.class() == Class::Conflict => {
            let Some(uid) = uid_if_ours(edges, target, grant_uid).await? else {
                return Ok(Outcome::AlreadySo);
            };
            let remains = delete(&edges.client, target, params::of_uid(&uid)).await?;
            finish(edges, target, remains).await
        }
        Err(error) => error.absent_as(Outcome::AlreadySo),
    }
}

async fn finish(edges: &Cluster, target: &Target, remains: Remains) -> Result<Outcome, Error> {
    if remains == Remains::HeldBack {
        release(&edges.client, target).await?;
    }
    Ok(Outcome::Applied)
}

async fn uid_if_ours(edges: &Cluster, target: &Target, grant_uid: &str) -> Result<Option<String>, Error> {
    let found = read_live(edges, &target.key()).await?;
    Ok(found
        .filter(|held| held.grant_uid == grant_uid)
        .map(|held| held.found.uid))
}

/// What is left after a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remains {
    /// Nothing.
    Nothing,
    /// The object: a finalizer of someone else blocks its deletion.
    HeldBack,
}

/// Deletes one object, in the background ([`params::delete`] says why).
///
/// # Errors
/// Absent if there is no such object; a conflict if the object does not fulfill the preconditions.
pub(crate) async fn delete(
    client: &Client,
    target: &Target,
    preconditions: Preconditions,
) -> Result<Remains, Error> {
    let is_left = for_kind!(target.kind, K => delete_object::<K>(client, target, preconditions).await)?;
    Ok(if is_left {
        Remains::HeldBack
    } else {
        Remains::Nothing
    })
}

async fn delete_object<K: ArtifactApi>(
    client: &Client,
    target: &Target,
    preconditions: Preconditions,
) -> Result<bool, Error> {
    let api = Api::<K>::namespaced(client.clone(), &target.namespace);
    let params = params::delete(preconditions);
    let answer = call(K::REQUESTS.delete, api.delete(&target.name, &params)).await?;
    Ok(answer.is_left())
}

async fn release(client: &Client, target: &Target) -> Result<(), Error> {
    if target.kind == ArtifactKind::RoleBinding {
        let bindings = Api::<RoleBinding>::namespaced(client.clone(), &target.namespace);
        let empty = Patch::Merge(json!({"subjects": []}));
        let (name, params) = (&target.name, params::patch());
        match call("empty RoleBinding", bindings.patch(name, &params, &empty)).await {
            Ok(_) => {}
            Err(error) => return error.absent_as(()),
        }
    }
    free(client, target, None).await
}

/// Removes all finalizers of an object that is being deleted, so that the object disappears. With a uid, only if the
/// object still has this uid.
pub(crate) async fn free(client: &Client, target: &Target, uid: Option<&str>) -> Result<(), Error> {
    let metadata = match uid {
        Some(uid) => json!({"finalizers": null, "uid": uid}),
        None => json!({"finalizers": null}),
    };
    let patch = Patch::Merge(json!({"metadata": metadata}));
    let freed = for_kind!(target.kind, K => free_object::<K>(client, target, &patch).await);
    freed.or_else(|error| error.absent_as(()))
}

async fn free_object<K: ArtifactApi>(
    client: &Client,
    target: &Target,
    patch: &Patch<Value>,
) -> Result<(), Error> {
    let api = Api::<K>::namespaced(client.clone(), &target.namespace);
    let params = params::patch();
    call(
        K::REQUESTS.release,
        api.patch_metadata(&target.name, &params, patch),
    )
    .await
    .map(drop)
}
