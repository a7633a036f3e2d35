//! Attacks through the cluster around Curfew: impersonation, mutating tools, quota, and dependents of artifacts.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::attack::{Callers, Request, Who, count};
use super::scene::Ground;
use crate::harness::eventually;
use crate::support::fuses::{Suspender, no_jobs};
use crate::support::json::{CURFEW, RBAC};
use crate::support::manifests::{binding, create, user};
use crate::support::{Place, SOON, Suite, condition};
use crate::tests;

tests![
    an_impersonator_can_request_only_as_the_impersonated_user,
    access_with_a_required_fuse_waits_if_a_tool_suspends_jobs,
    access_with_a_required_fuse_waits_if_a_quota_forbids_jobs,
    dependents_of_artifacts_do_not_delay_the_end_of_access,
    a_second_binding_of_a_role_ends_with_the_role,
];

/// Name of this family in the counts.
const FAMILY: &str = "surroundings";

async fn an_impersonator_can_request_only_as_the_impersonated_user(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite).await?;
    let callers = Callers::new(suite);
    let grants = ground.at(CURFEW, "accessgrants");
    // Admission sees only the impersonated user, so guards cannot refuse impersonation. The audit log records it.
    let impersonating = Who::AlmightyAs("bob".to_owned());
    let mut grant = ground.asking("bob", json!({"metadata": {"name": "as-bob"}}));
    grant["spec"]["requester"]["groups"] = json!(["system:masters", "system:authenticated"]);
    callers
        .ask(&impersonating, &Request::create(grants.clone(), grant))
        .await?
        .context("the administrator requests access as bob")?;
    let denied = ground.place.in_state("as-bob", "Denied").await?;
    ensure!(
        denied.spec.requester.unwrap_or_default().username == "bob",
        "the requester is not bob"
    );
    // `edit` may impersonate every service account of the namespace. A request by such an account may thus come from
    // anyone with `edit`.
    let account = format!("system:serviceaccount:{}:default", ground.place.name);
    let groups = json!([
        "system:serviceaccounts",
        format!("system:serviceaccounts:{}", ground.place.name),
        "system:authenticated"
    ]);
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &ground.place.name);
    let mut may_request = binding("default", "curfew-requester", "default");
    may_request["subjects"] =
        json!([{"kind": "ServiceAccount", "name": "default", "namespace": ground.place.name}]);
    create(&bindings, may_request).await?;
    let mut grant = ground.asking("eve", json!({"metadata": {"name": "as-account"}}));
    grant["spec"]["requester"] = json!({"username": account, "groups": groups});
    grant["spec"]["notAfter"] = json!("2036-01-01T00:00:00Z");
    let impersonating = Who::As("eve", account);
    let request = Request::create(grants, grant);
    eventually("the service account may request access", SOON, async || {
        let answer = callers.ask(&impersonating, &request).await;
        let answer = answer.map_err(|error| format!("{error:#}"))?;
        answer.map(drop).map_err(|error| error.to_string())
    })
    .await?;
    let denied = ground.place.in_state("as-account", "Denied").await?;
    let accepted = condition(&denied, "Accepted").map(|accepted| accepted.reason.clone());
    ensure!(accepted.as_deref() == Some("RequesterNotListed"), "{accepted:?}");
    count(FAMILY, 2, 2);
    ground.done().await
}

/// Requests access with a required fuse. Checks that the condition `Active` gives the reason and no artifact exists.
async fn not_activated(place: &Place<'_>, words: &str) -> anyhow::Result<()> {
    let policy = place.policy(json!({"fuse": "Required"})).await?.name_any();
    let grant = place.ask("alice", &policy, json!({"duration": "1m"})).await?;
    let name = grant.name_any();
    let grants = place.grants();
    eventually(
        "the condition Active says why there is no access",
        SOON,
        async || {
            let grant = grants.get(&name).await.map_err(|error| error.to_string())?;
            match condition(&grant, "Active") {
                Some(active) if active.reason == "Activating" && active.message.contains(words) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        },
    )
    .await?;
    let artifacts = place.artifacts().await?;
    ensure!(artifacts.is_empty(), "artifacts exist: {artifacts:?}");
    grants.delete(&name, &DeleteParams::default()).await?;
    place.nothing_left().await
}

async fn access_with_a_required_fuse_waits_if_a_tool_suspends_jobs(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let Some(tool) = Suspender::install(&place).await? else {
        println!(
            "attacks: skipped the tool that suspends Jobs: this API server has no mutating admission policies"
        );
        return Ok(());
    };
    let outcome = not_activated(&place, "This Job is not a valid fuse. A fuse runs no pod").await;
    tool.remove().await?;
    count(FAMILY, 1, usize::from(outcome.is_ok()));
    outcome
}

async fn access_with_a_required_fuse_waits_if_a_quota_forbids_jobs(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    no_jobs(&place).await?;
    let outcome = not_activated(&place, "exceeded quota").await;
    count(FAMILY, 1, usize::from(outcome.is_ok()));
    outcome
}

/// The operator deletes the binding itself, so its dependents cannot delay the end.
///
/// Without an operator they could: the garbage collector deletes a binding in the foreground if the binding and its
/// fuse both have dependents that block.
async fn dependents_of_artifacts_do_not_delay_the_end_of_access(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite).await?;
    let access = ground.more("4s").await?;
    let callers = Callers::new(suite);
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &ground.place.name);
    let binding = bindings.get(&access.name).await?;
    let uid = binding.uid().context("the object has no uid")?;
    for (name, group_version, kind, uid) in [
        ("beneath-fuse", "batch/v1", "Job", access.fuse_uid.clone()),
        ("beneath-binding", RBAC, "RoleBinding", uid),
        (
            "beneath-grant",
            CURFEW,
            "AccessGrant",
            access.grant.uid().context("the object has no uid")?,
        ),
    ] {
        let owner = if kind == "AccessGrant" {
            access.grant.name_any()
        } else {
            access.name.clone()
        };
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": name, "finalizers": ["example.com/mine"],
            "ownerReferences": [{"apiVersion": group_version, "kind": kind, "name": owner, "uid": uid,
                "blockOwnerDeletion": true}]}});
        callers
            .ask(
                &Who::Person("eve"),
                &Request::create(ground.at("v1", "configmaps"), map),
            )
            .await??;
    }
    let ended = ground.place.in_state(&access.grant.name_any(), "Expired").await;
    let remaining = bindings.get_opt(&access.name).await?;
    let maps = Api::<ConfigMap>::namespaced(suite.admin.clone(), &ground.place.name);
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    for name in ["beneath-fuse", "beneath-binding", "beneath-grant"] {
        maps.patch(name, &PatchParams::default(), &free).await?;
    }
    let held = ended.is_ok() && remaining.is_none();
    count(FAMILY, 3, if held { 3 } else { 0 });
    ended?;
    ensure!(remaining.is_none(), "the binding still exists: {remaining:?}");
    ground.done().await
}

/// A person who may bind Roles and holds the rights of Curfew's Role may bind it to someone else.
///
/// This is no new power: the person could bind a Role of their own. The second binding ends with Curfew's Role, whose
/// name is never used again.
async fn a_second_binding_of_a_role_ends_with_the_role(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite).await?;
    let access = ground.more("3s").await?;
    let callers = Callers::new(suite);
    let mut twin = binding("twin", &access.name, "dave");
    twin["roleRef"]["kind"] = json!("Role");
    let twins = ground.at(RBAC, "rolebindings");
    callers
        .ask(&Who::Person("bob"), &Request::create(twins, twin))
        .await??;
    ground.place.in_state(&access.grant.name_any(), "Expired").await?;
    eventually("the second binding grants nothing", SOON, async || {
        match ground.place.may("dave", "get", "configmaps").await {
            Ok(false) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    count(FAMILY, 1, 1);
    ensure!(user("dave")["username"] == "dave", "the binding was for dave");
    ground.done().await
}
