//! Revoke: who may, and when.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, RevocationCause};
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::json;

use crate::support::decisions::{security, team};
use crate::support::{Place, Suite};
use crate::tests;

tests![
    whoever_may_ends_access_that_is_in_force,
    whoever_may_takes_back_what_awaits_approval,
    whoever_may_takes_back_what_is_scheduled,
    what_waits_for_its_policy_is_taken_back_by_those_who_may_without_it,
    whoever_may_not_revokes_nothing,
    an_automatic_grant_is_revoked_by_its_requester_and_by_holders_of_the_verb,
];

/// Requester, subject, an approver of a stage, and somebody who holds the verb.
const ENTITLED: [&str; 4] = ["alice", "carol", "dave", "eve"];

/// A namespace in which eve holds the verb `revoke`, and a policy under which alice asks for carol.
async fn ground(suite: &Suite) -> anyhow::Result<(Place<'_>, String)> {
    let place = suite.namespace_with_deciders().await?;
    let eve = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"});
    place.bind("curfew-revoker", &eve).await?;
    let edit =
        json!({"subjects": [{"kind": "User", "name": "carol"}], "limits": {"pendingPerRequester": 50}});
    let policy = place.asking_policy(&[team(), security(1)], edit).await?;
    Ok((place, policy))
}

/// Alice asks for carol.
async fn asked(place: &Place<'_>, policy: &str, start: Option<Timestamp>) -> anyhow::Result<AccessGrant> {
    let mut more = json!({"duration": "10m", "subject": {"kind": "User", "name": "carol"}});
    if let Some(start) = start {
        more["notBefore"] = start.to_string().into();
    }
    place.asked("alice", policy, more).await
}

async fn approved(place: &Place<'_>, grant: &AccessGrant) -> anyhow::Result<()> {
    place.approve("bob", grant).await?;
    place.approve("frank", grant).await?;
    Ok(())
}

/// A person revokes, and the grant says who and why.
async fn ends(place: &Place<'_>, person: &str, grant: &AccessGrant) -> anyhow::Result<()> {
    let decision = place.revoke(person, grant).await?;
    let over = place.in_state(&grant.name_any(), "Revoked").await?;
    let revocation = over
        .status
        .clone()
        .and_then(|status| status.revocation)
        .context("no revocation")?;
    let why = format!("{person} revoked it: no longer needed");
    ensure!(
        revocation.cause == RevocationCause::RevokeDecision
            && revocation.by.as_deref() == Some(person)
            && revocation.message == why,
        "{revocation:?}"
    );
    place.counts(&decision, "ends the access").await?;
    let told = place.events(&over).await?;
    let last = told.last().cloned().unwrap_or_default();
    ensure!(
        last.starts_with(&format!("Revoked: {why}; proven absent ")),
        "{told:?}"
    );
    let row = place.row("alice", "agrant", &grant.name_any()).await?;
    ensure!(row.contains("Revoked") && row.contains(&why), "{row}");
    Ok(())
}

async fn whoever_may_ends_access_that_is_in_force(suite: &Suite) -> anyhow::Result<()> {
    let (place, policy) = ground(suite).await?;
    for person in ENTITLED {
        let grant = asked(&place, &policy, None).await?;
        approved(&place, &grant).await?;
        place.in_state(&grant.name_any(), "Active").await?;
        ensure!(place.may("carol", "list", "pods").await?, "carol may not");
        ends(&place, person, &grant)
            .await
            .with_context(|| person.to_owned())?;
        place.nothing_left().await?;
        ensure!(!place.may("carol", "list", "pods").await?, "carol still may");
    }
    Ok(())
}

async fn whoever_may_takes_back_what_awaits_approval(suite: &Suite) -> anyhow::Result<()> {
    let (place, policy) = ground(suite).await?;
    for person in ENTITLED {
        let grant = asked(&place, &policy, None).await?;
        place.approve("bob", &grant).await?;
        place.approval(&grant, "0 of 1 from security, until ").await?;
        ends(&place, person, &grant)
            .await
            .with_context(|| person.to_owned())?;
        let late = place.approve("frank", &grant).await?;
        place
            .is_ignored(&late, "TooLate", "the grant was already decided")
            .await?;
    }
    ensure!(place.artifacts().await?.is_empty(), "something was made");
    Ok(())
}

async fn whoever_may_takes_back_what_is_scheduled(suite: &Suite) -> anyhow::Result<()> {
    let (place, policy) = ground(suite).await?;
    for person in ENTITLED {
        let start = Timestamp::now() + Duration::from_mins(10);
        let grant = asked(&place, &policy, Some(start)).await?;
        approved(&place, &grant).await?;
        place.in_state(&grant.name_any(), "Scheduled").await?;
        ends(&place, person, &grant)
            .await
            .with_context(|| person.to_owned())?;
    }
    ensure!(place.artifacts().await?.is_empty(), "something was made");
    Ok(())
}

async fn what_waits_for_its_policy_is_taken_back_by_those_who_may_without_it(
    suite: &Suite,
) -> anyhow::Result<()> {
    let (place, _) = ground(suite).await?;
    for person in ["alice", "carol", "eve"] {
        let for_carol = json!({"subject": {"kind": "User", "name": "carol"}});
        let grant = place.ask("alice", "no-such-policy", for_carol).await?;
        ends(&place, person, &grant)
            .await
            .with_context(|| person.to_owned())?;
    }
    Ok(())
}

async fn whoever_may_not_revokes_nothing(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[security(1)], json!({})).await?;
    let waiting = place.asked("alice", &policy, json!({})).await?;
    let active = place.asked("alice", &policy, json!({})).await?;
    place.approve("dave", &active).await?;
    place.in_state(&active.name_any(), "Active").await?;
    // Another developer, and a lead whom this policy does not ask.
    for person in ["eve", "bob"] {
        for (grant, state) in [(&waiting, "AwaitingApproval"), (&active, "Active")] {
            let decision = place.revoke(person, grant).await?;
            let why = format!(
                "{person} may not revoke this grant: only its requester, its subject, approvers of its policy and \
                 holders of the verb revoke on accessgrants/{} may",
                grant.name_any()
            );
            place.is_ignored(&decision, "MayNotRevoke", &why).await?;
            place.in_state(&grant.name_any(), state).await?;
        }
    }
    ensure!(
        place.may("alice", "list", "pods").await?,
        "alice may not any more"
    );
    Ok(())
}

async fn an_automatic_grant_is_revoked_by_its_requester_and_by_holders_of_the_verb(
    suite: &Suite,
) -> anyhow::Result<()> {
    let (place, _) = ground(suite).await?;
    let policy = place.policy(json!({})).await?.name_any();
    for person in ["alice", "eve"] {
        let grant = place.active("alice", &policy, json!({"duration": "10m"})).await?;
        let powerless = place.revoke("dave", &grant).await?;
        place
            .is_ignored(&powerless, "MayNotRevoke", "dave may not revoke this grant")
            .await?;
        ends(&place, person, &grant)
            .await
            .with_context(|| person.to_owned())?;
        place.nothing_left().await?;
    }
    Ok(())
}
