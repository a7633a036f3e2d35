//! Operator, controller-manager or both are absent: whoever is left ends access, and how late.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, ArtifactKind};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PropagationPolicy};
use serde_json::json;

use super::lags::{Lags, until};
use super::scene::{Asked, Ground};
use super::verdict::PROMISE;
use crate::harness::{Operator, eventually};
use crate::support::{SOON, Suite};
use crate::tests;

tests![
    without_a_controller_manager_the_operator_ends_access_and_removes_its_fuses_alone,
    with_both_down_across_the_end_the_operator_ends_access_when_it_is_back,
    with_both_down_across_the_end_the_controller_manager_ends_access_when_it_is_back,
    killed_for_good_right_after_it_gave_access_the_operator_is_not_needed_to_end_it,
    deleted_with_nobody_home_a_grant_takes_its_access_along,
    orphaning_with_nobody_home_prolongs_no_access_and_the_grant_goes_when_that_is_over,
    deleted_with_nobody_home_a_namespace_takes_its_access_along;
    fresh:
    deleted_with_nobody_home_a_definition_takes_all_access_along;
    thorough:
    a_thousand_fuses_that_burn_at_once_with_nobody_home_end_all_access,
];

/// How late a fuse may end access: the time left is rounded up to whole seconds, one second is added, and the
/// controller-manager takes 0.07 to 0.2 s, more beside other work.
const FUSE: SignedDuration = SignedDuration::from_secs(4);

/// How soon access has to be gone when what it hangs on was deleted: 0.15 to 0.25 s, measured with nothing else to do.
const GARBAGE: SignedDuration = SignedDuration::from_secs(2);

/// The same for a namespace: its controller waits 5 s before it deletes anything, so that every API server knows by then
/// that nothing new is to be made there.
const NAMESPACE: SignedDuration = SignedDuration::from_secs(5 + 2);

/// How soon a controller-manager that has started again has to burn what is overdue. It reads the whole cluster first.
const RETURN: SignedDuration = SignedDuration::from_secs(10);

/// By then every fuse would have burnt, if there were somebody to burn it.
const BURNT: Duration = Duration::from_secs(3);

/// Asks for so many, by a role and by rules in turns, and waits until all are in force.
async fn give(ground: &Ground<'_>, count: usize, duration: &str) -> anyhow::Result<Vec<Asked>> {
    let namespace = ground.namespace(0)?;
    let request = |number: usize| {
        let name = if number.is_multiple_of(2) { "look" } else { "read" };
        ground.ask(
            namespace,
            json!({"duration": duration, "entitlements": [{"name": name}]}),
        )
    };
    let asked = try_join_all((0..count).map(request)).await?;
    try_join_all(asked.iter().map(|asked| ground.is_active(asked))).await?;
    Ok(asked)
}

/// Waits until every fuse has a start: from then on it burns whoever lives.
async fn are_lit(ground: &Ground<'_>, count: usize) -> anyhow::Result<()> {
    let fuses = Api::<Job>::namespaced(ground.suite.admin.clone(), ground.namespace(0)?);
    eventually("every fuse is lit", 4 * SOON, async || {
        let all = fuses.list(&ListParams::default()).await;
        let all = all.map_err(|error| error.to_string())?.items;
        let lit = all
            .iter()
            .filter(|fuse| {
                fuse.status
                    .as_ref()
                    .is_some_and(|status| status.start_time.is_some())
            })
            .count();
        if lit == count {
            Ok(())
        } else {
            Err(format!("{lit} of {} are", all.len()))
        }
    })
    .await
}

/// The last of their ends.
fn last_end(ground: &Ground<'_>, asked: &[Asked]) -> anyhow::Result<Timestamp> {
    let ends = asked
        .iter()
        .map(|asked| ground.journal.tale(&asked.uid).expires_at());
    ends.max().flatten().context("no end")
}

/// All bindings still stand: nobody is there to end them.
fn stand(ground: &Ground<'_>, asked: &[Asked]) -> anyhow::Result<()> {
    for asked in asked {
        let binding = ground.piece(asked, ArtifactKind::RoleBinding)?;
        ensure!(
            binding.gone_at.is_none(),
            "somebody ended {}: {binding:?}",
            asked.name
        );
    }
    Ok(())
}

/// Whoever comes back has nothing left to end, and records that it is over; and then everything is judged.
async fn are_recorded(
    ground: &Ground<'_>,
    operator: Operator,
    asked: &[Asked],
    gone_by: impl Fn(&Asked) -> Timestamp,
) -> anyhow::Result<()> {
    for asked in asked {
        ground
            .told(asked, "it is recorded as over", |tale| tale.state() == "Expired")
            .await?;
        ground.nothing_left(asked).await?;
        ground.judge(asked, gone_by(asked))?;
    }
    ground.nothing_left_anywhere().await?;
    operator.kill9().await
}

async fn without_a_controller_manager_the_operator_ends_access_and_removes_its_fuses_alone(
    suite: &Suite,
) -> anyhow::Result<()> {
    const GRANTS: usize = 10;
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let operator = ground.operator(None).await?;
    suite
        .plane
        .without_controller_manager(async {
            let asked = give(&ground, GRANTS, "4s").await?;
            let due = |asked: &Asked| ground.journal.tale(&asked.uid).expires_at().unwrap_or_default();
            are_recorded(&ground, operator, &asked, |asked| due(asked) + PROMISE).await?;
            let lags = Lags::of(&ground, &asked)?;
            println!("controller-manager dead: {GRANTS} ends by the operator alone, {lags}");
            anyhow::Ok(())
        })
        .await
}

/// Access that both have left behind, past its end and past what a fuse adds.
async fn left_behind(suite: &Suite) -> anyhow::Result<(Ground<'_>, Vec<Asked>)> {
    const GRANTS: usize = 6;
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let operator = ground.operator(None).await?;
    let asked = give(&ground, GRANTS, "6s").await?;
    are_lit(&ground, GRANTS).await?;
    operator.kill9().await?;
    suite.plane.stop_controller_manager().await?;
    let waited = async {
        let end = last_end(&ground, &asked)?;
        ensure!(Timestamp::now() < end, "they were stopped after the end");
        until(end + BURNT).await;
        stand(&ground, &asked)
    }
    .await;
    if waited.is_err() {
        suite.plane.start_controller_manager().await?;
    }
    waited?;
    Ok((ground, asked))
}

async fn with_both_down_across_the_end_the_operator_ends_access_when_it_is_back(
    suite: &Suite,
) -> anyhow::Result<()> {
    let (ground, asked) = left_behind(suite).await?;
    let outcome = async {
        let began = Timestamp::now();
        let operator = ground.operator(None).await?;
        let ready = Timestamp::now();
        are_recorded(&ground, operator, &asked, |_| ready + PROMISE).await?;
        let last = Lags::last_gone(&ground, &asked)?;
        println!(
            "both dead across {} ends: the last access gone {:#} after the operator was started again",
            asked.len(),
            last.duration_since(began)
        );
        anyhow::Ok(())
    }
    .await;
    suite.plane.start_controller_manager().await?;
    outcome
}

async fn with_both_down_across_the_end_the_controller_manager_ends_access_when_it_is_back(
    suite: &Suite,
) -> anyhow::Result<()> {
    let (ground, asked) = left_behind(suite).await?;
    let began = Timestamp::now();
    suite.plane.start_controller_manager().await?;
    for asked in &asked {
        ground.nothing_left(asked).await?;
    }
    let last = Lags::last_gone(&ground, &asked)?;
    println!(
        "both dead across {} ends: the last access gone {:#} after the controller-manager was started again",
        asked.len(),
        last.duration_since(began)
    );
    let operator = ground.operator(None).await?;
    are_recorded(&ground, operator, &asked, |_| began + RETURN).await
}

async fn killed_for_good_right_after_it_gave_access_the_operator_is_not_needed_to_end_it(
    suite: &Suite,
) -> anyhow::Result<()> {
    const GRANTS: usize = 6;
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let operator = ground.operator(None).await?;
    let asked = give(&ground, GRANTS, "5s").await?;
    operator.kill9().await?;
    for asked in &asked {
        ground.nothing_left(asked).await?;
    }
    let lags = Lags::of(&ground, &asked)?;
    println!("operator killed after it gave access: {GRANTS} fuses, access gone {lags}");
    ensure!(
        lags.shortest() >= SignedDuration::ZERO,
        "a fuse burnt before the end: {lags}"
    );
    let due = |asked: &Asked| ground.journal.tale(&asked.uid).expires_at().unwrap_or_default();
    let operator = ground.operator(None).await?;
    are_recorded(&ground, operator, &asked, |asked| due(asked) + FUSE).await
}

/// Access whose time is far, and nobody home but the controller-manager.
async fn abandoned(suite: &Suite, count: usize) -> anyhow::Result<(Ground<'_>, Vec<Asked>)> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let operator = ground.operator(None).await?;
    let asked = give(&ground, count, "30m").await?;
    operator.kill9().await?;
    stand(&ground, &asked)?;
    Ok((ground, asked))
}

/// Waits until all of them are gone, and says how long after their deletion that was.
async fn go_with_it(
    ground: &Ground<'_>,
    asked: &[Asked],
    what: &str,
    deleted: Timestamp,
    within: SignedDuration,
) -> anyhow::Result<()> {
    for asked in asked {
        ground.nothing_left(asked).await?;
    }
    let took = Lags::last_gone(ground, asked)?.duration_since(deleted);
    println!(
        "nobody home, {what} deleted: access of {} gone {took:#} after",
        asked.len()
    );
    ensure!(took <= within, "gone {took:#} after {what} was deleted");
    Ok(())
}

async fn deleted_with_nobody_home_a_grant_takes_its_access_along(suite: &Suite) -> anyhow::Result<()> {
    let (ground, asked) = abandoned(suite, 3).await?;
    for one in &asked {
        let deleted = ground.delete(one).await?;
        go_with_it(&ground, std::slice::from_ref(one), "a grant", deleted, GARBAGE).await?;
    }
    ground.nothing_left_anywhere().await
}

/// Guards keep the garbage collector from cutting the fuse off its grant, which therefore stays until the fuse is gone.
async fn orphaning_with_nobody_home_prolongs_no_access_and_the_grant_goes_when_that_is_over(
    suite: &Suite,
) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let operator = ground.operator(None).await?;
    let asked = give(&ground, 2, "8s").await?;
    operator.kill9().await?;
    let grants = Api::<AccessGrant>::namespaced(suite.admin.clone(), ground.namespace(0)?);
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    for asked in &asked {
        grants.delete(&asked.name, &orphan).await?;
    }
    stand(&ground, &asked)?;
    for asked in &asked {
        ground.nothing_left(asked).await?;
    }
    let lags = Lags::of(&ground, &asked)?;
    ensure!(
        lags.longest() <= FUSE,
        "orphaned access was gone {lags}, not within {FUSE:#}"
    );
    let over = Timestamp::now();
    eventually("the grants are gone", 4 * SOON, async || {
        let left = grants
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        match left.items.as_slice() {
            [] => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })
    .await?;
    let stayed = Timestamp::now().duration_since(over);
    println!("nobody home, grants orphaned: access gone {lags}; the grants {stayed:#} after");
    ground.nothing_left_anywhere().await
}

async fn deleted_with_nobody_home_a_namespace_takes_its_access_along(suite: &Suite) -> anyhow::Result<()> {
    let (ground, asked) = abandoned(suite, 4).await?;
    let namespaces = Api::<Namespace>::all(suite.admin.clone());
    let name = ground.namespace(0)?;
    namespaces.delete(name, &DeleteParams::background()).await?;
    go_with_it(&ground, &asked, "their namespace", Timestamp::now(), NAMESPACE).await?;
    eventually("the namespace is gone", 2 * SOON, async || {
        match namespaces.get_opt(name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// On a control plane of its own: everything that was ever asked for goes with it.
async fn deleted_with_nobody_home_a_definition_takes_all_access_along(suite: &Suite) -> anyhow::Result<()> {
    suite.operator()?.kill9().await?;
    let (ground, asked) = abandoned(suite, 4).await?;
    let delete = ["delete", "crd", "accessgrants.access.curfew.dev", "--wait=false"];
    suite.plane.run_kubectl(&delete).await?;
    let deleted = Timestamp::now();
    go_with_it(&ground, &asked, "the definition of grants", deleted, GARBAGE).await
}

/// How late each is, whoever else waits for the same controller-manager.
async fn a_thousand_fuses_that_burn_at_once_with_nobody_home_end_all_access(
    suite: &Suite,
) -> anyhow::Result<()> {
    const FUSES: usize = 1000;
    const ALL_BURNT: Duration = Duration::from_mins(5);
    let ground = Ground::prepare(suite, 1, json!({"limits": {"pendingPerRequester": 2000}})).await?;
    let operator = ground.operator(None).await?;
    let namespace = ground.namespace(0)?;
    // One moment for all of them; by then they have all been given, and lit.
    let end = Timestamp::now() + SignedDuration::from_secs(150);
    let request = |_| ground.ask(namespace, json!({"duration": "1h", "notAfter": end.to_string()}));
    let asked = ground.many(FUSES, request).await?;
    eventually("all are in force", Duration::from_mins(2), async || {
        let active = asked
            .iter()
            .filter(|asked| ground.journal.tale(&asked.uid).was_active())
            .count();
        if active == FUSES {
            Ok(())
        } else {
            Err(format!("{active} are"))
        }
    })
    .await?;
    are_lit(&ground, FUSES).await?;
    operator.kill9().await?;
    let early = end.duration_since(Timestamp::now());
    ensure!(
        early > SignedDuration::ZERO,
        "they were given too late: {early:#}"
    );
    until(end).await;
    eventually("all access is gone", ALL_BURNT, async || {
        let left = ground
            .journal
            .in_namespace(namespace)
            .into_iter()
            .filter(|piece| piece.kind == ArtifactKind::RoleBinding && piece.gone_at.is_none())
            .count();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} bindings stand"))
        }
    })
    .await?;
    let lags = Lags::of(&ground, &asked)?;
    println!("{FUSES} fuses at once, nobody home: access gone {lags}");
    ensure!(
        lags.shortest() >= SignedDuration::ZERO,
        "a fuse burnt before the end: {lags}"
    );
    let gone = Timestamp::now();
    let operator = ground.operator(None).await?;
    are_recorded(&ground, operator, &asked, |_| gone).await
}
