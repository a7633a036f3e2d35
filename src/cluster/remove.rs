//! Removes what was made for a grant, and nothing else.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, Client};
use serde_json::json;

use super::edges::{Edges, Outcome, call};
use super::error::Error;
use super::observe::read_live;
use crate::api::{ArtifactKind, CONTROLLER};
use crate::core::Target;

/// Removes one artifact of a grant. An object of that name that does not carry the grant's label is left alone.
///
/// A binding that somebody holds back with a finalizer gives access although it is being deleted (RBAC does not
/// look at that): it is emptied first, then the finalizer is taken off.
pub async fn remove(edges: &Edges, target: &Target, grant_uid: &str) -> Result<Outcome, Error> {
    let outcome = remove_if_ours(edges, target, grant_uid).await?;
    edges.index.unmade(&target.key());
    Ok(outcome)
}

async fn remove_if_ours(edges: &Edges, target: &Target, grant_uid: &str) -> Result<Outcome, Error> {
    let uid = match &target.uid {
        Some(uid) => uid.clone(),
        None => match uid_if_ours(edges, target, grant_uid).await? {
            Some(uid) => uid,
            None => return Ok(Outcome::AlreadySo),
        },
    };
    match delete(&edges.client, target, of_uid(uid)).await {
        Ok(Remains::Nothing) => Ok(Outcome::Applied),
        Ok(Remains::HeldBack) => release(&edges.client, target).await.map(|()| Outcome::Applied),
        Err(error) if error.is_absent() => Ok(Outcome::AlreadySo),
        // Another object has taken the name since.
        Err(error) if error.reason() == "Conflict" => match uid_if_ours(edges, target, grant_uid).await? {
            None => Ok(Outcome::AlreadySo),
            Some(uid) => match delete(&edges.client, target, of_uid(uid)).await? {
                Remains::Nothing => Ok(Outcome::Applied),
                Remains::HeldBack => release(&edges.client, target).await.map(|()| Outcome::Applied),
            },
        },
        Err(error) => Err(error),
    }
}

async fn uid_if_ours(edges: &Edges, target: &Target, grant_uid: &str) -> Result<Option<String>, Error> {
    let held = read_live(edges, &target.key()).await?;
    Ok(held
        .filter(|held| held.grant_uid == grant_uid)
        .map(|held| held.found.uid))
}

fn of_uid(uid: String) -> Preconditions {
    Preconditions {
        uid: Some(uid),
        resource_version: None,
    }
}

/// What a deletion has left.
pub(super) enum Remains {
    /// Nothing.
    Nothing,
    /// The object, because of a finalizer of somebody else.
    HeldBack,
}

/// Deletes one object, in the background: that a deletion says so takes off what a deletion in the foreground has put
/// on it, so that nothing that hangs beneath the object holds it back.
pub(super) async fn delete(
    client: &Client,
    target: &Target,
    preconditions: Preconditions,
) -> Result<Remains, Error> {
    let params = DeleteParams {
        preconditions: Some(preconditions),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    let (client, namespace, name) = (client.clone(), target.namespace.as_str(), target.name.as_str());
    let held_back = match target.kind {
        ArtifactKind::Job => call(
            "delete fuse",
            Api::<Job>::namespaced(client, namespace).delete(name, &params),
        )
        .await?
        .is_left(),
        ArtifactKind::Role => call(
            "delete Role",
            Api::<Role>::namespaced(client, namespace).delete(name, &params),
        )
        .await?
        .is_left(),
        ArtifactKind::RoleBinding => {
            let bindings = Api::<RoleBinding>::namespaced(client, namespace);
            call("delete RoleBinding", bindings.delete(name, &params))
                .await?
                .is_left()
        }
    };
    Ok(if held_back {
        Remains::HeldBack
    } else {
        Remains::Nothing
    })
}

async fn release(client: &Client, target: &Target) -> Result<(), Error> {
    if target.kind == ArtifactKind::RoleBinding {
        let bindings = Api::<RoleBinding>::namespaced(client.clone(), &target.namespace);
        let empty = Patch::Merge(json!({"subjects": []}));
        let emptied = call(
            "empty RoleBinding",
            bindings.patch(&target.name, &as_curfew(), &empty),
        )
        .await;
        match emptied {
            Err(error) if error.is_absent() => return Ok(()),
            other => other?,
        };
    }
    free(client, target, None).await
}

/// Takes the finalizers off what is being deleted, and it goes. With a uid, only off the object that has it.
pub(super) async fn free(client: &Client, target: &Target, uid: Option<&str>) -> Result<(), Error> {
    let (client, namespace, name) = (client.clone(), target.namespace.as_str(), target.name.as_str());
    let metadata = match uid {
        Some(uid) => json!({"finalizers": null, "uid": uid}),
        None => json!({"finalizers": null}),
    };
    let (params, free) = (as_curfew(), Patch::Merge(json!({"metadata": metadata})));
    let released = match target.kind {
        ArtifactKind::Job => {
            let fuses = Api::<Job>::namespaced(client, namespace);
            call("release fuse", fuses.patch_metadata(name, &params, &free))
                .await
                .map(drop)
        }
        ArtifactKind::Role => {
            let roles = Api::<Role>::namespaced(client, namespace);
            call("release Role", roles.patch_metadata(name, &params, &free))
                .await
                .map(drop)
        }
        ArtifactKind::RoleBinding => {
            let bindings = Api::<RoleBinding>::namespaced(client, namespace);
            call(
                "release RoleBinding",
                bindings.patch_metadata(name, &params, &free),
            )
            .await
            .map(drop)
        }
    };
    match released {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

fn as_curfew() -> PatchParams {
    PatchParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PatchParams::default()
    }
}
