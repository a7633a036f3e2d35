//! What the API server was asked to write, by its own audit log.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::readings::milliseconds;

/// Requests of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requests {
    /// How many.
    pub number: usize,
    /// How long the API server had them, in all, in milliseconds.
    pub milliseconds: f64,
}

/// Requests by kind, such as `create rolebindings`.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// For grants.
    pub for_grants: BTreeMap<String, Requests>,
    /// Of policies' statuses: one for many grants.
    pub policy_status: usize,
    /// Heartbeats and renewals of the lease by which it leads: some 32 a minute, however many grants there are. No budget
    /// of writes counts them.
    pub heartbeats: usize,
}

impl Writes {
    /// Of these events of the audit log. Dry runs and questions about one's own rights write nothing.
    pub fn of(events: &[Value]) -> Self {
        let mut writes = Self::default();
        for event in events.iter().filter(|event| is_write(event)) {
            let kind = kind(event);
            if kind.ends_with(" accesspolicies/status") {
                writes.policy_status += 1;
            } else if is_heartbeat(event) {
                writes.heartbeats += 1;
            } else {
                let requests = writes.for_grants.entry(kind).or_default();
                requests.number += 1;
                requests.milliseconds += took(event).unwrap_or_default();
            }
        }
        writes
    }

    /// These as well.
    pub fn add(&mut self, others: &Self) {
        self.policy_status += others.policy_status;
        self.heartbeats += others.heartbeats;
        for (kind, more) in &others.for_grants {
            let requests = self.for_grants.entry(kind.clone()).or_default();
            requests.number += more.number;
            requests.milliseconds += more.milliseconds;
        }
    }

    /// All that were made for grants.
    pub fn number_for_grants(&self) -> usize {
        self.for_grants.values().map(|requests| requests.number).sum()
    }

    /// All of them but heartbeats.
    pub fn number(&self) -> usize {
        self.number_for_grants() + self.policy_status
    }
}

/// How many requests were begun: a watch is told twice.
pub fn requests(events: &[Value]) -> usize {
    let begun =
        |event: &&Value| text(event, "/verb") != "watch" || text(event, "/stage") == "ResponseStarted";
    events.iter().filter(begun).count()
}

fn is_write(event: &Value) -> bool {
    let changes = matches!(
        text(event, "/verb"),
        "create" | "update" | "patch" | "delete" | "deletecollection"
    );
    let stored = text(event, "/objectRef/apiGroup") != "authorization.k8s.io"
        && !text(event, "/requestURI").contains("dryRun=");
    changes && stored && text(event, "/stage") == "ResponseComplete"
}

/// Whether it says nothing but that the operator lives, or leads.
fn is_heartbeat(event: &Value) -> bool {
    text(event, "/objectRef/resource") == "leases"
}

/// How long the API server had it.
fn took(event: &Value) -> Option<f64> {
    let at = |pointer: &str| text(event, pointer).parse::<Timestamp>().ok();
    Some(milliseconds(
        at("/requestReceivedTimestamp")?,
        at("/stageTimestamp")?,
    ))
}

fn kind(event: &Value) -> String {
    let (verb, resource) = (text(event, "/verb"), text(event, "/objectRef/resource"));
    match text(event, "/objectRef/subresource") {
        "" => format!("{verb} {resource}"),
        subresource => format!("{verb} {resource}/{subresource}"),
    }
}

fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
