//! That the guards are there as they were generated. What they refuse is for the attacks to try.

use anyhow::{Context as _, ensure};
use curfew::core::{Guard, GuardKind, GuardSettings, Span, guards};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::attacks::{binding, ordinary_job, role};
use crate::harness::eventually;
use crate::suite::{SOON, Suite};
use crate::tests;

tests![
    what_the_api_server_keeps_is_what_was_generated,
    every_expression_type_checks,
    nobody_asks_for_a_policy_they_may_not_request,
];

/// What the manifests were made for: the default flags.
pub fn installed() -> anyhow::Result<Vec<Guard>> {
    let settings = GuardSettings {
        namespace: "curfew-system".to_owned(),
        operator: "curfew".to_owned(),
        sweeper: "curfew-sweep".to_owned(),
        identities: "curfew-identities".to_owned(),
        cap: Span::parse("12h")?,
        creators: Vec::new(),
    };
    Ok(guards(&settings))
}

/// The API of a guard's kind.
pub fn api_of(guard: GuardKind, client: Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", guard.name());
    Api::all_with(client, &ApiResource::from_gvk(&kind))
}

/// Whether one of the guards on grants and on what we make refuses a forgery.
pub async fn holds(client: &Client, guard: &str) -> Result<(), String> {
    let mut forged = match guard {
        "curfew-grant" => json!({"apiVersion": "access.curfew.dev/v1alpha1", "kind": "AccessGrant",
            "metadata": {"name": "forged"}, "spec": {"policyRef": {"name": "none"}, "reason": "a forgery",
                "requester": {"username": "admin", "groups": ["system:masters", "system:authenticated"]}}}),
        "curfew-fuse" => ordinary_job("forged"),
        "curfew-role" => role("forged"),
        "curfew-reserved-names" => binding("curfew-forged", "view", "mallory"),
        _ => binding("forged", "view", "mallory"),
    };
    if guard != "curfew-reserved-names" {
        crate::suite::merge(
            &mut forged,
            json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": "none"}}}),
        );
    }
    match make(client, Some("default"), forged).await {
        Ok(_) => Err("a forgery was accepted".to_owned()),
        Err(error) if error.to_string().contains(guard) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

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

/// Tries to create an object.
async fn make(client: &Client, namespace: Option<&str>, object: Value) -> kube::Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let types = object.types.clone().unwrap_or_default();
    let kind = GroupVersionKind::try_from(&types).map_err(|error| kube::Error::Service(error.into()))?;
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api.create(&dry_run, &object).await
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
