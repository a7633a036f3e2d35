//! Many policies: an operator that starts has to judge all of them before it is ready.

use std::time::{Duration, Instant};

use anyhow::ensure;
use curfew::api::AccessPolicy;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use super::scene::{Ground, make_policy};
use crate::support::Suite;
use crate::tests;

tests![two_hundred_policies_keep_an_operator_from_nothing_for_long];

/// Of a build without optimization, on a machine that does other things.
const READY: Duration = Duration::from_secs(20);

async fn two_hundred_policies_keep_an_operator_from_nothing_for_long(suite: &Suite) -> anyhow::Result<()> {
    const POLICIES: usize = 200;
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    stream::iter(
        (0..POLICIES).map(|_| async { make_policy(suite, &suite.fresh("crowd"), "crowd", json!({})).await }),
    )
    .buffer_unordered(20)
    .try_collect::<Vec<()>>()
    .await?;
    let began = Instant::now();
    let operator = ground.operator(None).await?;
    let took = began.elapsed();
    // One that comes last is not kept waiting either.
    let edited = suite.fresh("policy");
    make_policy(suite, &edited, &ground.label, json!({})).await?;
    let began = Instant::now();
    ground.policy_is_ready(&edited).await?;
    println!(
        "{POLICIES} policies: ready after {took:.1?}, a new policy usable after {:.1?}",
        began.elapsed()
    );
    ensure!(took < READY, "it took {took:?} to be ready");
    operator.kill9().await?;
    let policies = Api::<AccessPolicy>::all(suite.admin.clone());
    policies
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    Ok(())
}
