//! Automation asks, people decide; and what automation makes again is a new request that is judged anew.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, conditions};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::decisions::{Robot, approvals, says, team};
use crate::support::{Place, Suite};
use crate::tests;

tests![
    people_approve_what_automation_asks_for,
    a_revocation_blocks_the_same_request_of_the_same_automation,
    a_revocation_blocks_a_request_that_was_never_granted,
    what_is_made_again_after_a_deletion_or_a_denial_is_asked_anew,
    what_is_made_again_after_its_end_is_dead_on_arrival,
    a_revocation_blocks_no_person,
];

/// A namespace, a service account that asks there, and the policy under which it does.
async fn ground(suite: &Suite) -> anyhow::Result<(Place<'_>, Robot, String)> {
    let place = suite.namespace_with_deciders().await?;
    let robot = place.robot("deployer").await?;
    let edit = json!({"requesters": [robot.subject, {"kind": "Group", "name": "devs"}]});
    let policy = place.asking_policy(&[team()], edit).await?;
    Ok((place, robot, policy))
}

fn spec(policy: &str, lasts: Duration) -> Value {
    let end = (Timestamp::now() + lasts).to_string();
    json!({"policyRef": {"name": policy}, "reason": "a pipeline deploys", "notAfter": end})
}

impl Robot {
    /// Asks, and people are asked about it.
    async fn asks(&self, place: &Place<'_>, spec: &Value) -> anyhow::Result<AccessGrant> {
        let grant = place.make_with(&self.client, "sync", spec.clone()).await?;
        let waiting = place.in_state("sync", "AwaitingApproval").await?;
        ensure!(approvals(&waiting).is_empty(), "{:?}", approvals(&waiting));
        Ok(grant)
    }

    /// Asks, and is refused since that was revoked before.
    async fn is_refused(&self, place: &Place<'_>, spec: &Value, part: &str) -> anyhow::Result<AccessGrant> {
        let grant = place.make_with(&self.client, "sync", spec.clone()).await?;
        let denied = place.in_state("sync", "Denied").await?;
        says(&denied, conditions::ACCEPTED, ("False", "RevokedBefore"), part)?;
        Ok(grant)
    }
}

async fn people_approve_what_automation_asks_for(suite: &Suite) -> anyhow::Result<()> {
    let (place, robot, policy) = ground(suite).await?;
    let grant = robot
        .asks(&place, &spec(&policy, Duration::from_secs(20)))
        .await?;
    let decision = place.approve("bob", &grant).await?;
    let active = place.in_state("sync", "Active").await?;
    place.counts(&decision, "stage team: 1 of 1").await?;
    says(
        &active,
        conditions::APPROVED,
        ("True", "Approved"),
        "approved by bob (team)",
    )?;
    let subject = active
        .status
        .and_then(|status| status.subject)
        .context("no subject")?;
    ensure!(
        subject == curfew::api::Subject::service_account(&place.name, "deployer"),
        "{subject:?}"
    );
    Ok(())
}

async fn a_revocation_blocks_the_same_request_of_the_same_automation(suite: &Suite) -> anyhow::Result<()> {
    let (place, robot, policy) = ground(suite).await?;
    let spec = spec(&policy, Duration::from_mins(20));
    let grant = robot.asks(&place, &spec).await?;
    place.approve("bob", &grant).await?;
    place.in_state("sync", "Active").await?;
    let decision = place.revoke("bob", &grant).await?;
    place.in_state("sync", "Revoked").await?;
    let until = spec["notAfter"].as_str().context("no end")?;
    let stands = format!("and blocks the same request of {} until ", robot.username);
    place.counts(&decision, &stands).await?;
    let recorded = place.decisions().get(&decision.name_any()).await?;
    let against = recorded
        .status
        .and_then(|status| status.blocks)
        .context("the decision blocks no request")?;
    let end: Timestamp = until.parse()?;
    ensure!(
        against.requester == robot.username && against.until.0.as_microsecond() == end.as_microsecond(),
        "{against:?}"
    );

    place.remove(&grant).await?;
    let said = format!(
        "bob revoked the same request ({}), which is blocked until ",
        decision.name_any()
    );
    let refused = robot.is_refused(&place, &spec, &said).await?;
    place.remove(&refused).await?;
    let refused = robot.is_refused(&place, &spec, &said).await?;
    place.remove(&refused).await?;

    let mut other = spec.clone();
    other["reason"] = "a pipeline deploys something else".into();
    let asked = robot.asks(&place, &other).await?;
    place.remove(&asked).await?;

    place
        .decisions()
        .delete(&decision.name_any(), &DeleteParams::default())
        .await?;
    let asked = robot
        .asks(&place, &spec)
        .await
        .context("the decision was deleted")?;
    place.approve("bob", &asked).await?;
    place.in_state("sync", "Active").await?;
    Ok(())
}

async fn a_revocation_blocks_a_request_that_was_never_granted(suite: &Suite) -> anyhow::Result<()> {
    let (place, robot, policy) = ground(suite).await?;
    let spec = spec(&policy, Duration::from_secs(15));
    let grant = robot.asks(&place, &spec).await?;
    let decision = place.revoke("bob", &grant).await?;
    place.in_state("sync", "Revoked").await?;
    place.counts(&decision, "and blocks the same request of ").await?;
    place.remove(&grant).await?;
    robot
        .is_refused(&place, &spec, "bob revoked the same request")
        .await?;
    Ok(())
}

async fn what_is_made_again_after_a_deletion_or_a_denial_is_asked_anew(suite: &Suite) -> anyhow::Result<()> {
    let (place, robot, policy) = ground(suite).await?;
    let spec = spec(&policy, Duration::from_mins(20));
    let deleted = robot.asks(&place, &spec).await?;
    place.approve("bob", &deleted).await?;
    place.in_state("sync", "Active").await?;
    place.remove(&deleted).await?;
    place.nothing_left().await?;
    let denied = robot.asks(&place, &spec).await.context("after a deletion")?;
    place.deny("bob", &denied).await?;
    place.in_state("sync", "Denied").await?;
    place.remove(&denied).await?;
    let asked = robot.asks(&place, &spec).await.context("after a denial")?;
    place.approve("bob", &asked).await?;
    place.in_state("sync", "Active").await?;
    Ok(())
}

async fn what_is_made_again_after_its_end_is_dead_on_arrival(suite: &Suite) -> anyhow::Result<()> {
    let (place, robot, policy) = ground(suite).await?;
    let spec = spec(&policy, Duration::from_secs(6));
    let grant = robot.asks(&place, &spec).await?;
    place.approve("bob", &grant).await?;
    place.in_state("sync", "Active").await?;
    place.in_state("sync", "Expired").await?;
    place.remove(&grant).await?;
    // Creation times are whole seconds: within the second of its end the API server cannot see that it has passed.
    let Err(refused) = place.make_with(&robot.client, "sync", spec).await else {
        let denied = place.in_state("sync", "Denied").await?;
        return says(
            &denied,
            conditions::ACCEPTED,
            ("False", "NotAfterPassed"),
            "has passed",
        );
    };
    let said = format!("{refused:#}");
    ensure!(said.contains("spec.notAfter has passed"), "{said}");
    ensure!(place.artifacts().await?.is_empty(), "something was made");
    Ok(())
}

async fn a_revocation_blocks_no_person(suite: &Suite) -> anyhow::Result<()> {
    let (place, _, policy) = ground(suite).await?;
    let alice = suite.plane.client_as("alice").await?;
    let spec = spec(&policy, Duration::from_mins(20));
    let grant = place.make_with(&alice, "mine", spec.clone()).await?;
    place.in_state("mine", "AwaitingApproval").await?;
    let decision = place.revoke("alice", &grant).await?;
    place.in_state("mine", "Revoked").await?;
    place.counts(&decision, "ends the access").await?;
    place.remove(&grant).await?;
    place.make_with(&alice, "mine", spec).await?;
    place.in_state("mine", "AwaitingApproval").await?;
    Ok(())
}
