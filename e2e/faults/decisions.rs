//! The guard that attests who decides is away: what is decided then never counts.

use anyhow::{Context as _, ensure};
use curfew::api::{AccessDecision, conditions};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::ground::{Asked, Ground};
use super::guards::{NOTICED, end, is_ready, is_unready, put_back};
use crate::attacks::{binding, user};
use crate::harness::{Operator, eventually};
use crate::suite::{SOON, Suite};
use crate::tests;

tests![an_approval_seen_while_its_guard_is_away_never_counts];

/// The guard that is taken away.
const DECIDER: &str = "curfew-decider";

async fn an_approval_seen_while_its_guard_is_away_never_counts(suite: &Suite) -> anyhow::Result<()> {
    let stages = json!([{"name": "leads", "approvers": [{"kind": "Group", "name": "leads"}]}]);
    let asking_people = json!({"path": "Manual", "approval": {"timeout": "1h", "stages": stages}});
    let ground = Ground::prepare(suite, 1, asking_people).await?;
    let namespace = ground.namespace(0)?;
    let approver = binding("approver", "curfew-approver", "bob");
    Api::<RoleBinding>::namespaced(suite.admin.clone(), namespace)
        .create(&PostParams::default(), &serde_json::from_value(approver)?)
        .await?;
    let operator = ground.operator(None).await?;
    let asked = ground.ask(namespace, json!({"duration": "10m"})).await?;
    awaits_people(&ground, &asked).await?;
    let outcome = forged(&ground, &operator, &asked).await;
    put_back(suite).await?;
    outcome?;
    is_ready(&operator).await?;
    awaits_people(&ground, &asked).await?;
    let made = ground.journal.pieces(&asked.uid);
    ensure!(made.is_empty(), "made by a forged approval: {made:?}");
    let bob = suite.plane.client_as("bob").await?;
    approve(&ground, &bob, &asked, "real", &PostParams::default()).await?;
    ground.is_active(&asked).await?;
    let forged = verdict(&ground, "forged").await?.context("no verdict any more")?;
    ensure!(forged.reason == "NotAttested", "{forged:?}");
    end(&ground, &operator, &[&asked]).await
}

/// With the guard away, the administrator approves in bob's name.
async fn forged(ground: &Ground<'_>, operator: &Operator, asked: &Asked) -> anyhow::Result<()> {
    let admin = &ground.suite.admin;
    Api::<ValidatingAdmissionPolicyBinding>::all(admin.clone())
        .delete(DECIDER, &DeleteParams::default())
        .await
        .map(drop)?;
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    eventually(
        "the API server lets a forged approval through",
        SOON,
        async || {
            approve(ground, admin, asked, "forged", &dry_run)
                .await
                .map_err(|error| format!("{error:#}"))
        },
    )
    .await?;
    // What is forged before anybody has noticed counts: that is out of reach.
    let text = is_unready(operator, NOTICED).await?;
    ensure!(text.contains(DECIDER), "{text}");
    approve(ground, admin, asked, "forged", &PostParams::default()).await?;
    let refused = eventually("the forged approval has a verdict", SOON, async || match verdict(
        ground, "forged",
    )
    .await
    {
        Ok(Some(verdict)) => Ok(verdict),
        other => Err(format!("{other:?}")),
    })
    .await?;
    ensure!(
        refused.status == "False"
            && refused.reason == "NotAttested"
            && refused.message.contains("decide again"),
        "{refused:?}"
    );
    Ok(())
}

async fn awaits_people(ground: &Ground<'_>, asked: &Asked) -> anyhow::Result<()> {
    let awaits = ground.told(asked, "it awaits people", |tale| {
        tale.state() == "AwaitingApproval"
    });
    awaits.await.map(drop)
}

/// Somebody approves as bob.
async fn approve(
    ground: &Ground<'_>,
    client: &Client,
    asked: &Asked,
    name: &str,
    how: &PostParams,
) -> anyhow::Result<()> {
    let grants = ground.places.first().context("no namespace")?.grants();
    let resolved = grants
        .get(&asked.name)
        .await?
        .status
        .and_then(|status| status.resolved);
    let decision = json!({
        "metadata": {"name": name},
        "spec": {
            "grantRef": {"name": asked.name, "uid": asked.uid},
            "decision": "Approve", "accessHash": resolved.context("nothing is resolved")?.hash,
            "decider": user("bob"),
        },
    });
    Api::<AccessDecision>::namespaced(client.clone(), &asked.namespace)
        .create(how, &serde_json::from_value(decision)?)
        .await?;
    Ok(())
}

async fn verdict(ground: &Ground<'_>, name: &str) -> anyhow::Result<Option<Condition>> {
    let decisions = Api::<AccessDecision>::namespaced(ground.suite.admin.clone(), ground.namespace(0)?);
    let status = decisions.get(name).await?.status.unwrap_or_default();
    let mut told = status.conditions.into_iter();
    Ok(told.find(|condition| condition.type_ == conditions::COUNTED))
}
