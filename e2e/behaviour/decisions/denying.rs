//! No: by one person who may say so, or by nobody's yes in time.

use anyhow::{Context as _, ensure};
use curfew::api::conditions;
use kube::ResourceExt as _;
use serde_json::json;

use crate::support::Suite;
use crate::support::decisions::{approvals, says, security, team};
use crate::tests;

tests![
    a_request_that_nobody_approves_in_time_is_denied,
    a_request_that_too_few_approve_in_time_is_denied,
    one_approver_denies_whatever_others_approved,
    an_approver_of_a_later_stage_denies_at_once,
    whoever_is_no_approver_denies_nothing,
];

async fn a_request_that_nobody_approves_in_time_is_denied(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let brief = json!({"approval": {"timeout": "3s"}});
    let policy = place.asking_policy(&[team()], brief).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    let denied = place.in_state(&grant.name_any(), "Denied").await?;
    let said = "not approved in time, 0 of 1 from team, until ";
    for (type_, status) in [
        (conditions::ACCEPTED, "False"),
        (conditions::APPROVED, "False"),
        (conditions::STALLED, "True"),
    ] {
        says(&denied, type_, (status, "ApprovalTimedOut"), said)?;
    }
    says(&denied, conditions::ACTIVE, ("False", "Denied"), "ask again")?;
    let status = denied.status.clone().context("no status")?;
    let asked_at = denied.metadata.creation_timestamp.clone().context("no time")?;
    let waited = status.ended_at.context("no end")?.0.duration_since(asked_at.0);
    ensure!((3..6).contains(&waited.as_secs()), "denied after {waited:?}");
    ensure!(
        status.expires_at.is_none() && status.artifacts.is_empty(),
        "{:?}",
        denied.status
    );
    let late = place.approve("bob", &grant).await?;
    place
        .is_ignored(&late, "TooLate", "the grant was already decided")
        .await?;
    place.in_state(&grant.name_any(), "Denied").await?;
    Ok(())
}

async fn a_request_that_too_few_approve_in_time_is_denied(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let brief = json!({"approval": {"timeout": "5s"}});
    let policy = place.asking_policy(&[security(2)], brief).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    place.approve("dave", &grant).await?;
    place.approval(&grant, "1 of 2 from security, until ").await?;
    let denied = place.in_state(&grant.name_any(), "Denied").await?;
    let said = "not approved in time, 1 of 2 from security, until ";
    says(&denied, conditions::APPROVED, ("False", "ApprovalTimedOut"), said)?;
    ensure!(approvals(&denied).len() == 1, "{:?}", approvals(&denied));
    Ok(())
}

async fn one_approver_denies_whatever_others_approved(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team(), security(2)], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    place.approve("bob", &grant).await?;
    place.approve("dave", &grant).await?;
    place.approval(&grant, "1 of 2 from security, until ").await?;
    let decision = place.deny("frank", &grant).await?;
    let denied = place.in_state(&grant.name_any(), "Denied").await?;
    let said = "frank denied it: not during the sale";
    for (type_, status) in [
        (conditions::ACCEPTED, "False"),
        (conditions::APPROVED, "False"),
        (conditions::STALLED, "True"),
    ] {
        says(&denied, type_, (status, "DeniedByApprover"), said)?;
    }
    place.counts(&decision, "denies the request").await?;
    let late = place.approve("erin", &grant).await?;
    place
        .is_ignored(&late, "TooLate", "the grant was already decided")
        .await?;
    let row = place.row("alice", "agrant", &grant.name_any()).await?;
    ensure!(row.contains("Denied") && row.contains(said), "{row}");
    let told = place.events(&denied).await?;
    ensure!(told.contains(&format!("Denied: {said}")), "{told:?}");
    ensure!(place.artifacts().await?.is_empty(), "something was made");
    Ok(())
}

async fn an_approver_of_a_later_stage_denies_at_once(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team(), security(1)], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    let waiting = place.approve("dave", &grant).await?;
    place.waits(&waiting, "counts when stage security begins").await?;
    let decision = place.deny("erin", &grant).await?;
    let denied = place.in_state(&grant.name_any(), "Denied").await?;
    says(
        &denied,
        conditions::ACCEPTED,
        ("False", "DeniedByApprover"),
        "erin denied it",
    )?;
    place.counts(&decision, "denies the request").await?;
    place
        .is_ignored(&waiting, "TooLate", "the grant was already decided")
        .await
}

async fn whoever_is_no_approver_denies_nothing(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team(), security(1)], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    let decision = place.deny("eve", &grant).await?;
    let why = "eve is not an approver of this policy; \
               stage team lists group leads; stage security lists group security";
    place.is_ignored(&decision, "DeciderNotListed", why).await?;
    place.approve("bob", &grant).await?;
    place.approve("dave", &grant).await?;
    place.in_state(&grant.name_any(), "Active").await?;
    Ok(())
}
