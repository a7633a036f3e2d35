//! Policies say whether grants may name them, and what is missing if not.

use anyhow::{Context as _, ensure};
use curfew::api::{AccessPolicy, conditions};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::support::{Place, SOON, Suite};
use crate::tests;

tests![
    a_sound_policy_is_ready,
    a_policy_the_api_server_can_see_through_is_refused_by_it,
    what_is_wrong_with_a_policy_is_said_in_its_ready_condition,
    missing_rights_are_said_as_rbac_that_makes_the_policy_ready,
    a_grant_of_an_unready_policy_is_denied_with_the_policys_problem,
    live_grants_are_counted,
];

fn ready(policy: &AccessPolicy) -> Option<Condition> {
    let conditions = policy.status.as_ref()?.conditions.iter();
    conditions
        .clone()
        .find(|condition| condition.type_ == conditions::READY)
        .cloned()
}

async fn a_sound_policy_is_ready(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?;
    let ready = ready(&policy).context("no condition")?;
    ensure!(
        ready.status == "True" && ready.observed_generation == policy.metadata.generation,
        "{ready:?}"
    );
    Ok(())
}

async fn a_policy_the_api_server_can_see_through_is_refused_by_it(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let rules = |verb: &str| {
        json!({"entitlements": [{"name": "a", "rules": {"items": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}]}}]})
    };
    let table = [
        (
            json!({"duration": {"default": "2h"}}),
            "default must not exceed max",
        ),
        (
            json!({"subjects": [{"kind": "Group", "name": "devs"}]}),
            "no one would be accountable",
        ),
        (json!({"requesters": []}), "spec.requesters"),
        (
            json!({"requesters": [{"kind": "ServiceAccount", "name": "a"}]}),
            "kind ServiceAccount requires namespace",
        ),
        (rules("*"), "cannot be granted"),
        (rules("escalate"), "cannot be granted"),
        (rules("impersonate:user-info"), "cannot be granted"),
        (
            json!({"entitlements": [{"name": "a", "selection": "Default", "rules": {"narrowing": "Required",
                "items": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}}]}),
            "selection Default cannot be used with narrowing Required",
        ),
        (
            json!({"entitlements": [{"name": "a"}]}),
            "set exactly one of role, rules and actAs",
        ),
        (
            json!({"entitlements": [{"name": "a", "role": {"kind": "ClusterRole", "name": "system:node"}}]}),
            "system: roles cannot be granted",
        ),
        (
            json!({"windows": [{"name": "a", "timeZone": "UTC", "from": "25:00", "to": "08:00"}]}),
            "spec.windows[0].from",
        ),
        (
            json!({"windows": [{"name": "a", "timeZone": "UTC", "from": "08:00", "to": "08:00"}]}),
            "a window needs a length",
        ),
        (
            json!({"limits": {"activePerSubject": 0}}),
            "spec.limits.activePerSubject",
        ),
    ];
    for (edit, expected) in table {
        match place.policy_unjudged(edit.clone()).await {
            Ok(_) => anyhow::bail!("{edit} was accepted"),
            Err(error) => {
                let text = format!("{error:#}");
                ensure!(text.contains(expected), "{edit}: no {expected:?} in {text}");
            }
        }
    }
    Ok(())
}

async fn what_is_wrong_with_a_policy_is_said_in_its_ready_condition(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let role = |name: &str| json!({"entitlements": [{"name": "a", "selection": "Default", "role": {"kind": "ClusterRole", "name": name}}]});
    let table: [(Value, &str, Vec<&str>); 7] = [
        (
            json!({"duration": {"max": "13h"}}),
            "Invalid",
            vec!["spec.duration.max", "13h", "at most 12h"],
        ),
        (
            json!({"reason": {"pattern": "PAY-[0-9"}}),
            "Invalid",
            vec!["spec.reason.pattern", "PAY-[0-9"],
        ),
        (
            json!({"windows": [{"name": "office", "timeZone": "Europe/Berln", "from": "08:00", "to": "18:00"}]}),
            "Invalid",
            vec!["spec.windows[0]", "Europe/Berln"],
        ),
        (
            json!({"entitlements": [{"name": "a", "rules": {"narrowing": "Required", "items": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]}}]}),
            "Invalid",
            vec!["narrowing"],
        ),
        (
            role("no-such-role"),
            "RoleNotFound",
            vec!["ClusterRole no-such-role does not exist"],
        ),
        (role("admin"), "RoleForbidden", vec!["admin", "escalation: Allow"]),
        (
            json!({"entitlements": [{"name": "a", "rules": {"items": [
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}}]}),
            "RightsMissing",
            vec!["get secrets", "kind: ClusterRole"],
        ),
    ];
    for (edit, reason, parts) in table {
        let policy = place.policy(edit.clone()).await?;
        let ready = ready(&policy).context("no condition")?;
        ensure!(
            ready.status == "False" && ready.reason == reason,
            "{edit}: {reason} expected, {ready:?}"
        );
        for part in parts {
            ensure!(
                ready.message.contains(part),
                "{edit}: no {part:?} in {}",
                ready.message
            );
        }
    }
    Ok(())
}

async fn becomes_ready(place: &Place<'_>, name: &str) -> anyhow::Result<()> {
    let policies = Api::<AccessPolicy>::all(place.suite.admin.clone());
    eventually("the policy becomes ready", SOON, async || {
        let policy = policies.get(name).await.map_err(|error| error.to_string())?;
        match ready(&policy) {
            Some(ready) if ready.status == "True" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

async fn missing_rights_are_said_as_rbac_that_makes_the_policy_ready(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let role: ClusterRole = serde_json::from_value(json!({
        "metadata": {"name": suite.fresh("unbound")},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
    }))?;
    Api::<ClusterRole>::all(suite.admin.clone())
        .create(&PostParams::default(), &role)
        .await?;
    let policy = place
        .policy(json!({"entitlements": [
            {"name": "look", "selection": "Default", "role": {"kind": "ClusterRole", "name": role.name_any()}},
            {"name": "scale", "rules": {"items": [
                {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]}]}},
        ]}))
        .await?;
    let message = ready(&policy).context("no condition")?.message;
    let (_, rbac) = message
        .split_once("to allow it, apply:\n")
        .with_context(|| message.clone())?;
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(file.path(), rbac)?;
    suite
        .plane
        .run_kubectl(&["apply", "-f", &file.path().display().to_string()])
        .await?;
    becomes_ready(&place, &policy.name_any()).await?;
    let both = json!({"duration": "2s", "entitlements": [{"name": "look"}, {"name": "scale"}]});
    place.active("alice", &policy.name_any(), both).await?;
    Ok(())
}

async fn a_grant_of_an_unready_policy_is_denied_with_the_policys_problem(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place
        .policy(json!({"reason": {"pattern": "("}}))
        .await?
        .name_any();
    let refused = place.denied("alice", &policy, json!({})).await?;
    ensure!(refused.reason == "PolicyNotReady", "{refused:?}");
    ensure!(refused.message.contains("spec.reason.pattern"), "{refused:?}");
    Ok(())
}

async fn live_grants_are_counted(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let policies = Api::<AccessPolicy>::all(suite.admin.clone());
    let counts = async |wanted: u32| {
        eventually(
            &format!("{wanted} live grants are counted"),
            // A count follows within 10 s, the grant lasts 30.
            4 * SOON,
            async || {
                let policy = policies.get(&policy).await.map_err(|error| error.to_string())?;
                let counted = policy.status.map(|status| status.live_grants);
                if counted == Some(wanted) {
                    Ok(())
                } else {
                    Err(format!("{counted:?}"))
                }
            },
        )
        .await
    };
    place.active("alice", &policy, json!({"duration": "30s"})).await?;
    place.active("eve", &policy, json!({"duration": "30s"})).await?;
    counts(2).await?;
    counts(0).await
}
