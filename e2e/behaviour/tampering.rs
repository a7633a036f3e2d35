//! Somebody changes what was made for a grant while the guard that forbids it is away: the operator is the second line
//! of defence. While a guard is away nothing is given, anywhere, so these run one by one.

use anyhow::{Context as _, ensure};
use curfew::api::{ArtifactKind, RevocationCause};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::harness::eventually;
use crate::support::act_as::{Identity, gone, nothing_left};
use crate::support::changes::{long, revoked};
use crate::support::fuses::{fuse, says, told};
use crate::support::{SOON, Suite};
use crate::tests;

tests![
    a_binding_given_to_somebody_else_ends_the_access,
    a_role_of_ours_that_was_widened_ends_the_access,
    a_binding_held_back_by_a_finalizer_gives_nothing,
    a_fuse_suspended_behind_the_guards_back_is_an_alarm,
    a_fuse_and_a_role_held_back_by_finalizers_go_all_the_same,
    what_carries_our_label_and_nobody_recorded_is_removed,
    a_grant_whose_finalizer_somebody_took_off_leaves_nothing,
];

async fn a_binding_given_to_somebody_else_ends_the_access(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = long(&place, &policy).await?;
    let binding = place.bindings().await?.pop().context("no binding")?.name_any();
    let mallory =
        json!({"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}]});
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &place.name);
    suite
        .unguarded(
            "curfew-binding",
            bindings.patch(&binding, &PatchParams::default(), &Patch::Merge(mallory)),
        )
        .await?;
    revoked(
        &place,
        &grant,
        RevocationCause::ArtifactChanged,
        "its subjects were changed",
    )
    .await
}

async fn a_role_of_ours_that_was_widened_ends_the_access(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let asked = json!({"duration": "10m", "entitlements": [{"name": "read"}]});
    let grant = place.active("alice", &policy, asked).await?;
    let binding = place.bindings().await?.pop().context("no binding")?.name_any();
    let roles = Api::<Role>::namespaced(suite.admin.clone(), &place.name);
    let wide = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    suite
        .unguarded(
            "curfew-role",
            roles.patch(&binding, &PatchParams::default(), &Patch::Merge(wide)),
        )
        .await?;
    revoked(
        &place,
        &grant,
        RevocationCause::ArtifactChanged,
        "its rules were changed",
    )
    .await
}

async fn a_binding_held_back_by_a_finalizer_gives_nothing(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = place.active("alice", &policy, json!({"duration": "10s"})).await?;
    let binding = place.bindings().await?.pop().context("no binding")?.name_any();
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &place.name);
    let held = json!({"metadata": {"finalizers": ["example.com/mine-for-ever"]}});
    suite
        .unguarded(
            "curfew-binding",
            bindings.patch(&binding, &PatchParams::default(), &Patch::Merge(held)),
        )
        .await?;
    place.in_state(&grant.name_any(), "Expired").await?;
    ensure!(!place.may("alice", "list", "pods").await?, "alice still may");
    place.nothing_left().await
}

async fn what_carries_our_label_and_nobody_recorded_is_removed(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = long(&place, &policy).await?;
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &place.name);
    let twin = |name: &str, uid: &str| -> anyhow::Result<RoleBinding> {
        Ok(serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"access.curfew.dev/grant-uid": uid}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}],
        }))?)
    };
    let uid = grant.uid().unwrap_or_default();
    for forged in [
        twin("twin", &uid)?,
        twin("orphan", "8d7f9f4e-0000-4000-8000-000000000000")?,
    ] {
        suite
            .unguarded("curfew-binding", bindings.create(&PostParams::default(), &forged))
            .await?;
    }
    eventually("twin and orphan are gone", SOON, async || {
        let left: Vec<_> = place
            .bindings()
            .await
            .map_err(|error| format!("{error:#}"))?
            .iter()
            .map(kube::ResourceExt::name_any)
            .collect();
        if left.iter().any(|name| name == "twin" || name == "orphan") {
            Err(left.join(", "))
        } else {
            Ok(())
        }
    })
    .await?;
    place
        .in_state(&grant.name_any(), "Active")
        .await
        .context("the grant itself is untouched")?;
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::default())
        .await?;
    Ok(())
}

async fn a_grant_whose_finalizer_somebody_took_off_leaves_nothing(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let identity = Identity::prepare(&place).await?;
    let grant = identity.active("alice", "10m").await?;
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let grants = place.grants();
    let name = grant.name_any();
    let patch = PatchParams::default();
    let deed = grants.patch(&name, &patch, &none);
    suite.unguarded("curfew-grant", deed).await?;
    grants
        .delete(&grant.name_any(), &DeleteParams::background())
        .await?;
    gone(&place, &grant).await?;
    nothing_left(suite, &grant).await?;
    ensure!(!identity.acts("alice").await?, "alice still acts");
    Ok(())
}

/// Only with the guard of fuses away can somebody suspend one; the Job controller takes its start back then.
async fn a_fuse_suspended_behind_the_guards_back_is_an_alarm(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = place.active("alice", &policy, json!({"duration": "5m"})).await?;
    let name = grant.name_any();
    says(&place, &name, ("True", "FuseLit"), SOON).await?;
    let jobs = Api::<Job>::namespaced(suite.admin.clone(), &place.name);
    let fuse = fuse(&place).await?.name_any();
    let suspend = Patch::Merge(json!({"spec": {"suspend": true}}));
    let params = PatchParams::default();
    suite
        .unguarded("curfew-fuse", jobs.patch(&fuse, &params, &suspend))
        .await?;
    let alarmed = says(&place, &name, ("False", "FuseSuspended"), SOON).await?;
    let status = alarmed.status.clone().unwrap_or_default();
    ensure!(
        !status.enforced_by.contains("Fuse") && status.enforced_by.starts_with("Controller"),
        "{}",
        status.enforced_by
    );
    ensure!(told(&place, &grant, "FuseSuspended").await? == 1, "not told once");
    ensure!(
        status
            .artifacts
            .iter()
            .any(|record| record.kind == ArtifactKind::Job && record.uid.is_some()),
        "{:?}",
        status.artifacts
    );
    place.grants().delete(&name, &DeleteParams::default()).await?;
    place.nothing_left().await
}

async fn a_fuse_and_a_role_held_back_by_finalizers_go_all_the_same(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let asked = json!({"duration": "14s", "entitlements": [{"name": "read"}]});
    let grant = place.active("alice", &policy, asked).await?;
    let name = place.bindings().await?.pop().context("no binding")?.name_any();
    let held = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/mine-for-ever"]}}));
    let patch = PatchParams::default();
    let fuses = Api::<Job>::namespaced(suite.admin.clone(), &place.name);
    suite
        .unguarded("curfew-fuse", fuses.patch(&name, &patch, &held))
        .await?;
    let roles = Api::<Role>::namespaced(suite.admin.clone(), &place.name);
    suite
        .unguarded("curfew-role", roles.patch(&name, &patch, &held))
        .await?;
    place.in_state(&grant.name_any(), "Expired").await?;
    place.nothing_left().await
}
