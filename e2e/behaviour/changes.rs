//! Somebody else changes what access rests on: noticed within seconds, never silently granted again.

use anyhow::{Context as _, ensure};
use curfew::api::{AccessPolicy, RevocationCause};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::support::Suite;
use crate::support::changes::{long, own_role, revoked};
use crate::tests;

tests![
    a_deleted_binding_is_not_made_again,
    a_deleted_fuse_ends_the_access,
    a_role_changed_after_the_fact_ends_the_access_unless_the_policy_keeps_it,
    a_policy_that_would_refuse_it_now_ends_the_access_unless_it_keeps_it,
    a_policy_edit_that_still_allows_it_changes_nothing,
    a_policy_replaced_by_a_tool_ends_nothing,
    a_namespace_moved_out_of_the_policy_ends_the_access,
    what_is_not_ours_is_not_touched,
];

async fn a_deleted_binding_is_not_made_again(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = long(&place, &policy).await?;
    let binding = place.bindings().await?.pop().context("no binding")?.name_any();
    place.delete::<RoleBinding>(&binding).await?;
    revoked(
        &place,
        &grant,
        RevocationCause::ArtifactChanged,
        "was deleted by someone else",
    )
    .await
}

async fn a_deleted_fuse_ends_the_access(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = long(&place, &policy).await?;
    let binding = place.bindings().await?.pop().context("no binding")?.name_any();
    place.delete::<Job>(&binding).await?;
    revoked(&place, &grant, RevocationCause::ArtifactChanged, "Job curfew-").await
}

async fn a_role_changed_after_the_fact_ends_the_access_unless_the_policy_keeps_it(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let roles = Api::<ClusterRole>::all(suite.admin.clone());
    let wide =
        Patch::Merge(json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]}));
    let (kept_role, kept_policy) = own_role(&place, "Keep").await?;
    let kept = long(&place, &kept_policy).await?;
    roles.patch(&kept_role, &PatchParams::default(), &wide).await?;
    let (role, policy) = own_role(&place, "Revoke").await?;
    let grant = long(&place, &policy).await?;
    roles.patch(&role, &PatchParams::default(), &wide).await?;
    let ended = place.in_state(&grant.name_any(), "Revoked").await?;
    let revocation = ended
        .status
        .and_then(|status| status.revocation)
        .context("no revocation")?;
    ensure!(revocation.cause == RevocationCause::RoleChanged, "{revocation:?}");
    ensure!(
        revocation.message == format!("the rules of role {role} changed"),
        "{revocation:?}"
    );
    place
        .in_state(&kept.name_any(), "Active")
        .await
        .context("the policy says Keep")?;
    roles.delete(&kept_role, &DeleteParams::default()).await?;
    place
        .grants()
        .delete(&kept.name_any(), &DeleteParams::default())
        .await?;
    place.nothing_left().await
}

async fn a_policy_that_would_refuse_it_now_ends_the_access_unless_it_keeps_it(
    suite: &Suite,
) -> anyhow::Result<()> {
    let edits = [
        (json!({"duration": {"max": "5m"}}), "10m asked, at most 5m"),
        (
            json!({"requesters": [{"kind": "Group", "name": "leads"}]}),
            "alice may not request access",
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"place": "elsewhere"}}}),
            "covers namespaces with",
        ),
        (json!({"reason": {"minLength": 500}}), "at least 500 required"),
        (
            json!({"entitlements": [{"name": "other", "selection": "Default",
            "role": {"kind": "ClusterRole", "name": "view"}}]}),
            "no longer offers look",
        ),
    ];
    let place = suite.namespace().await?;
    for (edit, part) in edits {
        let policy = place.policy(json!({})).await?.name_any();
        let grant = long(&place, &policy).await?;
        place.edit_policy(&policy, edit.clone()).await?;
        revoked(&place, &grant, RevocationCause::PolicyChanged, part)
            .await
            .with_context(|| edit.to_string())?;
    }
    let keeping = place.policy(json!({"onPolicyChange": "Keep"})).await?.name_any();
    let grant = long(&place, &keeping).await?;
    place
        .edit_policy(&keeping, json!({"duration": {"max": "5m"}}))
        .await?;
    let refused = place
        .denied("alice", &keeping, json!({"duration": "10m"}))
        .await?;
    ensure!(refused.reason == "DurationTooLong", "{refused:?}");
    place.in_state(&grant.name_any(), "Active").await?;
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::default())
        .await?;
    Ok(())
}

async fn a_policy_edit_that_still_allows_it_changes_nothing(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = long(&place, &policy).await?;
    let before = place.grants().get(&grant.name_any()).await?.resource_version();
    place
        .edit_policy(
            &policy,
            json!({"description": "now with a description", "duration": {"max": "2h"}}),
        )
        .await?;
    place
        .active("alice", &policy, json!({"duration": "2s"}))
        .await
        .context("the edited policy is in use")?;
    let after = place.grants().get(&grant.name_any()).await?.resource_version();
    ensure!(before == after, "the grant was written: {before:?}, {after:?}");
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::default())
        .await?;
    Ok(())
}

async fn a_policy_replaced_by_a_tool_ends_nothing(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?;
    let name = policy.name_any();
    let grant = long(&place, &name).await?;
    let policies = Api::<AccessPolicy>::all(suite.admin.clone());
    policies.delete(&name, &DeleteParams::default()).await?;
    policies
        .create(
            &PostParams::default(),
            &AccessPolicy::new(&name, policy.spec.clone()),
        )
        .await?;
    place.judged(&name).await?;
    place
        .active("alice", &name, json!({"duration": "2s"}))
        .await
        .context("the new policy is in use")?;
    place.in_state(&grant.name_any(), "Active").await?;
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::default())
        .await?;
    Ok(())
}

async fn a_namespace_moved_out_of_the_policy_ends_the_access(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = long(&place, &policy).await?;
    suite
        .plane
        .run_kubectl(&[
            "label",
            "--overwrite",
            "namespace",
            &place.name,
            "place=elsewhere",
        ])
        .await?;
    revoked(
        &place,
        &grant,
        RevocationCause::PolicyChanged,
        "is not one of them",
    )
    .await
}

async fn what_is_not_ours_is_not_touched(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &place.name);
    let before = bindings.get("requesters").await?;
    let grant = place.active("alice", &policy, json!({"duration": "3s"})).await?;
    place.in_state(&grant.name_any(), "Expired").await?;
    let after = bindings.get("requesters").await?;
    ensure!(before == after, "{after:?}");
    Ok(())
}
