//! The right to act as a service account, with nobody home or no fuse.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, REVOKE_FINALIZER};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::harness::{Operator, OperatorOptions};
use crate::support::act_as::{IDENTITIES, Identity, gone, made_for, nothing_left};
use crate::support::fuses::{TRIED_AGAIN, fused, no_jobs, says, told};
use crate::support::{Place, SOON, Suite, condition};
use crate::tests;

tests![
    with_nobody_home_the_fuse_ends_it,
    a_grant_deleted_with_nobody_home_ends_by_its_fuse_and_goes_when_somebody_is_back,
    while_its_fuse_is_refused_nobody_acts_as_somebody_else,
];

/// How long after its fuse burns access may be there.
const AFTER_THE_FUSE: SignedDuration = SignedDuration::from_secs(1);

/// How long after the end a fuse may burn: the time left is rounded up to whole seconds, and one is added.
const GRACE: SignedDuration = SignedDuration::from_secs(2);

async fn operator(suite: &Suite) -> anyhow::Result<Operator> {
    Operator::start(&suite.plane, &suite.binary, OperatorOptions::default()).await
}

/// When the one fuse of a grant burns.
async fn burns_at(suite: &Suite, grant: &AccessGrant) -> anyhow::Result<Timestamp> {
    let made = made_for(suite, grant).await?;
    let name = made
        .iter()
        .find_map(|made| made.strip_prefix("Job/"))
        .context("no fuse")?;
    let fuse = Api::<Job>::namespaced(suite.admin.clone(), IDENTITIES)
        .get(name)
        .await?;
    crate::support::fuses::burns_at(&fuse)
}

/// Whether the API server would let a person act as a service account now.
async fn may_act(person: &Client, account: &str) -> anyhow::Result<bool> {
    let review: SelfSubjectAccessReview = serde_json::from_value(json!({
        "spec": {"resourceAttributes": {
            "resource": "serviceaccounts", "verb": "impersonate", "namespace": IDENTITIES, "name": account,
        }},
    }))?;
    let reviews = Api::<SelfSubjectAccessReview>::all(person.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Waits until a person may no longer act, and answers when that was seen. It must not be before the end.
async fn ends(suite: &Suite, account: &str, end: Timestamp) -> anyhow::Result<Timestamp> {
    let alice = suite.plane.client_as("alice").await?;
    loop {
        let asked_at = Timestamp::now();
        if !may_act(&alice, account).await? {
            ensure!(asked_at >= end, "over at {asked_at}, before {end}");
            return Ok(asked_at);
        }
        ensure!(asked_at < end + GRACE + AFTER_THE_FUSE, "alice still may act");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn ends_with_its_fuse(suite: &Suite, account: &str, grant: &AccessGrant) -> anyhow::Result<()> {
    let status = grant.status.clone().context("no status")?;
    let end = status.expires_at.context("no end")?.0;
    let burns = burns_at(suite, grant).await?;
    ensure!(
        burns >= end && burns <= end + GRACE,
        "a fuse for {end} burns at {burns}"
    );
    let over = ends(suite, account, end).await?;
    let late = over.duration_since(burns);
    println!(
        "act as, nobody home: over {:#} after its end, {late:#} after its fuse was to burn",
        over.duration_since(end)
    );
    ensure!(late <= AFTER_THE_FUSE, "over {late:#} after its fuse was to burn");
    Ok(())
}

fn is_kept(grant: &AccessGrant) -> bool {
    grant
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == REVOKE_FINALIZER)
}

async fn with_nobody_home_the_fuse_ends_it(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let first = operator(suite).await?;
    let identity = Identity::prepare(&place).await?;
    let grant = identity.active("alice", "5s").await?;
    first.kill9().await?;
    ensure!(identity.acts("alice").await?, "alice may not act");
    ends_with_its_fuse(suite, &identity.account.name, &grant).await?;
    ensure!(!identity.acts("alice").await?, "alice still acts");
    nothing_left(suite, &grant).await?;

    let second = operator(suite).await?;
    let ended = place.in_state(&grant.name_any(), "Expired").await?;
    ensure!(
        ended.metadata.deletion_timestamp.is_none(),
        "{:?}",
        ended.metadata
    );
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::background())
        .await?;
    gone(&place, &grant).await?;
    second.kill9().await
}

async fn a_grant_deleted_with_nobody_home_ends_by_its_fuse_and_goes_when_somebody_is_back(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let first = operator(suite).await?;
    let identity = Identity::prepare(&place).await?;
    let grant = identity.active("alice", "6s").await?;
    first.kill9().await?;
    let grants = place.grants();
    grants
        .delete(&grant.name_any(), &DeleteParams::background())
        .await?;
    ensure!(
        identity.acts("alice").await?,
        "ownership does not reach so far, and yet the access is gone"
    );
    ends_with_its_fuse(suite, &identity.account.name, &grant).await?;
    nothing_left(suite, &grant).await?;
    let kept = grants.get(&grant.name_any()).await?;
    ensure!(
        is_kept(&kept) && kept.metadata.deletion_timestamp.is_some(),
        "{:?}",
        kept.metadata
    );
    let second = operator(suite).await?;
    gone(&place, &grant).await?;
    second.kill9().await
}

/// No grant can own what is made among the identities, so there is no access without a fuse.
async fn while_its_fuse_is_refused_nobody_acts_as_somebody_else(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let operator = operator(suite).await?;
    let identity = Identity::prepare(&place).await?;
    let identities = Place {
        suite,
        name: IDENTITIES.to_owned(),
    };
    let outcome = async {
        no_jobs(&identities).await?;
        waits_for_its_fuse(&place, &identity).await
    }
    .await;
    // Before any verdict: the other tests need it.
    let quotas = Api::<ResourceQuota>::namespaced(suite.admin.clone(), IDENTITIES);
    quotas.delete("none", &DeleteParams::default()).await?;
    let name = outcome?;
    let grant = place.in_state_within(&name, "Active", TRIED_AGAIN).await?;
    ensure!(
        fused(&grant).is_some_and(|said| said.status == "True"),
        "{:?}",
        fused(&grant)
    );
    ensure!(told(&place, &grant, "FuseRefused").await? == 1, "told twice");
    ensure!(identity.acts("alice").await?, "alice may not act");
    ensure!(
        is_kept(&grant),
        "it can go before its access: {:?}",
        grant.metadata
    );
    let grants = place.grants();
    grants.delete(&name, &DeleteParams::background()).await?;
    gone(&place, &grant).await?;
    ensure!(!identity.acts("alice").await?, "alice still acts");
    nothing_left(suite, &grant).await?;
    operator.kill9().await
}

async fn waits_for_its_fuse(place: &Place<'_>, identity: &Identity<'_>) -> anyhow::Result<String> {
    let grant = identity.ask("alice", "10m").await?;
    let name = grant.name_any();
    let waiting = says(place, &name, ("False", "FuseRefused"), SOON).await?;
    let active = condition(&waiting, "Active").context("no state")?;
    ensure!(
        active.reason == "Activating" && active.message.contains("exceeded quota"),
        "{active:?}"
    );
    ensure!(!identity.acts("alice").await?, "alice acts without a fuse");
    let made = made_for(place.suite, &grant).await?;
    ensure!(made.is_empty(), "{made:?}");
    ensure!(!is_kept(&waiting), "kept for nothing: {:?}", waiting.metadata);
    ensure!(told(place, &grant, "FuseRefused").await? == 1, "not told once");
    Ok(name)
}
