//! What is told: Kubernetes Events, and the audit log.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;

use super::edges::{Edges, Outcome, call};
use super::error::Error;
use crate::api::CONTROLLER;
use crate::core::{AuditRecord, EventText};

/// Target of the audit log: one JSON record for each transition of a grant, in the field `record`.
pub const AUDIT_TARGET: &str = "curfew::audit";

/// Writes one Event. kube's `Recorder` is not used: it merges different notes into one Event, and its names differ
/// with each attempt. Here the same transition has the same name, and "exists already" means "told already".
pub async fn publish(
    edges: &Edges,
    regarding: ObjectReference,
    text: &EventText,
    at: Timestamp,
) -> Result<Outcome, Error> {
    let namespace = regarding.namespace.clone().unwrap_or_default();
    let event = Event {
        action: Some(text.action.to_owned()),
        event_time: Some(MicroTime(at)),
        metadata: ObjectMeta {
            name: Some(text.name.clone()),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        note: Some(text.note.clone()),
        reason: Some(text.reason.to_owned()),
        regarding: Some(regarding),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(edges.instance.to_string()),
        type_: Some(if text.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    };
    let events = Api::<Event>::namespaced(edges.client.clone(), &namespace);
    let params = PostParams {
        field_manager: Some(CONTROLLER.to_owned()),
        ..PostParams::default()
    };
    match call("write Event", events.create(&params, &event)).await {
        Ok(_) => Ok(Outcome::Applied),
        Err(error) if error.is_already_there() => Ok(Outcome::AlreadySo),
        Err(error) => Err(error),
    }
}

/// Writes one audit record to the log.
pub fn audit(record: &AuditRecord) {
    match serde_json::to_string(record) {
        Ok(json) => tracing::info!(target: AUDIT_TARGET, record = json, "{}", record.state),
        Err(error) => tracing::error!(%error, "an audit record could not be written"),
    }
}
