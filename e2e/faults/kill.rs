//! The operator is killed (-9) after each of its writes in turn, and another one is started.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use serde_json::json;

use super::scene::{Ground, identity, what};
use super::story::Story;
use crate::harness::{Exchange, Fault, Operator};
use crate::support::Suite;
use crate::support::act_as::IDENTITIES;
use crate::tests;

tests![
    killed_after_any_write_about_rules_the_next_operator_finishes_the_job,
    killed_after_any_write_about_a_deleted_grant_of_an_identity_the_next_operator_lets_it_go,
    killed_after_any_write_about_approved_access_the_next_operator_finishes_the_job;
    thorough:
    killed_after_any_write_about_a_role_the_next_operator_finishes_the_job,
    killed_after_any_write_about_a_changed_binding_the_next_operator_finishes_the_job,
    killed_after_any_write_about_a_deleted_grant_the_next_operator_clears_up_alone,
    killed_after_any_write_about_an_identity_the_next_operator_finishes_the_job,
    killed_after_any_write_about_a_revoked_request_the_next_operator_finishes_the_job,
];

/// No life has more writes.
const MANY: usize = 40;

/// How long an operator may live that nothing kills.
const LIFE: Duration = Duration::from_mins(2);

/// Which write is the operator's last. Whatever it tries after that does not reach the API server, so that each
/// prefix of its writes is tried exactly.
#[derive(Debug, Clone, Copy)]
enum Last {
    /// The n-th about the grant, from 1.
    Nth(usize),
    /// The fuse, of the two that go side by side.
    Fuse,
    /// The write-ahead, of the two that go side by side.
    WriteAhead,
}

async fn killed_after_any_write_about_a_role_the_next_operator_finishes_the_job(
    suite: &Suite,
) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 2, json!({})).await?;
    every_write(&ground, Story::RoleExpires).await
}

async fn killed_after_any_write_about_rules_the_next_operator_finishes_the_job(
    suite: &Suite,
) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 2, json!({})).await?;
    every_write(&ground, Story::RulesExpire).await
}

async fn killed_after_any_write_about_a_changed_binding_the_next_operator_finishes_the_job(
    suite: &Suite,
) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 2, json!({})).await?;
    every_write(&ground, Story::Drifts).await
}

/// Without the garbage collector, which would do the same.
async fn killed_after_any_write_about_a_deleted_grant_the_next_operator_clears_up_alone(
    suite: &Suite,
) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 2, json!({})).await?;
    suite.plane.stop_controller_manager().await?;
    let outcome = every_write(&ground, Story::Deleted).await;
    suite.plane.start_controller_manager().await?;
    outcome
}

async fn killed_after_any_write_about_an_identity_the_next_operator_finishes_the_job(
    suite: &Suite,
) -> anyhow::Result<()> {
    every_write(&identity(suite).await?, Story::ActsAs).await
}

async fn killed_after_any_write_about_a_deleted_grant_of_an_identity_the_next_operator_lets_it_go(
    suite: &Suite,
) -> anyhow::Result<()> {
    every_write(&identity(suite).await?, Story::ActsAsDeleted).await
}

async fn killed_after_any_write_about_approved_access_the_next_operator_finishes_the_job(
    suite: &Suite,
) -> anyhow::Result<()> {
    every_write(&Ground::with_deciders(suite, 2).await?, Story::Decided).await
}

async fn killed_after_any_write_about_a_revoked_request_the_next_operator_finishes_the_job(
    suite: &Suite,
) -> anyhow::Result<()> {
    every_write(&Ground::with_deciders(suite, 2).await?, Story::Withdrawn).await
}

async fn every_write(ground: &Ground<'_>, story: Story) -> anyhow::Result<()> {
    let (mut cases, mut lived) = (Vec::new(), 0);
    let side_by_side: &[Last] = if story.asks_people() {
        // The first record is not the write-ahead, and a lost one keeps people from being asked.
        &[]
    } else {
        &[Last::Fuse, Last::WriteAhead]
    };
    for last in side_by_side.iter().copied().chain((1..=MANY).map(Last::Nth)) {
        let outcome = case(ground, story, last).await;
        match outcome.with_context(|| format!("{story:?}, killed after {last:?} ({})", cases.len()))? {
            Some(write) => cases.push(write),
            // One life may have had a write more than another: a second one tells.
            None => lived += 1,
        }
        if lived == 2 {
            break;
        }
    }
    ensure!(
        (story.fewest_writes()..MANY).contains(&cases.len()),
        "{} cases: {cases:?}",
        cases.len()
    );
    println!(
        "kill -9, {story:?}: {} cases, after {}",
        cases.len(),
        cases.join(", ")
    );
    Ok(())
}

/// One life with one kill. Answers the write that was the last one, or none if the operator was never killed.
async fn case(ground: &Ground<'_>, story: Story, last: Last) -> anyhow::Result<Option<String>> {
    let namespace = ground.namespace(0)?;
    let proxy = ground.proxy()?;
    let first = ground.operator(Some(&proxy)).await?;
    // Once it grants, it has judged the policies: from then on lives are alike.
    let warm = ground
        .ask(ground.namespace(1)?, json!({"duration": "10s"}))
        .await?;
    ground.is_active(&warm).await?;
    let killed_after = Arc::<Mutex<Option<String>>>::default();
    proxy.set_hook(hook(namespace, last, &first, &killed_after));
    let mut alive_since = Timestamp::now();
    let asked = story.begin(ground, namespace).await?;

    let mut second = None;
    let told = {
        let mut tell = pin!(story.tell(ground, asked));
        let mut relieve = pin!(async {
            first
                .gone_within(LIFE)
                .await
                .context("the operator lives too long")?;
            let operator = ground.operator(None).await?;
            anyhow::Ok((operator, Timestamp::now()))
        });
        loop {
            tokio::select! {
                told = &mut tell => break told,
                relieved = &mut relieve, if second.is_none() => {
                    let (operator, since) = relieved?;
                    alive_since = since;
                    second = Some(operator);
                }
            }
        }
    };
    let log = || second.as_ref().unwrap_or(&first).log();
    let told = told.with_context(|| format!("the operator logged:\n{}", log()))?;
    let killed_after = killed_after
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    if killed_after.is_some() && second.is_none() {
        // Everything was done when it was killed, and the next one may not undo it.
        second = Some(ground.operator(None).await?);
        alive_since = Timestamp::now();
    }
    let places = ground.places.first().context("no namespace")?;
    places.nothing_left().await?;
    told.check(ground, alive_since, false)?;
    told.check_events(ground, story).await?;
    if let Some(second) = second {
        second.kill9().await?;
    }
    Ok(killed_after)
}

fn hook(
    namespace: &str,
    last: Last,
    operator: &Operator,
    killed_after: &Arc<Mutex<Option<String>>>,
) -> impl Fn(&Exchange) -> Fault + Send + Sync + 'static {
    // No other life makes anything among the identities.
    let here = [namespace, IDENTITIES].map(|namespace| format!("/namespaces/{namespace}/"));
    let (count, kill) = (AtomicUsize::new(0), Arc::new(operator.killer()));
    let killed_after = Arc::clone(killed_after);
    move |exchange| {
        if exchange.write_index.is_none() || !here.iter().any(|here| exchange.path.contains(here)) {
            return Fault::Pass;
        }
        let mut killed_after = killed_after.lock().unwrap_or_else(PoisonError::into_inner);
        if killed_after.is_some() {
            return Fault::DropBefore;
        }
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        let what = what(exchange);
        let (is_last, is_other) = match last {
            Last::Nth(nth) => (number == nth, false),
            Last::Fuse => (what == "POST jobs", what == "PUT accessgrants"),
            Last::WriteAhead => (what == "PUT accessgrants", what == "POST jobs"),
        };
        if is_other {
            return Fault::DropBefore;
        }
        if !is_last {
            return Fault::Pass;
        }
        *killed_after = Some(what);
        let kill = Arc::clone(&kill);
        Fault::kill_after(move || kill())
    }
}
