//! Kubernetes Events and the audit log.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;

use crate::api::CONTROLLER;
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::client::observer::Outcome;
use crate::cluster::context::Cluster;
use crate::cluster::objects::params;
use crate::core::audit::record::AuditRecord;
use crate::core::grant::event::EventText;
use crate::core::replica::retry::Class;

/// Log target of audit records: one JSON record for each transition of a grant, in the field `record`.
pub const AUDIT_TARGET: &str = "curfew::audit";

/// Writes one Event.
///
/// # Guarantees
/// A transition has the same Event name in each attempt, so a retry creates no second Event. For this reason kube's
/// `Recorder` is not used: it merges different notes into one Event, and its names differ in each attempt.
pub async fn publish(
    edges: &Cluster,
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
    match call("write Event", events.create(&params::post(), &event)).await {
        Ok(_) => Ok(Outcome::Applied),
        Err(error) if error.is_already_there() => Ok(Outcome::AlreadySo),
        Err(error) => Err(error),
    }
}

/// Writes one Event, with one retry, since no later reconcile has a reason to write it. The name of the Event makes the
/// retry safe. A failure is logged and stops nothing.
pub(crate) async fn publish_or_warn(
    edges: &Cluster,
    regarding: ObjectReference,
    event: &EventText,
    at: Timestamp,
) -> Outcome {
    let mut published = publish(edges, regarding.clone(), event, at).await;
    if let Err(error) = &published
        && matches!(error.class(), Class::Transient | Class::Throttled)
    {
        published = publish(edges, regarding, event, at).await;
    }
    match published {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::warn!(
                %error,
                reason = error.reason(),
                event = event.name,
                "cannot write Event; the audit log has the transition"
            );
            Outcome::Failed
        }
    }
}

/// Writes one audit record to the log.
pub fn audit(record: &AuditRecord) {
    match serde_json::to_string(record) {
        Ok(json) => tracing::info!(target: AUDIT_TARGET, record = json, "{}", record.state),
        Err(error) => tracing::error!(%error, "cannot write audit record"),
    }
}
