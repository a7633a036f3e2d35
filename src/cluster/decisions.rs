//! Records what was made of decisions, and removes those that are records of nothing any more.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Resource as _};
use serde_json::json;

use super::edges::{Edges, call};
use super::error::Error;
use super::keys::DecisionKey;
use crate::api::{AccessDecision, CONTROLLER};
use crate::core::{Class, Decision, Judged};

/// Records a verdict as the decision's status. A decision that is gone keeps none. The write is bound to its uid, so
/// that one that was made again gets none of an earlier one: that is a conflict, like others, and whoever looks again
/// finds the new one.
pub async fn record(edges: &Edges, namespace: &str, judged: &Judged) -> Result<(), Error> {
    let patch = Patch::Merge(json!({
        "metadata": {"uid": judged.decision.uid},
        "status": judged.verdict.status(edges.clock.now()),
    }));
    let params = PatchParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PatchParams::default()
    };
    let decisions = Api::<AccessDecision>::namespaced(edges.client.clone(), namespace);
    let written = call(
        "record a verdict",
        decisions.patch_status(&judged.decision.name, &params, &patch),
    )
    .await;
    match written {
        Ok(_) => {
            edges.index.judged(namespace, judged);
            edges.witness.judged(judged);
            Ok(())
        }
        Err(error) if error.is_absent() => Ok(()),
        Err(error) => Err(error),
    }
}

/// A decision as Events name what they are about.
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

/// Deletes a decision of that uid.
pub async fn delete(edges: &Edges, key: &DecisionKey, uid: &str) -> Result<(), Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let decisions = Api::<AccessDecision>::namespaced(edges.client.clone(), &key.namespace);
    match call("delete decision", decisions.delete(&key.name, &params)).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_absent() || error.class() == Class::Conflict => Ok(()),
        Err(error) => Err(error),
    }
}
