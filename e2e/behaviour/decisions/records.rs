//! What decisions leave behind, who may change it, and how many requests may wait.

use anyhow::{Context as _, ensure};
use curfew::api::AccessDecision;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::support::Suite;
use crate::support::decisions::{approvals, security, team};
use crate::tests;

tests![
    nobody_has_more_requests_waiting_than_the_policy_allows,
    deleting_a_decision_changes_nothing_that_was_decided,
    what_was_approved_stays_in_the_record_against_the_operator_too,
    a_decision_is_never_edited,
    what_the_schema_can_see_of_a_decision_is_refused_by_the_api_server,
];

async fn nobody_has_more_requests_waiting_than_the_policy_allows(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let edit = json!({"limits": {"pendingPerRequester": 2}});
    let policy = place.asking_policy(&[team()], edit).await?;
    let first = place.asked("alice", &policy, json!({})).await?;
    let second = place.asked("alice", &policy, json!({})).await?;
    let refused = place.denied("alice", &policy, json!({})).await?;
    ensure!(refused.reason == "TooManyPending", "{refused:?}");
    for part in [
        "alice has 2 requests waiting under policy ".to_owned(),
        format!("{}/{}", place.name, first.name_any()),
        format!("{}/{}", place.name, second.name_any()),
        "at most 2 allowed; revoke one first".to_owned(),
    ] {
        ensure!(refused.message.contains(&part), "no {part:?} in {refused:?}");
    }
    place
        .asked("carol", &policy, json!({}))
        .await
        .context("somebody else")?;
    place.revoke("alice", &first).await?;
    place.in_state(&first.name_any(), "Revoked").await?;
    place
        .asked("alice", &policy, json!({}))
        .await
        .context("one was revoked")?;
    let refused = place.denied("alice", &policy, json!({})).await?;
    ensure!(refused.reason == "TooManyPending", "{refused:?}");
    place.approve("bob", &second).await?;
    place.in_state(&second.name_any(), "Active").await?;
    place
        .asked("alice", &policy, json!({}))
        .await
        .context("one was approved")?;
    Ok(())
}

async fn deleting_a_decision_changes_nothing_that_was_decided(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[security(2)], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({"duration": "10m"})).await?;
    let one = place.approve("dave", &grant).await?;
    place.counts(&one, "stage security: 1 of 2").await?;
    place
        .decisions()
        .delete(&one.name_any(), &DeleteParams::default())
        .await?;
    let again = place.approve("dave", &grant).await?;
    place
        .is_ignored(&again, "AlreadyApproved", "in stage security")
        .await?;
    let other = place.approve("erin", &grant).await?;
    place.counts(&other, "stage security: 2 of 2").await?;
    let active = place.in_state(&grant.name_any(), "Active").await?;
    let version = active.resource_version();
    for decision in [&again, &other] {
        place
            .decisions()
            .delete(&decision.name_any(), &DeleteParams::default())
            .await?;
    }
    // A pass over the grant follows on this one; it is told nothing of those that are gone.
    let late = place.approve("frank", &grant).await?;
    place.is_ignored(&late, "TooLate", "").await?;
    let still = place.in_state(&grant.name_any(), "Active").await?;
    ensure!(
        still.resource_version() == version && approvals(&still).len() == 2,
        "{:?}",
        still.status
    );
    Ok(())
}

async fn what_was_approved_stays_in_the_record_against_the_operator_too(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({"duration": "10m"})).await?;
    place.approve("bob", &grant).await?;
    let active = place.in_state(&grant.name_any(), "Active").await?;
    let status = active.status.context("no status")?;
    let mut resolved = serde_json::to_value(&status.resolved)?;
    resolved["duration"] = "9h".into();
    let mut forged = serde_json::to_value(&status.approvals)?;
    forged[0]["username"] = "frank".into();
    let twice = [status.approvals.clone(), status.approvals.clone()].concat();
    let approvals = "status.approvals cannot change after expiresAt is set";
    let access = "status.resolved cannot change after expiresAt is set";
    for (edit, expected) in [
        (json!({"approvals": null}), approvals),
        (json!({"approvals": forged}), approvals),
        (json!({"approvals": twice}), approvals),
        (json!({"resolved": null}), access),
        (json!({"resolved": resolved}), access),
    ] {
        let patch = Patch::Merge(json!({"status": edit}));
        let refused = place
            .grants()
            .patch_status(&grant.name_any(), &PatchParams::default(), &patch)
            .await;
        let said = refused.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(said.contains(expected), "{edit}: no {expected:?} in {said:?}");
    }
    Ok(())
}

async fn a_decision_is_never_edited(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    let decision = place.deny("eve", &grant).await?;
    for edit in [
        json!({"decision": "Approve", "accessHash": format!("sha256:{:064}", 0), "reason": null}),
        json!({"reason": "another one"}),
        json!({"decider": {"username": "bob"}}),
        json!({"grantRef": {"uid": "another"}}),
    ] {
        let patch = Patch::Merge(json!({"spec": edit}));
        let refused = place
            .decisions()
            .patch(&decision.name_any(), &PatchParams::default(), &patch)
            .await;
        let said = refused.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(said.contains("a decision cannot be changed"), "{edit}: {said:?}");
    }
    // Nobody but the operator says what came of it.
    let bob = Api::<AccessDecision>::namespaced(suite.plane.client_as("bob").await?, &place.name);
    let patch = Patch::Merge(json!({"status": {"conditions": []}}));
    let refused = bob
        .patch_status(&decision.name_any(), &PatchParams::default(), &patch)
        .await;
    ensure!(refused.is_err(), "bob writes verdicts");
    let refused = place
        .decisions()
        .patch_status(&decision.name_any(), &PatchParams::default(), &patch)
        .await;
    let said = refused.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(said.contains("Only Curfew writes the status"), "{said:?}");
    Ok(())
}

async fn what_the_schema_can_see_of_a_decision_is_refused_by_the_api_server(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let hash = format!("sha256:{:064}", 0);
    let table: [(Value, &str); 7] = [
        (json!({"decision": "Approve"}), "Approve requires accessHash"),
        (
            json!({"decision": "Deny", "reason": "no", "accessHash": hash}),
            "Approve requires accessHash",
        ),
        (
            json!({"decision": "Deny"}),
            "Deny and Revoke require a reason: say why in spec.reason",
        ),
        (
            json!({"decision": "Revoke"}),
            "Deny and Revoke require a reason: say why in spec.reason",
        ),
        (json!({"decision": "Revoke", "reason": ""}), "spec.reason"),
        (
            json!({"decision": "Approve", "accessHash": "sha256:1"}),
            "spec.accessHash",
        ),
        (json!({"decision": "Deny", "reason": "a\u{202e}b"}), "spec.reason"),
    ];
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({})).await?;
    for (word, expected) in table {
        let refused = place.decide("bob", &grant, word.clone()).await;
        let said = refused
            .err()
            .map(|error| format!("{error:#}"))
            .unwrap_or_default();
        ensure!(said.contains(expected), "{word}: no {expected:?} in {said:?}");
    }
    Ok(())
}
