//! That the guards are there as they were generated. What they refuse is for the attacks to try.

use anyhow::{Context as _, ensure};
use curfew::core::guard::GuardKind;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::harness::eventually;
use crate::support::guards::{api_of, installed};
use crate::support::{SOON, Suite};
use crate::tests;

tests![
    what_the_api_server_keeps_is_what_was_generated,
    every_expression_type_checks,
    nobody_asks_for_a_policy_they_may_not_request,
];

async fn what_the_api_server_keeps_is_what_was_generated(suite: &Suite) -> anyhow::Result<()> {
    for guard in installed()? {
        if guard.kind.mutates() && !suite.fills_in {
            continue;
        }
        let kept = api_of(guard.kind, suite.admin.clone())
            .get(&guard.name)
            .await
            .with_context(|| format!("{} {}", guard.kind.name(), guard.name))?;
        ensure!(
            kept.data["spec"] == guard.manifest["spec"],
            "{} {}: kept\n{:#}\ngenerated\n{:#}",
            guard.kind.name(),
            guard.name,
            kept.data["spec"],
            guard.manifest["spec"]
        );
    }
    Ok(())
}

async fn every_expression_type_checks(suite: &Suite) -> anyhow::Result<()> {
    let policies = api_of(GuardKind::ValidatingPolicy, suite.admin.clone());
    for guard in installed()? {
        if guard.kind != GuardKind::ValidatingPolicy {
            continue;
        }
        let checked = eventually("the policy is type-checked", SOON, async || {
            let policy = policies
                .get(&guard.name)
                .await
                .map_err(|error| error.to_string())?;
            let seen = policy.data["status"]["observedGeneration"].as_i64();
            if seen.is_some() && seen == policy.metadata.generation {
                Ok(policy)
            } else {
                Err(format!("observed {seen:?}"))
            }
        })
        .await?;
        let warnings = &checked.data["status"]["typeChecking"]["expressionWarnings"];
        ensure!(warnings.is_null(), "{}: {warnings:#}", guard.name);
    }
    Ok(())
}

async fn nobody_asks_for_a_policy_they_may_not_request(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let allowed = place.policy(json!({})).await?.name_any();
    let other = place.policy(json!({})).await?.name_any();
    let may = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "may-ask"},
        "rules": [
            {"apiGroups": ["access.curfew.dev"], "resources": ["accessgrants"], "verbs": ["create"]},
            {"apiGroups": ["access.curfew.dev"], "resources": ["accesspolicies"], "resourceNames": [allowed],
             "verbs": ["request"]},
        ],
    });
    let bound = json!({
        "metadata": {"name": "may-ask"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "may-ask"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "dave"}],
    });
    Api::<Role>::namespaced(suite.admin.clone(), &place.name)
        .create(&PostParams::default(), &serde_json::from_value(may)?)
        .await?;
    Api::<RoleBinding>::namespaced(suite.admin.clone(), &place.name)
        .create(&PostParams::default(), &serde_json::from_value(bound)?)
        .await?;
    eventually("dave may ask", SOON, async || {
        place
            .ask("dave", &allowed, json!({}))
            .await
            .map_err(|error| format!("{error:#}"))
    })
    .await?;
    let error = place
        .ask("dave", &other, json!({}))
        .await
        .err()
        .context("accepted")?;
    let (error, words) = (
        format!("{error:#}"),
        format!("You may not request accesspolicies/{other}"),
    );
    ensure!(error.contains(&words), "{error}");
    for (policy, answer) in [(&allowed, "yes"), (&other, "no")] {
        let named = format!("accesspolicies/{policy}");
        let question = ["auth", "can-i", "request", &named, "--namespace", &place.name];
        let output = suite.plane.kubectl_as("dave", &question)?.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.trim() == answer, "{named}: {said}");
    }
    Ok(())
}
