//! Forgeries of the self-test, tried as dry runs, which change nothing.

use futures::future::join_all;
use k8s_openapi::serde::Serialize;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{DynamicObject, NamespaceResourceScope};
use kube::{Api, Client, Resource, ResourceExt as _};

use crate::api::{AccessGrant, GRANT_UID_LABEL};
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::context::Cluster;
use crate::cluster::guard::canary::Canary;
use crate::cluster::objects::kinds::for_object;
use crate::core::artifact::Artifact;
use crate::core::guard::self_test::forgery::{Attempt, Forger, Forgery, Scene};
use crate::core::guard::self_test::trial::{Trial, trial};

/// Tries all forgeries in one namespace, concurrently.
pub async fn forge(edges: &Cluster, canary: &Canary, scene: &Scene<'_>) -> Vec<(Forgery, Trial)> {
    let as_canary = &canary.client().await;
    let tried = Forgery::ALL.into_iter().map(async |forgery| {
        let client = match (forgery.forger(), as_canary) {
            (Forger::Operator, _) => Ok(&edges.client),
            (Forger::Canary, Ok(client)) => Ok(client),
            (Forger::Canary, Err(error)) => Err(error),
        };
        let trial = match client {
            Ok(client) => match attempt(client.clone(), forgery, scene).await {
                Ok(()) => trial(forgery, Ok(())),
                Err(Error::Answered { status, .. }) => {
                    if status.code == 401 {
                        canary.forget_token();
                    }
                    trial(forgery, Err(&status))
                }
                Err(error) => Trial::Unknown(error.to_string()),
            },
            Err(error) => without_canary(error),
        };
        edges.observer.forgery(forgery, trial.outcome());
        (forgery, trial)
    });
    join_all(tried).await
}

/// The result if the canary has no token. A refused token request would be refused again.
fn without_canary(error: &Error) -> Trial {
    match error {
        Error::Answered { status, .. } if matches!(status.code, 403 | 404) => {
            Trial::Untried(error.to_string())
        }
        _ => Trial::Unknown(error.to_string()),
    }
}

async fn attempt(client: Client, forgery: Forgery, scene: &Scene<'_>) -> Result<(), Error> {
    match forgery.attempt(scene) {
        Attempt::Grant(grant) => create(client, scene.namespace, grant.as_ref()).await,
        Attempt::Decision(decision) => create(client, scene.namespace, decision.as_ref()).await,
        Attempt::Status(patch) => {
            let params = PatchParams {
                dry_run: true,
                ..PatchParams::default()
            };
            let grants = Api::<AccessGrant>::namespaced(client, scene.namespace);
            let patch = Patch::Merge(patch);
            call(
                "forge a status",
                grants.patch_status(scene.grant, &params, &patch),
            )
            .await
            .map(drop)
        }
        Attempt::Artifact(artifact) => create_artifact(client, &artifact, true).await,
        Attempt::Unlabelled(artifact) => create_artifact(client, &artifact, false).await,
    }
}

async fn create_artifact(client: Client, artifact: &Artifact, labelled: bool) -> Result<(), Error> {
    // Any uid will do: no existing object has this one.
    let fuse_uid = artifact.grant.uid.as_str();
    for_object!(artifact, fuse_uid, object => {
        let mut object = object;
        if !labelled {
            // The other labels stay: a Job without labels gets the labels of its pods.
            object.labels_mut().remove(GRANT_UID_LABEL);
        }
        create(client, &artifact.grant.namespace, &object).await
    })
}

async fn create<K>(client: Client, namespace: &str, object: &K) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Serialize,
{
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let what = "forge an object";
    let resource = kube::core::ApiResource::erase::<K>(&());
    let forged = serde_json::to_value(object)
        .and_then(serde_json::from_value::<DynamicObject>)
        .map_err(|source| Error::of(what, kube::Error::SerdeError(source)))?;
    let objects = Api::<DynamicObject>::namespaced_with(client, namespace, &resource);
    call(what, objects.create(&params, &forged)).await.map(drop)
}
