//! How long the record of an ended grant stays.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{PolicyFacts, Span};
use crate::api::{AccessGrant, conditions};

/// Retention where no policy says it: that of the schema.
const DEFAULT: Option<Span> = Span::from_seconds(720 * 3600);

/// A denied request is a record for a day: long enough to be looked into, short enough that a flood of them does
/// not fill the cluster's storage.
const DENIED: Option<Span> = Span::from_seconds(24 * 3600);

/// Annotation under which a grant's keeper is noted in memory; see [`slim`].
const KEPT_BY: &str = "access.curfew.dev/kept-by";

/// Labels and annotations by which tools mark what they own.
const TRACKING_MARKS: [(&str, &str); 7] = [
    ("argocd.argoproj.io/tracking-id", "Argo CD"),
    ("argocd.argoproj.io/instance", "Argo CD"),
    ("app.kubernetes.io/instance", "a release"),
    ("meta.helm.sh/release-name", "Helm"),
    ("kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("helm.toolkit.fluxcd.io/name", "Flux"),
    ("config.k8s.io/owning-inventory", "a Kubernetes inventory"),
];

/// Field managers of tools that make again what somebody else deletes.
const MANAGERS: [(&str, &str); 4] = [
    ("argocd", "Argo CD"),
    ("helm", "Helm"),
    ("kustomize-controller", "Flux"),
    ("fluxcd", "Flux"),
];

/// Reduces a copy of a grant to what decisions need. Notes who keeps it, so that field managers, labels and
/// annotations need not be kept (field managers alone are 80 % of a cached grant); of an ended grant only its end
/// is left.
pub fn slim(grant: &mut AccessGrant) {
    let meta = &mut grant.metadata;
    let keeper = keeper(meta).or_else(|| {
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

/// The tool that would make the grant again if it were deleted, if there is one. Reads marks only, or what
/// [`slim`] noted.
pub fn keeper(meta: &ObjectMeta) -> Option<String> {
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

/// When the record of a grant that ended at `ended_at` may go; never, if a tool would only make it again.
pub fn deletable_at(
    meta: &ObjectMeta,
    ended_at: Timestamp,
    denied: bool,
    policy: &PolicyFacts,
) -> Option<Timestamp> {
    if keeper(meta).is_some() {
        return None;
    }
    let policy = match policy {
        PolicyFacts::Ready(policy)
        | PolicyFacts::Unready {
            policy: Some(policy), ..
        } => Some(policy.retention),
        PolicyFacts::Absent { .. } | PolicyFacts::Unready { policy: None, .. } => None,
    };
    let retention = policy.or(DEFAULT)?;
    let retention = if denied { retention.min(DENIED?) } else { retention };
    Some(retention.after(ended_at))
}

#[cfg(test)]
mod tests;
