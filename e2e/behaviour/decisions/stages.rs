//! Stages: one after the other, and each person once.

use std::time::Duration;

use anyhow::ensure;
use curfew::api::{AccessGrant, conditions};
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::json;

use crate::support::Suite;
use crate::support::decisions::{approvals, group, says, security, stage, team, user};
use crate::tests;

tests![
    two_stages_are_asked_one_after_the_other_and_say_who_is_missing,
    whoever_is_listed_in_two_stages_counts_once,
    an_approval_for_a_stage_that_is_complete_changes_nothing,
    more_approvals_than_asked_for_change_nothing,
];

fn approvers(grant: &AccessGrant) -> Vec<(&str, &str)> {
    approvals(grant)
        .iter()
        .map(|record| (record.username.as_str(), record.stage.as_str()))
        .collect()
}

async fn two_stages_are_asked_one_after_the_other_and_say_who_is_missing(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team(), security(2)], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    place.approval(&grant, "0 of 1 from team, until ").await?;
    let early = place.approve("dave", &grant).await?;
    place.waits(&early, "counts when stage security begins").await?;
    let row = place.row("dave", "adec", &early.name_any()).await?;
    ensure!(row.contains("StageNotReached"), "{row}");
    let still = place.approval(&grant, "0 of 1 from team, until ").await?;
    ensure!(approvals(&still).is_empty(), "{:?}", approvals(&still));

    let lead = place.approve("bob", &grant).await?;
    place
        .counts(&lead, "approved as group leads (stage team: 1 of 1)")
        .await?;
    place
        .counts(&early, "approved as group security (stage security: 1 of 2)")
        .await?;
    let one = place.approval(&grant, "1 of 2 from security, until ").await?;
    says(&one, conditions::ACTIVE, ("False", "AwaitingApproval"), "1 of 2")?;
    ensure!(
        approvers(&one) == [("bob", "team"), ("dave", "security")],
        "{:?}",
        approvers(&one)
    );
    let row = place.row("erin", "agrant", &grant.name_any()).await?;
    ensure!(row.contains("1 of 2 from security, until "), "{row}");

    let again = place.approve("dave", &grant).await?;
    place
        .is_ignored(
            &again,
            "AlreadyApproved",
            "dave has already approved in stage security",
        )
        .await?;
    let last = place.approve("erin", &grant).await?;
    let active = place.in_state(&grant.name_any(), "Active").await?;
    place.counts(&last, "stage security: 2 of 2").await?;
    let all = "approved by bob (team), dave (security), erin (security)";
    says(&active, conditions::APPROVED, ("True", "Approved"), all)?;
    let late = place.approve("frank", &grant).await?;
    place
        .is_ignored(&late, "TooLate", "the grant was already decided")
        .await?;
    let active = place.in_state(&grant.name_any(), "Active").await?;
    ensure!(approvals(&active).len() == 3, "{:?}", approvers(&active));
    let told = place.events(&active).await?;
    for part in [
        "AwaitingApproval: 0 of 1 from team, until ",
        "AwaitingApproval: 1 of 2 from security, until ",
        "StageNotReached: Approve by dave waits: ",
        "Counted: Approve by dave counts: ",
        "AlreadyApproved: Approve by dave is ignored: ",
    ] {
        let times = told.iter().filter(|text| text.starts_with(part)).count();
        ensure!(times == 1, "{part:?} {times} times in {told:#?}");
    }
    Ok(())
}

async fn whoever_is_listed_in_two_stages_counts_once(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let first = stage("team", 1, &[group("leads"), user("dave")]);
    let policy = place.asking_policy(&[first, security(2)], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    let once = place.approve("dave", &grant).await?;
    place
        .counts(&once, "approved as user dave (stage team: 1 of 1)")
        .await?;
    place.approval(&grant, "0 of 2 from security, until ").await?;
    let twice = place.approve("dave", &grant).await?;
    place
        .is_ignored(
            &twice,
            "AlreadyApproved",
            "dave has already approved in stage team",
        )
        .await?;
    place.approve("erin", &grant).await?;
    place.approval(&grant, "1 of 2 from security, until ").await?;
    place.approve("frank", &grant).await?;
    let active = place.in_state(&grant.name_any(), "Active").await?;
    let expected = [("dave", "team"), ("erin", "security"), ("frank", "security")];
    ensure!(approvers(&active) == expected, "{:?}", approvers(&active));
    Ok(())
}

async fn an_approval_for_a_stage_that_is_complete_changes_nothing(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let first = stage("team", 1, &[group("leads"), user("eve")]);
    let policy = place.asking_policy(&[first, security(1)], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    place.approve("bob", &grant).await?;
    place.approval(&grant, "0 of 1 from security, until ").await?;
    let late = place.approve("eve", &grant).await?;
    place
        .is_ignored(
            &late,
            "NotAsked",
            "all stages that list the decider are complete; security is the current stage",
        )
        .await?;
    place.approve("dave", &grant).await?;
    let active = place.in_state(&grant.name_any(), "Active").await?;
    ensure!(
        approvers(&active) == [("bob", "team"), ("dave", "security")],
        "{:?}",
        approvers(&active)
    );
    Ok(())
}

async fn more_approvals_than_asked_for_change_nothing(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[security(2)], json!({})).await?;
    let start = Timestamp::now() + Duration::from_mins(10);
    let grant = place
        .asked("alice", &policy, json!({"notBefore": start.to_string()}))
        .await?;
    place.approve("dave", &grant).await?;
    place.approve("erin", &grant).await?;
    place.in_state(&grant.name_any(), "Scheduled").await?;
    let spare = place.approve("frank", &grant).await?;
    place
        .is_ignored(&spare, "NotAsked", "the request already has all its approvals")
        .await?;
    let scheduled = place.in_state(&grant.name_any(), "Scheduled").await?;
    ensure!(
        approvers(&scheduled) == [("dave", "security"), ("erin", "security")],
        "{:?}",
        approvers(&scheduled)
    );
    Ok(())
}
