//! Writes the verdicts of decisions, and deletes decisions that are no longer needed.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{DeleteParams, Patch};
use kube::{Api, Resource as _};
use serde_json::json;

use crate::api::AccessDecision;
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::context::Cluster;
use crate::cluster::objects::keys::DecisionKey;
use crate::cluster::objects::params;
use crate::core::decision::Decision;
use crate::core::decision::verdict::DecisionVerdict;
use crate::core::replica::retry::Class;

/// Writes a verdict to the status of its decision. Does nothing if the decision is gone.
///
/// # Guarantees
/// The patch names the uid, so a recreated decision never gets the verdict of its predecessor.
///
/// # Errors
/// A conflict if the decision was recreated; the next reconcile then reads the new one.
pub async fn record(edges: &Cluster, namespace: &str, judged: &DecisionVerdict) -> Result<(), Error> {
    let patch = Patch::Merge(json!({
        "metadata": {"uid": judged.decision.uid},
        "status": judged.verdict.status(edges.clock.now()),
    }));
    let params = params::patch();
    let decisions = Api::<AccessDecision>::namespaced(edges.client.clone(), namespace);
    let written = call(
        "record a verdict",
        decisions.patch_status(&judged.decision.name, &params, &patch),
    )
    .await;
    match written {
        Ok(_) => {
            edges.index.judged(namespace, judged);
            edges.observer.judged(judged);
            Ok(())
        }
        Err(error) => error.absent_as(()),
    }
}

/// The decision as the object that an Event is about.
pub fn reference(namespace: &str, decision: &Decision) -> ObjectReference {
    ObjectReference {
        api_version: Some(AccessDecision::api_version(&()).into_owned()),
        kind: Some(AccessDecision::kind(&()).into_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(decision.name.clone()),
        uid: Some(decision.uid.clone()),
        ..ObjectReference::default()
    }
}

/// Deletes the decision with this uid. Does nothing if it is gone or was recreated.
pub async fn delete(edges: &Cluster, key: &DecisionKey, uid: &str) -> Result<(), Error> {
    let params = DeleteParams {
        preconditions: Some(params::of_uid(uid)),
        ..DeleteParams::default()
    };
    let decisions = Api::<AccessDecision>::namespaced(edges.client.clone(), &key.namespace);
    match call("delete decision", decisions.delete(&key.name, &params)).await {
        Ok(_) => Ok(()),
        // Another decision has the name.
        Err(error) if error.class() == Class::Conflict => Ok(()),
        Err(error) => error.absent_as(()),
    }
}
