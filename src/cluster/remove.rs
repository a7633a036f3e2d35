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
    match delete(&edges.client, target, uid).await {
        Ok(Remains::Nothing) => Ok(Outcome::Applied),
        Ok(Remains::HeldBack) => release(&edges.client, target).await.map(|()| Outcome::Applied),
        Err(error) if error.is_absent() => Ok(Outcome::AlreadySo),
        // Another object has taken the name since.
        Err(error) if error.reason() == "Conflict" => match uid_if_ours(edges, target, grant_uid).await? {
            None => Ok(Outcome::AlreadySo),
            Some(uid) => match delete(&edges.client, target, uid).await? {
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

enum Remains {
    Nothing,
    HeldBack,
}

async fn delete(client: &Client, target: &Target, uid: String) -> Result<Remains, Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid),
            resource_version: None,
        }),
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
    let params = PatchParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PatchParams::default()
    };
    let (client, namespace, name) = (client.clone(), target.namespace.as_str(), target.name.as_str());
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let released = match target.kind {
        ArtifactKind::Job => {
            let fuses = Api::<Job>::namespaced(client, namespace);
            call("release fuse", fuses.patch_metadata(name, &params, &free))
                .await
                .map(|_| ())
        }
        ArtifactKind::Role => {
            let roles = Api::<Role>::namespaced(client, namespace);
            call("release Role", roles.patch_metadata(name, &params, &free))
                .await
                .map(|_| ())
        }
        ArtifactKind::RoleBinding => {
            let bindings = Api::<RoleBinding>::namespaced(client, namespace);
            let empty = Patch::Merge(json!({"subjects": []}));
            call("empty RoleBinding", bindings.patch(name, &params, &empty)).await?;
            call(
                "release RoleBinding",
                bindings.patch_metadata(name, &params, &free),
            )
            .await
            .map(|_| ())
        }
    };
    match released {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}
