//! Decisions that change nothing, and say why.

use anyhow::{Context as _, ensure};
use kube::ResourceExt as _;
use serde_json::json;

use crate::support::Suite;
use crate::support::decisions::{approvals, group, security, stage, team};
use crate::tests;

tests![
    neither_requester_nor_subject_decide_about_their_own_request,
    an_approval_of_other_access_changes_nothing,
    whoever_is_no_approver_approves_nothing,
    a_decision_after_the_grant_was_decided_or_is_over_comes_too_late,
    a_decision_about_no_grant_changes_nothing,
    a_decision_about_a_grant_counts_for_no_later_one_of_its_name,
    a_decision_of_another_namespace_changes_nothing,
    a_service_account_neither_approves_nor_denies_and_revokes_if_it_may,
];

/// Any hash.
fn another_hash() -> String {
    format!("sha256:{:064x}", 7)
}

async fn neither_requester_nor_subject_decide_about_their_own_request(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let anybody = stage("anybody", 1, &[group("leads"), group("security"), group("devs")]);
    let edit = json!({"subjects": [{"kind": "User", "name": "bob"}]});
    let policy = place.asking_policy(&[anybody], edit).await?;
    let for_bob = json!({"subject": {"kind": "User", "name": "bob"}});
    let grant = place.asked("alice", &policy, for_bob).await?;
    for person in ["alice", "bob"] {
        let why = format!(
            "{person} is the requester or the subject and cannot decide on this request; \
             to withdraw it, create a decision Revoke"
        );
        let approval = place.approve(person, &grant).await?;
        place.is_ignored(&approval, "SelfDecision", &why).await?;
        let denial = place.deny(person, &grant).await?;
        place.is_ignored(&denial, "SelfDecision", &why).await?;
    }
    let waiting = place.approval(&grant, "0 of 1 from anybody, until ").await?;
    ensure!(approvals(&waiting).is_empty(), "{:?}", approvals(&waiting));
    place.approve("eve", &grant).await?;
    place.in_state(&grant.name_any(), "Active").await?;
    ensure!(place.may("bob", "list", "pods").await?, "bob may not");
    Ok(())
}

async fn an_approval_of_other_access_changes_nothing(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    let other = place.asked("alice", &policy, json!({"duration": "1m"})).await?;
    let seen = place.hash_as("bob", &grant).await?;
    for hash in [another_hash(), place.hash_as("bob", &other).await?] {
        let word = json!({"decision": "Approve", "accessHash": hash});
        let decision = place.decide("bob", &grant, word).await?;
        let why = format!("approves {hash}, but the requested access is {seen}; look at the grant again");
        place.is_ignored(&decision, "AccessChanged", &why).await?;
    }
    place.approval(&grant, "0 of 1 from team, until ").await?;
    place.approve("bob", &grant).await?;
    place.in_state(&grant.name_any(), "Active").await?;
    Ok(())
}

async fn whoever_is_no_approver_approves_nothing(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    for person in ["eve", "dave"] {
        let decision = place.approve(person, &grant).await?;
        let why = format!("{person} is not an approver of this policy; stage team lists group leads");
        place.is_ignored(&decision, "DeciderNotListed", &why).await?;
    }
    place.approval(&grant, "0 of 1 from team, until ").await?;
    Ok(())
}

async fn a_decision_after_the_grant_was_decided_or_is_over_comes_too_late(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[security(1)], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({"duration": "5s"})).await?;
    place.approve("dave", &grant).await?;
    place.in_state(&grant.name_any(), "Active").await?;
    let late = place.approve("erin", &grant).await?;
    place
        .is_ignored(&late, "TooLate", "the grant was already decided")
        .await?;
    let late = place.deny("erin", &grant).await?;
    place
        .is_ignored(
            &late,
            "TooLate",
            "the access was already granted; to end it, create a decision with Revoke",
        )
        .await?;
    let over = place.in_state(&grant.name_any(), "Expired").await?;
    let version = over.resource_version();
    for word in ["Approve", "Deny", "Revoke"] {
        let mut spec = json!({"decision": word});
        if word == "Approve" {
            spec["accessHash"] = place.hash_as("frank", &grant).await?.into();
        } else {
            spec["reason"] = "it was a mistake".into();
        }
        let late = place.decide("frank", &grant, spec).await?;
        place
            .is_ignored(&late, "TooLate", "the grant was already decided")
            .await?;
    }
    let still = place.grants().get(&grant.name_any()).await?;
    ensure!(still.resource_version() == version, "{:?}", still.status);
    Ok(())
}

async fn a_decision_about_no_grant_changes_nothing(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    let uid = grant.uid().context("no uid")?;
    let hash = place.hash_as("bob", &grant).await?;
    let mut nobody = grant.clone();
    nobody.metadata.name = Some("nothing-like-it".to_owned());
    let mut wrong = grant.clone();
    wrong.metadata.uid = Some("00000000-0000-0000-0000-000000000000".to_owned());
    for (about, why) in [
        (
            &nobody,
            "there is no grant nothing-like-it in this namespace".to_owned(),
        ),
        (
            &wrong,
            format!(
                "grant {} has the uid {uid}: another request of that name",
                grant.name_any()
            ),
        ),
    ] {
        for word in [
            json!({"decision": "Approve", "accessHash": hash}),
            json!({"decision": "Deny", "reason": "no"}),
            json!({"decision": "Revoke", "reason": "no"}),
        ] {
            let decision = place.decide("bob", about, word).await?;
            place.is_ignored(&decision, "GrantNotFound", &why).await?;
        }
    }
    place.approval(&grant, "0 of 1 from team, until ").await?;
    Ok(())
}

async fn a_decision_about_a_grant_counts_for_no_later_one_of_its_name(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team(), security(2)], json!({})).await?;
    let spec = json!({"policyRef": {"name": policy}, "reason": "DEV-1 the same once more"});
    let alice = suite.plane.client_as("alice").await?;
    // Decided before there is a grant of that name, by a guess of its uid.
    let mut guessed = place.ask("alice", &policy, json!({})).await?;
    guessed.metadata.name = Some("again".to_owned());
    let early = place
        .decide(
            "bob",
            &guessed,
            json!({"decision": "Approve", "accessHash": another_hash()}),
        )
        .await?;
    place
        .is_ignored(
            &early,
            "GrantNotFound",
            "there is no grant again in this namespace",
        )
        .await?;

    let first = place.make_with(&alice, "again", spec.clone()).await?;
    place.in_state("again", "AwaitingApproval").await?;
    let counted = place.approve("bob", &first).await?;
    place.counts(&counted, "stage team: 1 of 1").await?;
    let half = place.approve("dave", &first).await?;
    place.counts(&half, "stage security: 1 of 2").await?;
    place.remove(&first).await?;
    let second = place.make_with(&alice, "again", spec).await?;
    let waiting = place.in_state("again", "AwaitingApproval").await?;
    ensure!(approvals(&waiting).is_empty(), "{:?}", approvals(&waiting));
    place.approval(&second, "0 of 1 from team, until ").await?;
    let stale = place.approve("bob", &first).await?;
    let uid = second.uid().context("no uid")?;
    let why = format!("grant again has the uid {uid}: another request of that name; decide about that one");
    place.is_ignored(&stale, "GrantNotFound", &why).await?;
    // One that waits when its grant goes waits for nothing any more.
    let waiting = place.approve("erin", &second).await?;
    place.waits(&waiting, "counts when stage security begins").await?;
    place.remove(&second).await?;
    place
        .is_ignored(
            &waiting,
            "GrantNotFound",
            "there is no grant again in this namespace",
        )
        .await
}

async fn a_decision_of_another_namespace_changes_nothing(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let elsewhere = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    let hash = place.hash_as("bob", &grant).await?;
    let why = format!("there is no grant {} in this namespace", grant.name_any());
    for word in [
        json!({"decision": "Approve", "accessHash": hash}),
        json!({"decision": "Deny", "reason": "no"}),
        json!({"decision": "Revoke", "reason": "no"}),
    ] {
        let decision = elsewhere.decide("bob", &grant, word).await?;
        elsewhere.is_ignored(&decision, "GrantNotFound", &why).await?;
    }
    let waiting = place.approval(&grant, "0 of 1 from team, until ").await?;
    ensure!(approvals(&waiting).is_empty(), "{:?}", approvals(&waiting));
    Ok(())
}

async fn a_service_account_neither_approves_nor_denies_and_revokes_if_it_may(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    // All service accounts of the namespace are in this group.
    let accounts = format!("system:serviceaccounts:{}", place.name);
    let everybody = stage("everybody", 1, &[group(&accounts), group("leads")]);
    let policy = place.asking_policy(&[everybody], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    let (approver, revoker) = (place.robot("approver").await?, place.robot("revoker").await?);
    place.bind("curfew-approver", &approver.subject).await?;
    place.bind("curfew-revoker", &revoker.subject).await?;
    let hash = place.hash_as("bob", &grant).await?;
    for word in [
        json!({"decision": "Approve", "accessHash": hash}),
        json!({"decision": "Deny", "reason": "no"}),
    ] {
        let refused = place.decide_with(&approver.client, &grant, word.clone()).await;
        let said = refused
            .err()
            .map(|error| format!("{error:#}"))
            .unwrap_or_default();
        ensure!(
            said.contains("A service account cannot approve or deny"),
            "{word}: {said:?}"
        );
    }
    let word = json!({"decision": "Revoke", "reason": "an alert fired"});
    let powerless = place.decide_with(&approver.client, &grant, word.clone()).await?;
    place
        .is_ignored(
            &powerless,
            "MayNotRevoke",
            "holders of the verb revoke on accessgrants/",
        )
        .await?;
    place.in_state(&grant.name_any(), "AwaitingApproval").await?;
    let decision = place.decide_with(&revoker.client, &grant, word).await?;
    let over = place.in_state(&grant.name_any(), "Revoked").await?;
    place.counts(&decision, "ends the access").await?;
    let by = over
        .status
        .and_then(|status| status.revocation)
        .and_then(|revocation| revocation.by);
    ensure!(
        by == Some(format!("system:serviceaccount:{}:revoker", place.name)),
        "{by:?}"
    );
    Ok(())
}
