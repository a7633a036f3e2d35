//! What surrounds Curfew: impersonation, tools that change Jobs, quota, and what others hang beneath ours.

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
    whoever_may_impersonate_is_whom_they_impersonate_and_nobody_else,
    a_tool_that_suspends_jobs_leaves_access_unmade_that_a_fuse_has_to_hold,
    a_quota_without_jobs_leaves_access_unmade_that_a_fuse_has_to_hold,
    what_hangs_beneath_ours_holds_nothing_back_while_curfew_lives,
    a_twin_of_a_binding_ends_with_the_role,
];

const FAMILY: &str = "surroundings";

async fn whoever_may_impersonate_is_whom_they_impersonate_and_nobody_else(
    suite: &Suite,
) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite).await?;
    let callers = Callers::new(suite);
    let grants = ground.at(CURFEW, "accessgrants");
    // Admission sees only whom the administrator plays: impersonation is out of the guards' reach, and on the record.
    let played = Who::AlmightyAs("bob".to_owned());
    let mut asked = ground.asking("bob", json!({"metadata": {"name": "as-bob"}}));
    asked["spec"]["requester"]["groups"] = json!(["system:masters", "system:authenticated"]);
    callers
        .ask(&played, &Request::create(grants.clone(), asked))
        .await?
        .context("bob, played by whoever may")?;
    let denied = ground.place.in_state("as-bob", "Denied").await?;
    ensure!(
        denied.spec.requester.unwrap_or_default().username == "bob",
        "it is not bob's"
    );
    // `edit` holds `impersonate` on every service account of the namespace: what one asks is asked by everybody there.
    let account = format!("system:serviceaccount:{}:default", ground.place.name);
    let groups = json!([
        "system:serviceaccounts",
        format!("system:serviceaccounts:{}", ground.place.name),
        "system:authenticated"
    ]);
    let accounts = Api::<RoleBinding>::namespaced(suite.admin.clone(), &ground.place.name);
    let mut may = binding("default", "curfew-requester", "default");
    may["subjects"] = json!([{"kind": "ServiceAccount", "name": "default", "namespace": ground.place.name}]);
    create(&accounts, may).await?;
    let mut asked = ground.asking("eve", json!({"metadata": {"name": "as-account"}}));
    asked["spec"]["requester"] = json!({"username": account, "groups": groups});
    asked["spec"]["notAfter"] = json!("2036-01-01T00:00:00Z");
    let played = Who::As("eve", account);
    let request = Request::create(grants, asked);
    eventually("the account may ask", SOON, async || {
        let answer = callers.ask(&played, &request).await;
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

/// Asks for access that a fuse has to hold, and tells why it is not made.
async fn not_made(place: &Place<'_>, words: &str) -> anyhow::Result<()> {
    let policy = place.policy(json!({"fuse": "Required"})).await?.name_any();
    let grant = place.ask("alice", &policy, json!({"duration": "1m"})).await?;
    let name = grant.name_any();
    let grants = place.grants();
    eventually("it says why", SOON, async || {
        let waits = grants.get(&name).await.map_err(|error| error.to_string())?;
        match condition(&waits, "Active") {
            Some(active) if active.reason == "Activating" && active.message.contains(words) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    ensure!(
        place.artifacts().await?.is_empty(),
        "{:?}",
        place.artifacts().await?
    );
    grants.delete(&name, &DeleteParams::default()).await?;
    place.nothing_left().await
}

async fn a_tool_that_suspends_jobs_leaves_access_unmade_that_a_fuse_has_to_hold(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let Some(tool) = Suspender::install(&place).await? else {
        println!("attacks: no tool that suspends Jobs was tried: this API server has no mutating policies");
        return Ok(());
    };
    let outcome = not_made(&place, "This Job is not a valid fuse. A fuse runs no pod").await;
    tool.remove().await?;
    count(FAMILY, 1, usize::from(outcome.is_ok()));
    outcome
}

async fn a_quota_without_jobs_leaves_access_unmade_that_a_fuse_has_to_hold(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    no_jobs(&place).await?;
    let outcome = not_made(&place, "exceeded quota").await;
    count(FAMILY, 1, usize::from(outcome.is_ok()));
    outcome
}

/// With an operator, whatever is hung beneath: it deletes the binding itself. Without one, the garbage collector would
/// delete it in the foreground where both it and its fuse have dependents that block.
async fn what_hangs_beneath_ours_holds_nothing_back_while_curfew_lives(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite).await?;
    let access = ground.more("4s").await?;
    let callers = Callers::new(suite);
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &ground.place.name);
    let binding = bindings.get(&access.name).await?;
    let uid = binding.uid().context("no uid")?;
    for (name, group_version, kind, uid) in [
        ("beneath-fuse", "batch/v1", "Job", access.fuse_uid.clone()),
        ("beneath-binding", RBAC, "RoleBinding", uid),
        (
            "beneath-grant",
            CURFEW,
            "AccessGrant",
            access.grant.uid().context("no uid")?,
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
    let left = bindings.get_opt(&access.name).await?;
    let maps = Api::<ConfigMap>::namespaced(suite.admin.clone(), &ground.place.name);
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    for name in ["beneath-fuse", "beneath-binding", "beneath-grant"] {
        maps.patch(name, &PatchParams::default(), &free).await?;
    }
    let held = ended.is_ok() && left.is_none();
    count(FAMILY, 3, if held { 3 } else { 0 });
    ended?;
    ensure!(left.is_none(), "the binding stands: {left:?}");
    ground.done().await
}

/// Whoever may bind a Role and holds what it gives may bind ours too. They give what they might give by a Role of
/// their own; and this ends with the Role, whose name never comes again.
async fn a_twin_of_a_binding_ends_with_the_role(suite: &Suite) -> anyhow::Result<()> {
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
    eventually("the twin gives nothing", SOON, async || {
        match ground.place.may("dave", "get", "configmaps").await {
            Ok(false) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    count(FAMILY, 1, 1);
    ensure!(user("dave")["username"] == "dave", "dave is somebody else");
    ground.done().await
}
