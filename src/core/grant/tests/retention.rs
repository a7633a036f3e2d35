use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use super::*;
use crate::api::{AccessGrantSpec, AccessGrantStatus};
use crate::core::testing::{at, grant, now, policy};
use crate::core::time::timestamp::micro_time;

fn annotated(key: &str) -> ObjectMeta {
    ObjectMeta {
        annotations: Some([(key.to_owned(), "x".to_owned())].into()),
        ..ObjectMeta::default()
    }
}

fn labelled(key: &str) -> ObjectMeta {
    ObjectMeta {
        labels: Some([(key.to_owned(), "x".to_owned())].into()),
        ..ObjectMeta::default()
    }
}

fn meta_written_by(managers: &[&str]) -> ObjectMeta {
    let entry = |manager: &&str| ManagedFieldsEntry {
        manager: Some((*manager).to_owned()),
        ..ManagedFieldsEntry::default()
    };
    ObjectMeta {
        managed_fields: Some(managers.iter().map(entry).collect()),
        ..ObjectMeta::default()
    }
}

#[test]
fn a_grant_with_a_tool_mark_is_never_deleted() {
    for (mark, tool) in [
        ("argocd.argoproj.io/tracking-id", "Argo CD"),
        ("argocd.argoproj.io/instance", "Argo CD"),
        ("app.kubernetes.io/instance", "a release"),
        ("meta.helm.sh/release-name", "Helm"),
        ("kustomize.toolkit.fluxcd.io/name", "Flux"),
        ("helm.toolkit.fluxcd.io/name", "Flux"),
        ("config.k8s.io/owning-inventory", "a Kubernetes inventory"),
    ] {
        for meta in [annotated(mark), labelled(mark)] {
            assert_eq!(managed_by(&meta).as_deref(), Some(tool), "{mark}");
            assert_eq!(
                deletable_at(&meta, now(), false, &policy().ready()),
                None,
                "{mark}"
            );
            assert_eq!(
                deletable_at(&meta, now(), true, &policy().ready()),
                None,
                "{mark}"
            );
        }
    }
    for meta in [
        ObjectMeta::default(),
        annotated("example.com/x"),
        labelled("app.kubernetes.io/name"),
    ] {
        assert_eq!(managed_by(&meta), None);
    }
}

#[test]
fn a_managing_tool_is_noted_before_field_managers_are_removed() {
    for (managers, tool) in [
        (&["argocd-controller"][..], Some("Argo CD")),
        (&["argocd-application-controller"], Some("Argo CD")),
        (&["helm"], Some("Helm")),
        (&["helm-controller"], Some("Helm")),
        (&["kustomize-controller"], Some("Flux")),
        (&["kubectl-create", "curfew", "helm"], Some("Helm")),
        (
            &["kubectl-create", "curfew", "my-helm", "kubectl-client-side-apply"],
            None,
        ),
        (&[], None),
    ] {
        let meta = slimmed(meta_written_by(managers));
        assert_eq!(meta.managed_fields, None);
        assert_eq!(managed_by(&meta).as_deref(), tool, "{managers:?}");
        assert_eq!(
            deletable_at(&meta, now(), false, &policy().ready()).is_none(),
            tool.is_some(),
            "{managers:?}"
        );
    }
}

#[test]
fn the_cache_keeps_only_the_managing_tool_of_labels_and_annotations() {
    for meta in [
        annotated("meta.helm.sh/release-name"),
        labelled("meta.helm.sh/release-name"),
        meta_written_by(&["helm"]),
    ] {
        let meta = slimmed(ObjectMeta {
            name: Some("pay-123".to_owned()),
            ..meta
        });
        let keys: Vec<String> = meta.annotations.clone().unwrap().into_keys().collect();
        assert_eq!(keys, ["access.curfew.dev/kept-by"]);
        assert_eq!(meta.labels, None);
        assert_eq!(managed_by(&meta).as_deref(), Some("Helm"));
        assert_eq!(slimmed(meta.clone()), meta, "slimming twice is slimming once");
    }
    assert_eq!(slimmed(annotated("example.com/x")), ObjectMeta::default());
}

#[test]
fn the_cache_keeps_only_the_end_of_an_ended_grant() {
    let mut grant = grant("pay-123");
    grant.status = Some(AccessGrantStatus {
        ended_at: Some(micro_time(now())),
        ..AccessGrantStatus::default()
    });
    prune(&mut grant);
    assert_eq!(grant.spec.reason, "");
    assert_eq!(grant.spec.requester, None);
    assert_eq!(Some(grant.spec.policy_ref.name), policy().metadata.name);
    assert_eq!(
        grant.status.and_then(|status| status.ended_at),
        Some(micro_time(now()))
    );
}

fn slimmed(meta: ObjectMeta) -> ObjectMeta {
    let mut grant = AccessGrant::new("pay-123", AccessGrantSpec::default());
    grant.metadata = meta;
    prune(&mut grant);
    grant.metadata
}

#[test]
fn retention_follows_the_policy_and_is_at_most_1d_if_denied() {
    let lasting =
        |retention: &str| Arc::new(policy().with(|spec| spec.retention = retention.into()).parsed());
    let (since, why) = (now(), String::new());
    let ready = |retention| PolicyFacts::Ready(lasting(retention));
    let lacking = PolicyFacts::Unready {
        since,
        why: why.clone(),
        policy: Some(lasting("2h")),
    };
    let broken = PolicyFacts::Unready {
        since,
        why: why.clone(),
        policy: None,
    };
    let gone = PolicyFacts::Absent {
        since,
        why,
        text: None,
    };
    for (policy, denied, expected) in [
        (&ready("2h"), false, "2026-12-01T11:00:00Z"),
        (&ready("2h"), true, "2026-12-01T11:00:00Z"),
        (&ready("768h"), false, "2027-01-02T09:00:00Z"),
        (&ready("768h"), true, "2026-12-02T09:00:00Z"),
        (&lacking, false, "2026-12-01T11:00:00Z"),
        (&broken, false, "2026-12-31T09:00:00Z"),
        (&gone, false, "2026-12-31T09:00:00Z"),
        (&gone, true, "2026-12-02T09:00:00Z"),
    ] {
        let at_last = deletable_at(&ObjectMeta::default(), now(), denied, policy);
        assert_eq!(at_last, Some(at(expected)), "{policy:?} {denied}");
    }
}
