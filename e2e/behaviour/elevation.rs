//! Access that could make something that outlasts it is marked, from before it begins until after it ended.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::support::{Place, Suite};
use crate::tests;

tests![
    a_role_with_which_secrets_are_written_is_marked_while_it_is_in_force,
    rules_with_which_tokens_are_made_are_marked_while_they_are_in_force,
    other_access_is_not_marked,
    access_whose_mark_is_deleted_ends,
];

/// Whether the API server says that a person is elevated here. `kubectl auth can-i` cannot ask: it knows only resources
/// that are served.
async fn elevated(place: &Place<'_>, person: &str) -> anyhow::Result<bool> {
    let review: SelfSubjectAccessReview = serde_json::from_value(json!({
        "spec": {"resourceAttributes": {
            "group": "access.curfew.dev", "resource": "elevations", "name": "active", "verb": "hold",
            "namespace": place.name,
        }},
    }))?;
    let reviews = Api::<SelfSubjectAccessReview>::all(place.suite.plane.client_as(person).await?);
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// A policy for a role that writes Secrets, and for rules that make tokens.
async fn policy(place: &Place<'_>) -> anyhow::Result<String> {
    let suite = place.suite;
    let roles = Api::<ClusterRole>::all(suite.admin.clone());
    let name = suite.fresh("writer");
    let role: ClusterRole = serde_json::from_value(json!({
        "metadata": {"name": name},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}],
    }))?;
    roles.create(&PostParams::default(), &role).await?;
    let grantable: ClusterRole = serde_json::from_value(json!({
        "metadata": {
            "name": format!("curfew-grantable-{name}"),
            "labels": {"access.curfew.dev/aggregate-to-grantable": "true"},
        },
        "rules": [
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": [name],
             "verbs": ["bind"]},
            {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]},
        ],
    }))?;
    roles.create(&PostParams::default(), &grantable).await?;
    let entitlements = json!({"entitlements": [
        {"name": "write", "selection": "Default", "role": {"kind": "ClusterRole", "name": name}},
        {"name": "tokens", "rules": {"items": [
            {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]},
        ]}},
        {"name": "look", "role": {"kind": "ClusterRole", "name": "view"}},
    ]});
    let policy = place.policy_unjudged(entitlements).await?.name_any();
    place.ready(&policy).await?;
    Ok(policy)
}

async fn a_role_with_which_secrets_are_written_is_marked_while_it_is_in_force(
    suite: &Suite,
) -> anyhow::Result<()> {
    marked_while_in_force(suite, "write", 3).await
}

async fn rules_with_which_tokens_are_made_are_marked_while_they_are_in_force(
    suite: &Suite,
) -> anyhow::Result<()> {
    marked_while_in_force(suite, "tokens", 4).await
}

async fn marked_while_in_force(suite: &Suite, entitlement: &str, pieces: usize) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = policy(&place).await?;
    ensure!(
        !elevated(&place, "alice").await?,
        "alice is elevated before she asks"
    );
    let asked = json!({"duration": "5s", "entitlements": [{"name": entitlement}]});
    let grant = place.active("alice", &policy, asked).await?;
    ensure!(elevated(&place, "alice").await?, "alice is not elevated");
    ensure!(!elevated(&place, "eve").await?, "eve is elevated");
    let made = place.artifacts().await?;
    ensure!(made.len() == pieces, "{made:?}");
    let bindings = place.bindings().await?;
    let (markers, given): (Vec<_>, Vec<_>) = bindings
        .into_iter()
        .partition(|binding| binding.name_any().ends_with("-elevated"));
    let ([marker], [binding]) = (markers.as_slice(), given.as_slice()) else {
        anyhow::bail!("one marker and one binding, but {made:?}");
    };
    ensure!(
        marker.name_any() == format!("{}-elevated", binding.name_any()),
        "{made:?}"
    );
    ensure!(marker.role_ref.name == "curfew-elevated", "{marker:?}");
    ensure!(marker.subjects == binding.subjects, "{marker:?}");
    ensure!(
        marker.metadata.owner_references == binding.metadata.owner_references
            && marker.metadata.labels == binding.metadata.labels
            && marker.metadata.annotations == binding.metadata.annotations,
        "{marker:?}, {binding:?}"
    );
    let version = |binding: &RoleBinding| -> anyhow::Result<u64> {
        Ok(binding.resource_version().context("no version")?.parse()?)
    };
    ensure!(
        version(marker)? < version(binding)?,
        "marked after there was access"
    );
    place.in_state(&grant.name_any(), "Expired").await?;
    ensure!(!elevated(&place, "alice").await?, "alice is still elevated");
    place.nothing_left().await
}

async fn other_access_is_not_marked(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = policy(&place).await?;
    let asked = json!({"duration": "10m", "entitlements": [{"name": "look"}]});
    let grant = place.active("alice", &policy, asked).await?;
    ensure!(!elevated(&place, "alice").await?, "alice is elevated");
    let made = place.artifacts().await?;
    ensure!(made.len() == 2, "a fuse and a binding, and {made:?}");
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::default())
        .await?;
    place.nothing_left().await
}

async fn access_whose_mark_is_deleted_ends(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = policy(&place).await?;
    let grant = place.active("alice", &policy, json!({"duration": "10m"})).await?;
    let bindings = place.bindings().await?;
    let marker = bindings
        .iter()
        .map(kube::ResourceExt::name_any)
        .find(|name| name.ends_with("-elevated"))
        .context("no marker")?;
    place.delete::<RoleBinding>(&marker).await?;
    let ended = place.in_state(&grant.name_any(), "Revoked").await?;
    let revocation = ended.status.and_then(|status| status.revocation);
    let message = revocation.context("no revocation")?.message;
    ensure!(
        message == format!("RoleBinding {marker} was deleted by someone else"),
        "{message}"
    );
    ensure!(!place.may("alice", "create", "secrets").await?, "alice still may");
    place.nothing_left().await
}
