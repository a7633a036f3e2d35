//! Many decide at once: each of them is told what came of it, and access is given once.

use std::collections::BTreeMap;

use anyhow::ensure;
use curfew::api::{AccessDecision, conditions};
use futures::future::try_join_all;
use kube::ResourceExt as _;
use serde_json::json;

use crate::harness::eventually;
use crate::support::decisions::{approvals, group, security, stage};
use crate::support::{Place, SOON, Suite, condition};
use crate::tests;

tests![
    two_who_approve_in_the_same_instant_both_count,
    of_two_who_approve_in_the_same_instant_one_counts_where_one_is_asked,
    of_an_approval_and_a_denial_in_the_same_instant_one_decides,
    a_hundred_decisions_about_one_grant_all_get_a_verdict,
    of_many_requests_in_the_same_instant_as_many_wait_as_may,
];

/// How often what depends on an instant is tried.
const ROUNDS: usize = 5;

/// How many decisions there are for each reason of their verdict.
async fn verdicts(
    place: &Place<'_>,
    decisions: &[AccessDecision],
) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut verdicts = BTreeMap::new();
    for decision in decisions {
        let reason = place.verdict(decision).await?.reason;
        *verdicts.entry(reason).or_default() += 1;
    }
    Ok(verdicts)
}

async fn two_who_approve_in_the_same_instant_both_count(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[security(2)], json!({})).await?;
    for _ in 0..ROUNDS {
        let grant = place.asked("alice", &policy, json!({"duration": "1m"})).await?;
        let (one, other) = tokio::join!(place.approve("dave", &grant), place.approve("erin", &grant));
        let active = place.in_state(&grant.name_any(), "Active").await?;
        let verdicts = verdicts(&place, &[one?, other?]).await?;
        ensure!(
            verdicts == BTreeMap::from([("Counted".to_owned(), 2)]),
            "{verdicts:?}"
        );
        ensure!(approvals(&active).len() == 2, "{:?}", approvals(&active));
    }
    Ok(())
}

async fn of_two_who_approve_in_the_same_instant_one_counts_where_one_is_asked(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[security(1)], json!({})).await?;
    for _ in 0..ROUNDS {
        let grant = place.asked("alice", &policy, json!({"duration": "1m"})).await?;
        let (one, other) = tokio::join!(place.approve("dave", &grant), place.approve("erin", &grant));
        let active = place.in_state(&grant.name_any(), "Active").await?;
        let verdicts = verdicts(&place, &[one?, other?]).await?;
        let spare = ["TooLate", "NotAsked"]
            .iter()
            .filter_map(|reason| verdicts.get(*reason))
            .sum::<usize>();
        ensure!(verdicts.get("Counted") == Some(&1) && spare == 1, "{verdicts:?}");
        ensure!(approvals(&active).len() == 1, "{:?}", approvals(&active));
    }
    Ok(())
}

async fn of_an_approval_and_a_denial_in_the_same_instant_one_decides(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[security(1)], json!({})).await?;
    for _ in 0..ROUNDS {
        let grant = place.asked("alice", &policy, json!({"duration": "1m"})).await?;
        let (yes, no) = tokio::join!(place.approve("dave", &grant), place.deny("erin", &grant));
        let (yes, no) = (place.verdict(&yes?).await?, place.verdict(&no?).await?);
        let state = match (yes.reason.as_str(), no.reason.as_str()) {
            ("Counted", "TooLate") => "Active",
            ("TooLate", "Counted") => "Denied",
            other => anyhow::bail!("{other:?}"),
        };
        place.in_state(&grant.name_any(), state).await?;
    }
    Ok(())
}

async fn a_hundred_decisions_about_one_grant_all_get_a_verdict(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let all = stage("all", 3, &[group("leads"), group("security")]);
    let policy = place.asking_policy(&[all], json!({})).await?;
    let grant = place.asked("alice", &policy, json!({"duration": "5m"})).await?;
    let deciders = ["bob", "dave", "erin", "frank", "eve"];
    let word = json!({"decision": "Approve", "accessHash": place.hash_as("bob", &grant).await?});
    let decided = deciders
        .iter()
        .cycle()
        .take(100)
        .map(|person| place.decide(person, &grant, word.clone()));
    let decisions = try_join_all(decided).await?;
    let verdicts = verdicts(&place, &decisions).await?;
    ensure!(verdicts.get("Counted") == Some(&3), "{verdicts:?}");
    ensure!(verdicts.values().sum::<usize>() == 100, "{verdicts:?}");
    let active = place.in_state(&grant.name_any(), "Active").await?;
    ensure!(approvals(&active).len() == 3, "{:?}", approvals(&active));
    let told = place.events(&active).await?;
    let activated = told.iter().filter(|text| text.starts_with("Active: ")).count();
    ensure!(activated == 1, "{told:#?}");
    let bindings = place.bindings().await?;
    ensure!(bindings.len() == 1, "{} bindings", bindings.len());
    Ok(())
}

async fn of_many_requests_in_the_same_instant_as_many_wait_as_may(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let edit = json!({"limits": {"pendingPerRequester": 3}});
    let policy = place.asking_policy(&[security(1)], edit).await?;
    let grants = try_join_all((0..20).map(|_| place.ask("alice", &policy, json!({})))).await?;
    let mut states = BTreeMap::<String, usize>::new();
    for grant in &grants {
        let state = eventually("each request is judged", SOON, async || {
            let grant = place
                .grants()
                .get(&grant.name_any())
                .await
                .map_err(|error| error.to_string())?;
            match condition(&grant, conditions::ACTIVE).map(|active| active.reason.clone()) {
                Some(state) if state != "Pending" => Ok(state),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        *states.entry(state).or_default() += 1;
    }
    let expected = [("AwaitingApproval".to_owned(), 3), ("Denied".to_owned(), 17)].into();
    ensure!(states == expected, "{states:?}");
    Ok(())
}
