//! The three paths from a request to access, by different people.

use anyhow::{Context as _, ensure};
use curfew::api::conditions;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::support::decisions::{approvals, group, says, stage, team};
use crate::support::{Suite, condition};
use crate::tests;

tests![
    a_manual_request_is_given_when_a_person_approves_it,
    an_automatic_request_asks_nobody,
    a_self_served_request_asks_people_only_where_its_policy_says_so,
    an_expression_that_cannot_be_judged_asks_people,
    a_wrong_expression_makes_the_policy_unusable_and_says_where,
];

async fn a_manual_request_is_given_when_a_person_approves_it(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({"duration": "4s"})).await?;
    let missing = "0 of 1 from team, until ";
    says(&grant, conditions::ACCEPTED, ("True", "PolicySatisfied"), "")?;
    says(
        &grant,
        conditions::APPROVED,
        ("Unknown", "AwaitingApproval"),
        missing,
    )?;
    says(&grant, conditions::ACTIVE, ("False", "AwaitingApproval"), missing)?;
    says(
        &grant,
        conditions::RECONCILING,
        ("True", "AwaitingApproval"),
        missing,
    )?;
    ensure!(place.artifacts().await?.is_empty(), "something was made already");
    let row = place.row("bob", "agrant", &grant.name_any()).await?;
    for part in ["alice", "AwaitingApproval", missing, "DEV-123"] {
        ensure!(row.contains(part), "no {part:?} in {row}");
    }

    let decision = place.approve("bob", &grant).await?;
    let active = place.in_state(&grant.name_any(), "Active").await?;
    place
        .counts(&decision, "approved as group leads (stage team: 1 of 1)")
        .await?;
    ensure!(place.may("alice", "list", "pods").await?, "alice may not");
    ensure!(
        !place.may("bob", "list", "pods").await?,
        "bob may what he approved"
    );
    says(
        &active,
        conditions::APPROVED,
        ("True", "Approved"),
        "approved by bob (team)",
    )?;
    let [record] = approvals(&active) else {
        anyhow::bail!("one approval, and {:?}", approvals(&active));
    };
    let resolved = active.status.clone().and_then(|status| status.resolved);
    let resolved = resolved.context("nothing resolved")?;
    ensure!(
        (
            record.stage.as_str(),
            record.username.as_str(),
            record.decision.clone()
        ) == ("team", "bob", decision.name_any()),
        "{record:?}"
    );
    ensure!(
        record.access_hash == resolved.hash && Some(&record.decision_uid) == decision.metadata.uid.as_ref(),
        "{record:?}"
    );
    ensure!(record.approver.to_string() == "group leads", "{record:?}");
    let row = place.row("alice", "agrant", &grant.name_any()).await?;
    for part in ["Active", "approved by bob (team)"] {
        ensure!(row.contains(part), "no {part:?} in {row}");
    }
    let row = place.row("bob", "adec", &decision.name_any()).await?;
    let shown = [
        grant.name_any(),
        "Approve".to_owned(),
        "bob".to_owned(),
        "Counted".to_owned(),
    ];
    for part in &shown {
        ensure!(row.contains(part), "no {part:?} in {row}");
    }

    let over = place.in_state(&grant.name_any(), "Expired").await?;
    says(&over, conditions::APPROVED, ("True", "Approved"), "bob (team)")?;
    place.nothing_left().await?;
    let told = place.events(&over).await?;
    let reasons: Vec<_> = told
        .iter()
        .map(|text| text.split(':').next().unwrap_or_default())
        .collect();
    ensure!(
        reasons == ["AwaitingApproval", "Active", "Counted", "Expired"],
        "{told:?}"
    );
    Ok(())
}

async fn an_automatic_request_asks_nobody(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = place.active("carol", &policy, json!({"duration": "1m"})).await?;
    ensure!(
        condition(&grant, conditions::APPROVED).is_none() && approvals(&grant).is_empty(),
        "{:?}",
        grant.status
    );
    let decision = place.approve("bob", &grant).await?;
    place
        .is_ignored(&decision, "TooLate", "the grant was already decided")
        .await?;
    let decision = place.deny("dave", &grant).await?;
    place
        .is_ignored(&decision, "TooLate", "to end it, create a decision with Revoke")
        .await?;
    place.in_state(&grant.name_any(), "Active").await?;
    Ok(())
}

fn self_served(expression: &str) -> Value {
    let stages = [stage("security", 1, &[group("security")])];
    json!({"path": "SelfServe", "approval": {"requiredWhen": expression, "stages": stages}})
}

async fn a_self_served_request_asks_people_only_where_its_policy_says_so(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place
        .policy(self_served("request.duration > duration('10m')"))
        .await?
        .name_any();
    let short = place.active("carol", &policy, json!({"duration": "10m"})).await?;
    ensure!(
        condition(&short, conditions::APPROVED).is_none() && approvals(&short).is_empty(),
        "{:?}",
        short.status
    );
    let long = place.asked("alice", &policy, json!({"duration": "601s"})).await?;
    place.approval(&long, "0 of 1 from security, until ").await?;
    let decision = place.approve("dave", &long).await?;
    let long = place.in_state(&long.name_any(), "Active").await?;
    says(
        &long,
        conditions::APPROVED,
        ("True", "Approved"),
        "approved by dave (security)",
    )?;
    place.counts(&decision, "stage security: 1 of 1").await
}

async fn an_expression_that_cannot_be_judged_asks_people(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place
        .policy(self_served("policy.labels.team == 'payments'"))
        .await?
        .name_any();
    let grant = place.asked("alice", &policy, json!({"duration": "1m"})).await?;
    place.approve("erin", &grant).await?;
    let grant = place.in_state(&grant.name_any(), "Active").await?;
    says(
        &grant,
        conditions::APPROVED,
        ("True", "Approved"),
        "approved by erin (security)",
    )
}

async fn a_wrong_expression_makes_the_policy_unusable_and_says_where(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    for (expression, expected) in [
        (
            "request.duration > '1h'",
            "spec.approval.requiredWhen: line 1, column ",
        ),
        (
            "true &&\n  requst.reason == ''",
            "spec.approval.requiredWhen: line 2, column 3: there is no variable requst",
        ),
        ("request.reason", "spec.approval.requiredWhen: line 1, column 1: "),
    ] {
        let policy = place.policy(self_served(expression)).await?;
        let status = policy.status.unwrap_or_default();
        let ready = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == conditions::READY)
            .context("no condition Ready")?;
        ensure!(
            ready.status == "False" && ready.reason == "Invalid" && ready.message.contains(expected),
            "{expression}: {ready:?}"
        );
    }
    Ok(())
}
