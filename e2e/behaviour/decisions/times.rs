//! Windows that close while somebody waits, and access that starts by itself.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, conditions};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::support::decisions::{says, team};
use crate::support::{SOON, Suite};
use crate::tests;

tests![
    a_window_that_closes_ends_the_wait_and_the_access,
    access_starts_by_itself_at_its_time,
    access_that_was_approved_before_starts_by_itself_at_its_time,
    a_start_that_has_passed_is_now,
    a_start_too_far_ahead_or_after_the_end_is_refused,
];

/// How late access may start.
const PUNCTUAL: SignedDuration = SignedDuration::from_secs(2);

/// The first whole minute at least 15 s ahead, and a window from an hour before it until it.
fn closing() -> anyhow::Result<(Timestamp, Value)> {
    let soonest = (Timestamp::now() + Duration::from_secs(15)).as_second();
    let end = Timestamp::from_second(soonest.div_euclid(60) * 60 + 60)?;
    let wall = |at: Timestamp| at.strftime("%H:%M").to_string();
    let begin = wall(end - Duration::from_hours(1));
    let window = json!({"name": "today", "timeZone": "UTC", "from": begin, "to": wall(end)});
    Ok((end, window))
}

async fn a_window_that_closes_ends_the_wait_and_the_access(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let (end, window) = closing()?;
    let policy = place
        .asking_policy(&[team()], json!({"windows": [window]}))
        .await?;
    let waiting = place.asked("alice", &policy, json!({"duration": "10m"})).await?;
    let until = format!("0 of 1 from team, until {end}");
    place.approval(&waiting, &until).await?;
    let active = place.asked("carol", &policy, json!({"duration": "10m"})).await?;
    place.approve("bob", &active).await?;
    let active = place.in_state(&active.name_any(), "Active").await?;
    let expires_at = active
        .status
        .clone()
        .and_then(|status| status.expires_at)
        .context("no end")?
        .0;
    ensure!(expires_at == end, "{expires_at} instead of {end}");

    let left = end.duration_since(Timestamp::now()).unsigned_abs() + SOON;
    let over = place.in_state_within(&active.name_any(), "Expired", left).await?;
    ensure!(
        over.status
            .and_then(|status| status.ended_at)
            .context("no end")?
            .0
            >= end,
        "too early"
    );
    let denied = place.in_state(&waiting.name_any(), "Denied").await?;
    let said = format!("no window of policy {policy} is open at ");
    says(&denied, conditions::ACCEPTED, ("False", "OutsideWindows"), &said)?;
    says(&denied, conditions::APPROVED, ("False", "OutsideWindows"), &said)?;
    let late = place.approve("bob", &waiting).await?;
    place
        .is_ignored(&late, "TooLate", "the grant was already decided")
        .await
}

fn started_at(grant: &AccessGrant, start: Timestamp) -> anyhow::Result<()> {
    let status = grant.status.clone().context("no status")?;
    let late = status.activated_at.context("not active")?.0.duration_since(start);
    ensure!(
        !late.is_negative() && late < PUNCTUAL,
        "it started {late:?} after its time"
    );
    Ok(())
}

async fn access_starts_by_itself_at_its_time(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let start = Timestamp::now() + Duration::from_secs(5);
    let more = json!({"duration": "3s", "notBefore": start.to_string()});
    let grant = place.ask("alice", &policy, more).await?;
    let scheduled = place.in_state(&grant.name_any(), "Scheduled").await?;
    says(
        &scheduled,
        conditions::ACTIVE,
        ("False", "Scheduled"),
        "starts at ",
    )?;
    says(
        &scheduled,
        conditions::RECONCILING,
        ("True", "Scheduled"),
        "starts at ",
    )?;
    ensure!(
        place.artifacts().await?.is_empty() && !place.may("alice", "list", "pods").await?,
        "something was made before its time"
    );
    let row = place.row("alice", "agrant", &grant.name_any()).await?;
    ensure!(row.contains("Scheduled"), "{row}");
    let active = place.in_state(&grant.name_any(), "Active").await?;
    started_at(&active, start)?;
    let over = place.in_state(&grant.name_any(), "Expired").await?;
    let told = place.events(&over).await?;
    let reasons: Vec<_> = told
        .iter()
        .map(|text| text.split(':').next().unwrap_or_default())
        .collect();
    ensure!(reasons == ["Scheduled", "Active", "Expired"], "{told:?}");
    Ok(())
}

async fn access_that_was_approved_before_starts_by_itself_at_its_time(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let start = Timestamp::now() + Duration::from_secs(8);
    let more = json!({"duration": "1m", "notBefore": start.to_string()});
    let grant = place.asked("alice", &policy, more).await?;
    let decision = place.approve("bob", &grant).await?;
    let scheduled = place.in_state(&grant.name_any(), "Scheduled").await?;
    place.counts(&decision, "stage team: 1 of 1").await?;
    says(
        &scheduled,
        conditions::APPROVED,
        ("True", "Approved"),
        "approved by bob (team)",
    )?;
    let active = place.in_state(&grant.name_any(), "Active").await?;
    started_at(&active, start)?;
    let status = active.status.clone().context("no status")?;
    let expires_at = status.expires_at.context("no end")?.0;
    let lasts = expires_at.duration_since(start);
    ensure!(
        (60..62).contains(&lasts.as_secs()),
        "1m from its start, and {lasts:?}"
    );
    says(
        &active,
        conditions::APPROVED,
        ("True", "Approved"),
        "approved by bob (team)",
    )
}

async fn a_start_that_has_passed_is_now(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let start = Timestamp::now() - Duration::from_hours(1);
    place
        .active(
            "alice",
            &policy,
            json!({"duration": "3s", "notBefore": start.to_string()}),
        )
        .await?;
    Ok(())
}

async fn a_start_too_far_ahead_or_after_the_end_is_refused(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace_with_deciders().await?;
    let policy = place.asking_policy(&[team()], json!({})).await?;
    let now = Timestamp::now();
    let ahead = |hours: u64| (now + Duration::from_hours(hours)).to_string();
    for (more, part) in [
        (
            json!({"notBefore": ahead(30 * 24 + 1)}),
            "spec.notBefore: ".to_owned() + ahead(30 * 24 + 1).get(..19).unwrap_or_default(),
        ),
        (
            json!({"notBefore": ahead(30 * 24 + 1)}),
            "is more than 30 days ahead: at most ".to_owned(),
        ),
        (
            json!({"notBefore": ahead(3), "notAfter": ahead(2)}),
            "is not before spec.notAfter: name a time before ".to_owned(),
        ),
        (
            json!({"notBefore": ahead(2), "notAfter": ahead(2)}),
            "is not before spec.notAfter: name a time before ".to_owned(),
        ),
    ] {
        let refused = place.denied("alice", &policy, more.clone()).await?;
        ensure!(
            refused.reason == "NotBeforeInvalid" && refused.message.contains(&part),
            "{more}: no {part:?} in {refused:?}"
        );
    }
    Ok(())
}
