//! Access that lasts, and the revocation of it.

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, RevocationCause, conditions};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::support::{Place, condition};

/// Waits for the end and checks its cause.
pub async fn revoked(
    place: &Place<'_>,
    grant: &AccessGrant,
    cause: RevocationCause,
    part: &str,
) -> anyhow::Result<()> {
    let ended = place.in_state(&grant.name_any(), "Revoked").await?;
    let revocation = ended
        .status
        .clone()
        .and_then(|status| status.revocation)
        .context("no revocation")?;
    ensure!(revocation.cause == cause, "{cause:?} expected, {revocation:?}");
    ensure!(revocation.message.contains(part), "no {part:?} in {revocation:?}");
    place.nothing_left().await?;
    let told = place.events(&ended).await?;
    ensure!(
        told.last()
            .is_some_and(|last| last.starts_with("Revoked: ") && last.contains(part)),
        "{told:?}"
    );
    let drifted = condition(&ended, conditions::DRIFTED).is_some();
    ensure!(
        drifted == (cause == RevocationCause::ArtifactChanged),
        "{:?}",
        ended.status
    );
    ensure!(!place.may("alice", "list", "pods").await?, "alice still may");
    Ok(())
}

/// Access for longer than any test takes.
pub async fn long(place: &Place<'_>, policy: &str) -> anyhow::Result<AccessGrant> {
    place.active("alice", policy, json!({"duration": "10m"})).await
}

/// A ClusterRole of this test that the operator may bind, and a policy that hands it out.
pub async fn own_role(place: &Place<'_>, on_change: &str) -> anyhow::Result<(String, String)> {
    let suite = place.suite;
    let name = suite.fresh("role");
    let role = |name: &str, label: Value, rules: Value| -> anyhow::Result<ClusterRole> {
        Ok(serde_json::from_value(
            json!({"metadata": {"name": name, "labels": label}, "rules": rules}),
        )?)
    };
    let roles = Api::<ClusterRole>::all(suite.admin.clone());
    let looks = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]);
    roles
        .create(&PostParams::default(), &role(&name, json!({}), looks)?)
        .await?;
    let bind = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
        "resourceNames": [name], "verbs": ["bind"]}]);
    let label = json!({"access.curfew.dev/aggregate-to-grantable": "true"});
    let grantable = format!("curfew-grantable-{name}");
    roles
        .create(&PostParams::default(), &role(&grantable, label, bind)?)
        .await?;
    let entitlement = json!({"entitlements": [{"name": "look", "selection": "Default",
        "role": {"kind": "ClusterRole", "name": name, "onChange": on_change}}]});
    let policy = place.policy_unjudged(entitlement).await?.name_any();
    place.ready(&policy).await?;
    Ok((name, policy))
}
