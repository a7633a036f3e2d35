//! What people approved is what is given, or nothing is: policies and roles that change in between.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, RevocationCause, conditions};
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::support::changes::own_role;
use crate::support::decisions::{approvals, asking, group, says, stage, team};
use crate::support::{Place, Suite, condition};
use crate::tests;

tests![
    a_policy_narrowed_while_people_are_asked_denies,
    a_policy_narrowed_between_approval_and_start_denies,
    an_approval_is_void_when_the_policy_lists_its_approver_no_more,
    an_approval_is_void_when_a_role_changes_and_a_new_one_works,
    a_void_approval_that_nobody_replaces_in_time_denies,
    a_policy_that_asks_for_more_approvals_ends_access_unless_it_keeps_it,
    a_policy_edit_that_still_allows_it_voids_no_approval,
];

/// Asked for a start so far ahead, and approved by bob.
async fn scheduled(place: &Place<'_>, policy: &str, ahead: Duration) -> anyhow::Result<AccessGrant> {
    let start = Timestamp::now() + ahead;
    let more = json!({"duration": "10m", "notBefore": start.to_string()});
    let grant = place.asked("alice", policy, more).await?;
    place.approve("bob", &grant).await?;
    place.in_state(&grant.name_any(), "Scheduled").await
}

async fn a_policy_narrowed_while_people_are_asked_denies(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({"duration": "10m"})).await?;
    place
        .edit_policy(&policy, json!({"duration": {"max": "5m"}}))
        .await?;
    let denied = place.in_state(&grant.name_any(), "Denied").await?;
    says(
        &denied,
        conditions::ACCEPTED,
        ("False", "DurationTooLong"),
        "10m asked, at most 5m",
    )?;
    says(
        &denied,
        conditions::APPROVED,
        ("False", "DurationTooLong"),
        "10m asked, at most 5m",
    )?;
    let late = place.approve("bob", &grant).await?;
    place
        .is_ignored(&late, "TooLate", "the grant was already decided")
        .await
}

async fn a_policy_narrowed_between_approval_and_start_denies(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let grant = scheduled(&place, &policy, Duration::from_mins(10)).await?;
    place
        .edit_policy(&policy, json!({"requesters": [group("leads")]}))
        .await?;
    let denied = place.in_state(&grant.name_any(), "Denied").await?;
    says(
        &denied,
        conditions::ACCEPTED,
        ("False", "RequesterNotListed"),
        "alice may not request access",
    )?;
    ensure!(place.artifacts().await?.is_empty(), "something was made");
    Ok(())
}

async fn an_approval_is_void_when_the_policy_lists_its_approver_no_more(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let grant = scheduled(&place, &policy, Duration::from_secs(12)).await?;
    let others = asking(&[stage("team", 1, &[group("security")])]);
    place.edit_policy(&policy, others).await?;
    let waiting = place.in_state(&grant.name_any(), "AwaitingApproval").await?;
    let why = "bob's approval is void: stage team no longer lists group leads";
    says(&waiting, conditions::APPROVED, ("Unknown", "ApprovalVoid"), why)?;
    says(
        &waiting,
        conditions::APPROVED,
        ("Unknown", "ApprovalVoid"),
        "0 of 1 from team, until ",
    )?;
    let [void] = approvals(&waiting) else {
        anyhow::bail!("{:?}", approvals(&waiting));
    };
    ensure!(
        void.void.as_deref() == Some("stage team no longer lists group leads"),
        "{void:?}"
    );
    let row = place.row("dave", "agrant", &grant.name_any()).await?;
    ensure!(row.contains(why), "{row}");
    let decision = place.approve("dave", &grant).await?;
    place
        .counts(&decision, "approved as group security (stage team: 1 of 1)")
        .await?;
    let active = place.in_state(&grant.name_any(), "Active").await?;
    says(
        &active,
        conditions::APPROVED,
        ("True", "Approved"),
        "approved by dave (team)",
    )?;
    let told = place.events(&active).await?;
    let tells = |part: &str| {
        told.iter()
            .any(|text| text.starts_with("AwaitingApproval: ") && text.contains(part))
    };
    ensure!(tells(why), "{told:#?}");
    Ok(())
}

async fn widen(place: &Place<'_>, role: &str) -> anyhow::Result<()> {
    let wider = json!([{"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["list"]}]);
    let roles = Api::<ClusterRole>::all(place.suite.admin.clone());
    let patch = Patch::Merge(json!({"rules": wider}));
    roles.patch(role, &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn asking_for_a_role(place: &Place<'_>, edit: Value) -> anyhow::Result<(String, String)> {
    let (role, policy) = own_role(place, "Revoke").await?;
    place.edit_policy(&policy, asking(&[team()])).await?;
    place.edit_policy(&policy, edit).await?;
    place.ready(&policy).await?;
    Ok((role, policy))
}

async fn an_approval_is_void_when_a_role_changes_and_a_new_one_works(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let (role, policy) = asking_for_a_role(&place, json!({})).await?;
    let grant = scheduled(&place, &policy, Duration::from_secs(12)).await?;
    let before = place.hash_as("bob", &grant).await?;
    widen(&place, &role).await?;
    let waiting = place.in_state(&grant.name_any(), "AwaitingApproval").await?;
    let why = "bob's approval is void: the access has changed since the approval";
    says(&waiting, conditions::APPROVED, ("Unknown", "ApprovalVoid"), why)?;
    let stale = place
        .decide(
            "bob",
            &grant,
            json!({"decision": "Approve", "accessHash": before}),
        )
        .await?;
    place
        .is_ignored(
            &stale,
            "AccessChanged",
            "look at the grant again and approve that",
        )
        .await?;
    let after = place.hash_as("bob", &grant).await?;
    ensure!(after != before, "other access, and the same hash {after}");
    let decision = place.approve("bob", &grant).await?;
    place.counts(&decision, "stage team: 1 of 1").await?;
    let active = place.in_state(&grant.name_any(), "Active").await?;
    ensure!(
        place.may("alice", "list", "services").await?,
        "alice may not what was approved"
    );
    let recorded: Vec<_> = approvals(&active)
        .iter()
        .map(|record| (record.access_hash.clone(), record.void.is_some()))
        .collect();
    ensure!(recorded == [(before, true), (after, false)], "{recorded:?}");
    let resolved = active
        .status
        .and_then(|status| status.resolved)
        .context("nothing resolved")?;
    ensure!(
        Some(resolved.hash) == recorded.last().map(|(hash, _)| hash.clone()),
        "{recorded:?}"
    );
    Ok(())
}

async fn a_void_approval_that_nobody_replaces_in_time_denies(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let brief = json!({"approval": {"timeout": "8s"}});
    let (role, policy) = asking_for_a_role(&place, brief).await?;
    let grant = scheduled(&place, &policy, Duration::from_mins(10)).await?;
    widen(&place, &role).await?;
    place.in_state(&grant.name_any(), "AwaitingApproval").await?;
    let denied = place.in_state(&grant.name_any(), "Denied").await?;
    for part in [
        "not approved in time, 0 of 1 from team, until ",
        "bob's approval is void: the access has changed since the approval",
    ] {
        says(&denied, conditions::ACCEPTED, ("False", "ApprovalVoid"), part)?;
    }
    Ok(())
}

async fn a_policy_that_asks_for_more_approvals_ends_access_unless_it_keeps_it(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let one = stage("all", 1, &[group("leads"), group("security")]);
    let two = stage("all", 2, &[group("leads"), group("security")]);
    for keeps in [false, true] {
        let edit = json!({"onPolicyChange": if keeps { "Keep" } else { "Revoke" }});
        let policy = place.asking_policy(std::slice::from_ref(&one), edit).await?;
        let grant = place.asked("alice", &policy, json!({"duration": "10m"})).await?;
        place.approve("bob", &grant).await?;
        place.in_state(&grant.name_any(), "Active").await?;
        place
            .edit_policy(&policy, asking(std::slice::from_ref(&two)))
            .await?;
        if keeps {
            // Another one shows that the edit is in use.
            let other = place.asked("carol", &policy, json!({})).await?;
            place.approval(&other, "0 of 2 from all, until ").await?;
            place.in_state(&grant.name_any(), "Active").await?;
            continue;
        }
        let over = place.in_state(&grant.name_any(), "Revoked").await?;
        let revocation = over
            .status
            .and_then(|status| status.revocation)
            .context("no revocation")?;
        let why = format!(
            "policy {policy} would deny it now: it requires 2 approvals from all now; this access has 1"
        );
        ensure!(
            revocation.cause == RevocationCause::PolicyChanged && revocation.message == why,
            "{revocation:?}"
        );
        place.nothing_left().await?;
    }
    let policy = place.policy(json!({})).await?.name_any();
    let grant = place.active("alice", &policy, json!({"duration": "10m"})).await?;
    place.edit_policy(&policy, asking(&[one])).await?;
    let over = place.in_state(&grant.name_any(), "Revoked").await?;
    let message = condition(&over, conditions::ACTIVE)
        .map(|active| active.message.clone())
        .unwrap_or_default();
    ensure!(
        message.contains("it requires 1 approvals from all now; this access has 0"),
        "{message}"
    );
    Ok(())
}

async fn a_policy_edit_that_still_allows_it_voids_no_approval(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let grant = scheduled(&place, &policy, Duration::from_secs(8)).await?;
    let wider = stage("team", 1, &[group("leads"), group("security")]);
    place.edit_policy(&policy, asking(&[wider])).await?;
    let active = place.in_state(&grant.name_any(), "Active").await?;
    says(
        &active,
        conditions::APPROVED,
        ("True", "Approved"),
        "approved by bob (team)",
    )?;
    let told = place.events(&active).await?;
    let asked = told
        .iter()
        .filter(|text| text.starts_with("AwaitingApproval"))
        .count();
    ensure!(asked == 1, "{told:#?}");
    Ok(())
}
