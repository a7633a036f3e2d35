//! Write requests to the API server, counted from its audit log.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::readings::milliseconds;

/// Number and time of the requests of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requests {
    /// Number of requests.
    pub number: usize,
    /// Time in the API server, in milliseconds, as a sum over all requests.
    pub milliseconds: f64,
}

/// Write requests by kind, such as `create rolebindings`.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// Requests for grants, by kind.
    pub for_grants: BTreeMap<String, Requests>,
    /// Writes of the status of policies. One write covers many grants.
    pub policy_status: usize,
    /// Renewals of heartbeat Leases and of the leader's lease: about 32 per minute, independent of the number of
    /// grants. No limit on writes counts them.
    pub heartbeats: usize,
}

impl Writes {
    /// Counts the writes among these events of the audit log. Dry runs and access reviews do not count: they store
    /// nothing.
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

    /// Adds other writes to these.
    pub fn add(&mut self, others: &Self) {
        self.policy_status += others.policy_status;
        self.heartbeats += others.heartbeats;
        for (kind, other) in &others.for_grants {
            let requests = self.for_grants.entry(kind.clone()).or_default();
            requests.number += other.number;
            requests.milliseconds += other.milliseconds;
        }
    }

    /// Number of all writes for grants.
    pub fn number_for_grants(&self) -> usize {
        self.for_grants.values().map(|requests| requests.number).sum()
    }

    /// Number of all writes except heartbeats.
    pub fn number(&self) -> usize {
        self.number_for_grants() + self.policy_status
    }
}

/// Number of requests that were started. A watch has two events, of which only `ResponseStarted` counts.
pub fn requests(events: &[Value]) -> usize {
    let started =
        |event: &&Value| text(event, "/verb") != "watch" || text(event, "/stage") == "ResponseStarted";
    events.iter().filter(started).count()
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

/// Whether the event is a renewal of a Lease: a heartbeat or the leader's lease.
fn is_heartbeat(event: &Value) -> bool {
    text(event, "/objectRef/resource") == "leases"
}

/// Time of a request in the API server, in milliseconds.
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
