//! Retention of the record of an ended grant, and the copy of a grant that the watch cache keeps.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{AccessGrant, conditions};
use crate::core::facts::PolicyFacts;
use crate::core::time::duration::AccessDuration;

/// Retention if the policy is not known: the default of the schema, 720 h.
const DEFAULT: Option<AccessDuration> = AccessDuration::from_seconds(720 * 3600);

/// Longest retention of a denied request: one day. People can still read why it was denied, and a flood of denied
/// requests does not fill the cluster's storage.
const DENIED: Option<AccessDuration> = AccessDuration::from_seconds(24 * 3600);

/// Annotation that names the tool that manages a grant. Only in memory; see [`prune`].
const KEPT_BY: &str = "access.curfew.dev/kept-by";

/// Labels and annotations with which tools mark the objects they manage.
const TRACKING_MARKS: [(&str, &str); 7] = [
    ("argocd.argoproj.io/tracking-id", "Argo CD"),
    ("argocd.argoproj.io/instance", "Argo CD"),
    ("app.kubernetes.io/instance", "a release"),
    ("meta.helm.sh/release-name", "Helm"),
    ("kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("helm.toolkit.fluxcd.io/name", "Flux"),
    ("config.k8s.io/owning-inventory", "a Kubernetes inventory"),
];

/// Prefixes of the field managers of tools that recreate a deleted object.
const MANAGERS: [(&str, &str); 4] = [
    ("argocd", "Argo CD"),
    ("helm", "Helm"),
    ("kustomize-controller", "Flux"),
    ("fluxcd", "Flux"),
];

/// Removes the fields of a cached grant that no plan needs.
///
/// The tool that manages the grant is noted in one annotation; field managers, labels and annotations go. Field
/// managers alone are 80 % of a cached grant. An ended grant keeps only the facts about its end.
pub fn prune(grant: &mut AccessGrant) {
    let meta = &mut grant.metadata;
    let keeper = managed_by(meta).or_else(|| {
        meta.managed_fields.iter().flatten().find_map(|entry| {
            let manager = entry.manager.as_deref()?;
            MANAGERS
                .iter()
                .find(|(prefix, _)| manager.starts_with(prefix))
                .map(|(_, tool)| (*tool).to_owned())
        })
    });
    meta.managed_fields = None;
    meta.labels = None;
    meta.annotations = keeper.map(|tool| BTreeMap::from([(KEPT_BY.to_owned(), tool)]));
    let Some(status) = grant.status.as_mut().filter(|status| status.ended_at.is_some()) else {
        return;
    };
    status.resolved = None;
    status.approvals = Vec::new();
    status.artifacts = Vec::new();
    status.revocation = None;
    status
        .conditions
        .retain(|condition| condition.type_ == conditions::ACCEPTED || condition.type_ == conditions::ACTIVE);
    for condition in &mut status.conditions {
        condition.message = String::new();
    }
    grant.spec.requester = None;
    grant.spec.entitlements = None;
    grant.spec.references = Vec::new();
    grant.spec.reason = String::new();
}

/// The tool that would recreate the grant after a deletion. Reads labels, annotations and the note of [`prune`]; does
/// not read field managers.
pub fn managed_by(meta: &ObjectMeta) -> Option<String> {
    let marks = |map: &Option<BTreeMap<String, String>>| {
        map.iter().flat_map(BTreeMap::keys).find_map(|key| {
            TRACKING_MARKS
                .iter()
                .find(|(mark, _)| mark == key)
                .map(|(_, tool)| (*tool).to_owned())
        })
    };
    meta.annotations
        .as_ref()
        .and_then(|annotations| annotations.get(KEPT_BY).cloned())
        .or_else(|| marks(&meta.annotations))
        .or_else(|| marks(&meta.labels))
}

/// Time from which the record of a grant that ended at `ended_at` may be deleted. `None`: never, because a tool would
/// recreate the grant.
pub fn deletable_at(
    meta: &ObjectMeta,
    ended_at: Timestamp,
    denied: bool,
    policy: &PolicyFacts,
) -> Option<Timestamp> {
    if managed_by(meta).is_some() {
        return None;
    }
    let retention = policy.last_known().map(|policy| policy.retention).or(DEFAULT)?;
    let retention = if denied { retention.min(DENIED?) } else { retention };
    Some(retention.after(ended_at))
}

#[cfg(test)]
#[path = "tests/retention.rs"]
mod tests;
