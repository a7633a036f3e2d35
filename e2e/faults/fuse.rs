//! Fuses with nobody home: no controller-manager to light them, or no operator beside them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, ArtifactKind};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::lags::until;
use crate::harness::{Operator, OperatorOptions, eventually};
use crate::support::fuses::{TRIED_AGAIN, burns_at, fuse, fused, no_jobs, owner, says, told};
use crate::support::sweep::sweep;
use crate::support::{Place, SOON, Suite, condition};
use crate::tests;

tests![
    while_nobody_starts_jobs_a_required_fuse_is_waited_for_and_a_preferred_one_is_said_to_be_unlit,
    without_fuses_deleting_the_grant_ends_access_with_nobody_home,
    a_sweep_that_lives_is_told_among_what_ends_the_access;
    thorough:
    a_fuse_that_is_lit_more_than_a_minute_late_is_said_and_one_that_holds_no_access_yet_is_made_anew,
    access_that_was_handed_to_a_fuse_late_ends_by_it_with_nobody_home,
];

async fn operator(suite: &Suite) -> anyhow::Result<Operator> {
    Operator::start(&suite.plane, &suite.binary, OperatorOptions::default()).await
}

async fn while_nobody_starts_jobs_a_required_fuse_is_waited_for_and_a_preferred_one_is_said_to_be_unlit(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let operator = operator(suite).await?;
    let required = place.policy(json!({"fuse": "Required"})).await?.name_any();
    let preferred = place.policy(json!({})).await?.name_any();
    let (waiting, given) = suite
        .plane
        .without_controller_manager(in_the_dark(&place, &required, &preferred))
        .await?;
    let active = place.in_state_within(&waiting, "Active", SOON).await?;
    ensure!(
        fused(&active).is_some_and(|said| said.status == "True"),
        "{:?}",
        fused(&active)
    );
    says(&place, &given, ("True", "FuseLit"), SOON).await?;
    operator.kill9().await
}

async fn in_the_dark(place: &Place<'_>, required: &str, preferred: &str) -> anyhow::Result<(String, String)> {
    let waits = place.ask("alice", required, json!({"duration": "10m"})).await?;
    let given = place.active("eve", preferred, json!({"duration": "10m"})).await?;
    ensure!(place.may("eve", "list", "pods").await?, "eve may not");
    let said = fused(&given).context("nothing is said of its fuse")?;
    ensure!(said.status == "False" && said.reason == "FuseNotLit", "{said:?}");
    let waiting = says(place, &waits.name_any(), ("False", "FuseNotLit"), SOON).await?;
    let active = condition(&waiting, "Active").context("no state")?;
    ensure!(
        active.reason == "Activating" && active.message.contains("not started by kube-controller-manager"),
        "{active:?}"
    );
    ensure!(told(place, &given, "FuseNotStarted").await? == 0, "told at once");
    for grant in [&waits, &given] {
        says(place, &grant.name_any(), ("False", "FuseNotStarted"), TRIED_AGAIN).await?;
        ensure!(told(place, grant, "FuseNotStarted").await? == 1, "not told once");
    }
    ensure!(!place.may("alice", "list", "pods").await?, "alice may");
    Ok((waits.name_any(), given.name_any()))
}

async fn access_that_was_handed_to_a_fuse_late_ends_by_it_with_nobody_home(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let operator = operator(suite).await?;
    let quotas = no_jobs(&place).await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = place.active("alice", &policy, json!({"duration": "50s"})).await?;
    ensure!(owner(&place).await?.kind == "AccessGrant", "a fuse holds it");
    quotas.delete("none", &DeleteParams::default()).await?;
    let grant = says(&place, &grant.name_any(), ("True", "FuseLit"), TRIED_AGAIN).await?;
    operator.kill9().await?;
    let end = grant
        .status
        .and_then(|status| status.expires_at)
        .context("no end")?
        .0;
    ensure!(place.may("alice", "list", "pods").await?, "alice may not");
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &place.name);
    let name = fuse(&place).await?.name_any();
    let left = Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default();
    eventually("the fuse ends the access", left + SOON, async || {
        match bindings.get_metadata_opt(&name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|there| there.is_some()))),
        }
    })
    .await?;
    let late = Timestamp::now().duration_since(end);
    println!("handed to a fuse late, nobody home: over {late:#} after its end");
    ensure!(
        !late.is_negative() && late < SignedDuration::from_secs(4),
        "over {late:#} after its end"
    );
    place.nothing_left().await
}

async fn without_fuses_deleting_the_grant_ends_access_with_nobody_home(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let operator = operator(suite).await?;
    let policy = place.policy(json!({"fuse": "None"})).await?.name_any();
    let asked = json!({"duration": "10m", "entitlements": [{"name": "read"}]});
    let grant = place.active("alice", &policy, asked).await?;
    operator.kill9().await?;
    ensure!(place.may("alice", "list", "configmaps").await?, "alice may not");
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::background())
        .await?;
    let asked_at = Timestamp::now();
    place.nothing_left().await?;
    println!(
        "without a fuse, nobody home: over {:#} after its grant was deleted",
        Timestamp::now().duration_since(asked_at)
    );
    ensure!(
        !place.may("alice", "list", "configmaps").await?,
        "alice still may"
    );
    Ok(())
}

async fn a_sweep_that_lives_is_told_among_what_ends_the_access(suite: &Suite) -> anyhow::Result<()> {
    let swept = sweep(suite, &[]).await?;
    ensure!(swept.code == Some(0), "{swept}");
    let place = suite.namespace().await?;
    let operator = operator(suite).await?;
    eventually("the operator hears the sweep", SOON, async || {
        let metrics = operator.metrics().await.map_err(|error| format!("{error:#}"))?;
        let mut lines = metrics.lines();
        let heard = lines.find_map(|line| line.strip_prefix("curfew_sweep_last_success_timestamp_seconds "));
        match heard {
            Some(at) if at != "0" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = place.active("alice", &policy, json!({})).await?;
    let grant = says(&place, &grant.name_any(), ("True", "FuseLit"), SOON).await?;
    let enforced = grant.status.map(|status| status.enforced_by).unwrap_or_default();
    ensure!(enforced == "Controller, Fuse, Sweep", "{enforced}");
    operator.kill9().await
}

/// The control plane's own minute has to pass: how late a fuse is lit is read from what it says of the Job.
async fn a_fuse_that_is_lit_more_than_a_minute_late_is_said_and_one_that_holds_no_access_yet_is_made_anew(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let operator = operator(suite).await?;
    let required = place.policy(json!({"fuse": "Required"})).await?.name_any();
    let preferred = place.policy(json!({})).await?.name_any();
    let (waiting, given) = suite
        .plane
        .without_controller_manager(unlit_for_a_minute(&place, &required, &preferred))
        .await?;

    let late = says(&place, &given, ("False", "FuseLate"), SOON).await?;
    let status = late.status.clone().unwrap_or_default();
    ensure!(!status.enforced_by.contains("Fuse"), "{}", status.enforced_by);
    ensure!(told(&place, &late, "FuseLate").await? == 1, "not told once");
    ensure!(place.may("eve", "list", "pods").await?, "eve may not any more");

    let active = place.in_state_within(&waiting, "Active", SOON).await?;
    ensure!(
        fused(&active).is_some_and(|said| said.status == "True"),
        "{:?}",
        fused(&active)
    );
    ensure!(place.may("alice", "list", "pods").await?, "alice may not");
    let status = active.status.clone().unwrap_or_default();
    let end = status.expires_at.as_ref().context("no end")?.0;
    let burns = burns_at(&fuse_of(&place, &active).await?)?;
    ensure!(
        burns >= end && burns <= end + SignedDuration::from_secs(2),
        "a fuse for {end} burns at {burns}"
    );
    for grant in [&late, &active] {
        let grants = place.grants();
        grants
            .delete(&grant.name_any(), &DeleteParams::background())
            .await?;
    }
    place.nothing_left().await?;
    operator.kill9().await
}

/// Answers the names of a grant that waits for its fuse and of one whose access is in force, once both fuses are a
/// minute old, and have not been started.
async fn unlit_for_a_minute(
    place: &Place<'_>,
    required: &str,
    preferred: &str,
) -> anyhow::Result<(String, String)> {
    let waiting = place.ask("alice", required, json!({"duration": "10m"})).await?;
    let given = place.active("eve", preferred, json!({"duration": "10m"})).await?;
    says(place, &waiting.name_any(), ("False", "FuseNotLit"), SOON).await?;
    let (waiting, given) = (waiting.name_any(), given.name_any());
    for name in [&waiting, &given] {
        let grant = place.grants().get(name).await?;
        let made = fuse_of(place, &grant).await?.metadata.creation_timestamp;
        // Times of objects are cut to whole seconds.
        until(made.context("never made")?.0 + SignedDuration::from_secs(60 + 2)).await;
    }
    ensure!(!place.may("alice", "list", "pods").await?, "alice may");
    Ok((waiting, given))
}

async fn fuse_of(place: &Place<'_>, grant: &AccessGrant) -> anyhow::Result<Job> {
    let records = grant.status.iter().flat_map(|status| &status.artifacts);
    let mut fuses = records.filter(|record| record.kind == ArtifactKind::Job);
    let name = &fuses.next().context("no fuse is recorded")?.name;
    let jobs = Api::<Job>::namespaced(place.suite.admin.clone(), &place.name);
    Ok(jobs.get(name).await?)
}
