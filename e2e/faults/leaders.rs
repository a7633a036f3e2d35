//! Two operators at once: one leads, and the other ends what is past its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::ArtifactKind;
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use super::journal::Tale;
use super::replicas::{Leadership, replica, two};
use super::scene::{Asked, Ground};
use super::verdict::PROMISE;
use crate::harness::{Exchange, Fault, Operator, eventually};
use crate::support::{SOON, Suite};
use crate::tests;

tests![
    a_follower_ends_what_is_due_and_neither_grants_nor_refuses_while_a_leader_lives,
    access_ends_on_time_while_its_leader_is_dead_and_another_leads_within_15_seconds,
    access_that_cannot_be_ended_yet_delays_the_end_of_no_other;
    busy:
    a_leader_that_is_told_to_stop_hands_over_within_a_second,
    leadership_that_is_stolen_every_second_grants_nothing_twice_and_ends_nothing_late,
    a_leader_that_was_suspended_and_wakes_up_beside_another_does_no_harm;
    thorough:
    leadership_that_is_stolen_every_second_under_a_flood_of_500_requests_grants_nothing_twice,
];

/// How much later than usual an end may be that falls into the time without a leader.
const LATER: SignedDuration = SignedDuration::from_millis(100);

/// How long a killed leader may be missed.
const SUCCESSION: SignedDuration = SignedDuration::from_secs(15);

/// How long a hand-over may take.
const HANDOVER: SignedDuration = SignedDuration::from_secs(1);

/// A ground, and nobody who leads: the operator that has judged its policy was killed.
async fn prepare(suite: &Suite) -> anyhow::Result<(Leadership, Ground<'_>)> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    Ok((Leadership::vacant(suite).await?, ground))
}

async fn says(operator: &Operator, line: &str) -> anyhow::Result<()> {
    let metrics = operator.metrics().await?;
    ensure!(
        metrics.lines().any(|other| other == line),
        "no {line} in {metrics}"
    );
    Ok(())
}

/// Waits until that was told of a grant, be it gone.
async fn is_told(suite: &Suite, asked: &Asked, reason: &str) -> anyhow::Result<()> {
    let events = Api::<Event>::namespaced(suite.admin.clone(), &asked.namespace);
    let about =
        |event: &Event| event.regarding.as_ref().and_then(|object| object.uid.as_ref()) == Some(&asked.uid);
    eventually(
        &format!("{} is told to be {reason}", asked.name),
        SOON,
        async || {
            let events = events
                .list(&ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            let told: Vec<_> = events
                .items
                .into_iter()
                .filter(about)
                .filter_map(|event| event.reason)
                .collect();
            if told.iter().any(|told| told == reason) {
                Ok(())
            } else {
                Err(told.join(", "))
            }
        },
    )
    .await
}

/// How long after its end the access of a grant was gone.
async fn lag(ground: &Ground<'_>, asked: &Asked) -> anyhow::Result<SignedDuration> {
    let tale = ground.expired(asked).await?;
    let due = tale.expires_at().context("no end")?;
    ground.judge(asked, due + PROMISE)?;
    let pieces = ground.journal.pieces(&asked.uid);
    let bindings = pieces
        .iter()
        .filter(|piece| piece.kind == ArtifactKind::RoleBinding);
    let gone = bindings
        .filter_map(|piece| piece.gone_at)
        .max()
        .context("no binding")?;
    Ok(gone.duration_since(due))
}

/// The middle one of these lags.
async fn usual_lag(ground: &Ground<'_>, asked: &[Asked]) -> anyhow::Result<SignedDuration> {
    let mut lags = try_join_all(asked.iter().map(|asked| lag(ground, asked))).await?;
    lags.sort();
    lags.get(lags.len() / 2).copied().context("none")
}

async fn ask_for(ground: &Ground<'_>, count: usize, duration: &str) -> anyhow::Result<Vec<Asked>> {
    let namespace = ground.namespace(0)?;
    try_join_all((0..count).map(|_| ground.ask(namespace, json!({"duration": duration})))).await
}

async fn are_active(ground: &Ground<'_>, asked: &[Asked]) -> anyhow::Result<Vec<Tale>> {
    try_join_all(asked.iter().map(|asked| ground.is_active(asked))).await
}

/// What a leader writes about grants does not get through; its lease does.
fn mute(namespace: &str) -> impl Fn(&Exchange) -> Fault + Send + Sync + 'static {
    let here = format!("/namespaces/{namespace}/");
    move |exchange| {
        if exchange.write_index.is_some() && exchange.path.contains(&here) {
            Fault::DropBefore
        } else {
            Fault::Pass
        }
    }
}

async fn a_follower_ends_what_is_due_and_neither_grants_nor_refuses_while_a_leader_lives(
    suite: &Suite,
) -> anyhow::Result<()> {
    let (lead, ground) = prepare(suite).await?;
    let namespace = ground.namespace(0)?;
    let proxy = ground.proxy()?;
    let leader = replica(&ground, "first", Some(&proxy)).await?;
    lead.is_of("first").await?;
    let follower = replica(&ground, "second", None).await?;
    says(&follower, "curfew_leader 0").await?;
    eventually("the leader counts itself", SOON, async || {
        says(&leader, "curfew_leader 1")
            .await
            .map_err(|error| format!("{error:#}"))
    })
    .await?;

    let ends = ask_for(&ground, 1, "4s").await?;
    are_active(&ground, &ends).await?;
    proxy.set_hook(mute(namespace));
    let good = ground.ask(namespace, json!({})).await?;
    let bad = ground.ask(namespace, json!({"duration": "2h"})).await?;
    // Only the follower can have done this, and it was created before the other two.
    let lag = usual_lag(&ground, &ends).await?;
    println!("a follower beside a leader that is mute: gone {lag:#} after its time");
    for asked in [&good, &bad] {
        let tale = ground.journal.tale(&asked.uid);
        ensure!(tale.state() == "Pending", "the follower decided it: {tale:#?}");
        let made = ground.journal.pieces(&asked.uid);
        ensure!(made.is_empty(), "the follower made {made:?}");
    }
    ensure!(follower.ready().await?.0 == 200, "a follower is ready");
    lead.is_of("first").await?;

    proxy.clear_hook();
    ground.is_active(&good).await?;
    ground
        .told(&bad, "it is refused", |tale| tale.state() == "Denied")
        .await?;
    ground.delete(&good).await?;
    ground.nothing_left_anywhere().await?;
    end([leader, follower]).await
}

async fn access_ends_on_time_while_its_leader_is_dead_and_another_leads_within_15_seconds(
    suite: &Suite,
) -> anyhow::Result<()> {
    const GRANTS: usize = 5;
    let (lead, ground) = prepare(suite).await?;
    let [first, second] = two(&ground, &lead, None).await?;
    let before = ask_for(&ground, GRANTS, "2s").await?;
    let usual = usual_lag(&ground, &before).await?;

    let deleted = ask_for(&ground, 1, "10m").await?;
    are_active(&ground, &deleted).await?;
    let in_between = ask_for(&ground, GRANTS, "4s").await?;
    let tales = are_active(&ground, &in_between).await?;
    let first_end = tales
        .iter()
        .filter_map(Tale::expires_at)
        .min()
        .context("no end")?;
    first.kill9().await?;
    let killed = Timestamp::now();
    ensure!(killed < first_end, "the leader was killed too late");
    for asked in &deleted {
        ground.delete(asked).await?;
    }
    let waiting = ask_for(&ground, 1, "1m").await?;
    let without = usual_lag(&ground, &in_between).await?;
    let state = ground.journal.tale(&waiting.first().context("none")?.uid);
    ensure!(state.state() == "Pending", "somebody led: {state:#?}");

    are_active(&ground, &waiting).await?;
    let resumed = Timestamp::now().duration_since(killed);
    lead.is_of("second").await?;
    println!(
        "leader killed: access gone {without:#} after its time (with a leader {usual:#}); granting after {resumed:#}"
    );
    ensure!(
        without <= usual + LATER,
        "{without:#} late, with a leader {usual:#}"
    );
    ensure!(resumed <= SUCCESSION, "nobody granted for {resumed:#}");
    for asked in &deleted {
        is_told(suite, asked, "Revoked").await?;
    }
    for asked in &waiting {
        ground.delete(asked).await?;
    }
    ground.nothing_left_anywhere().await?;
    second.terminate().await.map(drop)
}

async fn a_leader_that_is_told_to_stop_hands_over_within_a_second(suite: &Suite) -> anyhow::Result<()> {
    const GRANTS: u32 = 30;
    const EVERY: Duration = Duration::from_millis(100);
    let (lead, ground) = prepare(suite).await?;
    let namespace = ground.namespace(0)?;
    let [first, second] = two(&ground, &lead, None).await?;
    // Somebody asks all the time; whoever asks during the hand-over waits longest.
    let began = tokio::time::Instant::now();
    let requests = (0..GRANTS).map(async |number| {
        tokio::time::sleep_until(began + EVERY * number).await;
        let asked_at = Timestamp::now();
        let asked = ground.ask(namespace, json!({"duration": "10s"})).await?;
        // The record of it yields to the access of others.
        ground.is_active(&asked).await?;
        let binding = ground.piece(&asked, ArtifactKind::RoleBinding)?;
        anyhow::Ok(binding.seen_at.duration_since(asked_at))
    });
    let stop = async {
        tokio::time::sleep_until(began + EVERY * (GRANTS / 2)).await;
        let told = Timestamp::now();
        let (code, succeeded) = tokio::join!(first.terminate(), lead.is_of("second"));
        succeeded?;
        anyhow::Ok((code?, Timestamp::now().duration_since(told)))
    };
    let (waits, (code, took)) = tokio::try_join!(try_join_all(requests), stop)?;
    let longest = waits.into_iter().max().context("nobody asked")?;
    println!(
        "leader told to stop: another one leads after {took:#}; whoever asked waited {longest:#} at most"
    );
    ensure!(code == 0, "SIGTERM is not a failure: {code}\n{}", first.log());
    ensure!(longest <= HANDOVER, "somebody waited {longest:#}");
    ground.nothing_left_anywhere().await?;
    second.terminate().await.map(drop)
}

async fn leadership_that_is_stolen_every_second_grants_nothing_twice_and_ends_nothing_late(
    suite: &Suite,
) -> anyhow::Result<()> {
    stolen(suite, 200, 12, |number| 20 + number % 6).await
}

/// Until the last of them have ended. Each theft costs what was under way: time for all of them to be given has to be
/// left on a machine that does other things.
async fn leadership_that_is_stolen_every_second_under_a_flood_of_500_requests_grants_nothing_twice(
    suite: &Suite,
) -> anyhow::Result<()> {
    stolen(suite, 500, 80, |number| 60 + number % 20).await
}

/// So many requests, and so many thefts at most.
async fn stolen(
    suite: &Suite,
    grants: usize,
    most: usize,
    seconds: impl Fn(usize) -> usize,
) -> anyhow::Result<()> {
    let (lead, ground) = prepare(suite).await?;
    let operators = two(&ground, &lead, None).await?;
    let mut thefts = 0;
    let asked = tokio::select! {
        asked = lives(&ground, grants, seconds) => asked?,
        failed = steal(&lead, most, &mut thefts) => return failed.context("it cannot be stolen"),
    };
    let (latest, strays) = judge(&ground, &asked).await?;
    println!(
        "leadership stolen {thefts} times under {grants} requests: none granted twice, the last access gone {latest:#} \
         after its time, {strays} fuses made in vain"
    );
    ensure!(thefts >= 5, "only {thefts} thefts");
    operators
        .iter()
        .try_for_each(|operator| tells_once(operator, &asked))?;
    end(operators).await
}

/// It wakes up in the middle of what it was doing, and another one has gone on with it.
async fn a_leader_that_was_suspended_and_wakes_up_beside_another_does_no_harm(
    suite: &Suite,
) -> anyhow::Result<()> {
    const GRANTS: usize = 60;
    let (lead, ground) = prepare(suite).await?;
    let operators = two(&ground, &lead, None).await?;
    let [first, second] = &operators;
    let made = |count: usize| {
        let (ground, namespace) = (&ground, ground.namespace(0));
        async move {
            let namespace = namespace?;
            eventually(&format!("{count} things are made"), SOON, async || {
                let made = ground.journal.in_namespace(namespace).len();
                if made >= count {
                    Ok(made)
                } else {
                    Err(format!("{made} are"))
                }
            })
            .await
        }
    };
    let suspend = async {
        let before = made(GRANTS / 3).await?;
        first.suspend();
        lead.is_of("second").await?;
        made(before + 1).await?;
        first.go_on();
        eventually("it knows that it leads no more", SOON, async || {
            says(first, "curfew_leader 0")
                .await
                .map_err(|error| format!("{error:#}"))
        })
        .await?;
        anyhow::Ok(before)
    };
    // Longer than it takes until the second one leads.
    let (asked, before) = tokio::try_join!(lives(&ground, GRANTS, |number| 15 + number % 3), suspend)?;
    says(second, "curfew_leader 1").await?;
    let (latest, strays) = judge(&ground, &asked).await?;
    println!(
        "leader suspended after {before} things were made for {GRANTS} requests: none granted twice, the last access \
         gone {latest:#} after its time, {strays} fuses made in vain"
    );
    end(operators).await
}

/// So many requests at once, of which every tenth asks for too long, until all of them are over.
async fn lives(
    ground: &Ground<'_>,
    count: usize,
    seconds: impl Fn(usize) -> usize,
) -> anyhow::Result<Vec<Asked>> {
    let namespace = ground.namespace(0)?;
    let request = |number: usize| match number % 10 {
        0 => json!({"duration": "2h"}),
        _ => json!({"duration": format!("{}s", seconds(number))}),
    };
    let asked = ground
        .many(count, |number| ground.ask(namespace, request(number)))
        .await?;
    let wanted = |number: usize| {
        if number.is_multiple_of(10) {
            "Denied"
        } else {
            "Expired"
        }
    };
    // What is recorded yields to access for longer than somebody leads here.
    eventually("all of them are over", Duration::from_mins(6), async || {
        let over =
            |(number, asked): &(usize, &Asked)| ground.journal.tale(&asked.uid).state() == wanted(*number);
        match asked.iter().enumerate().filter(over).count() {
            over if over == count => Ok(()),
            over => Err(format!("{over} are")),
        }
    })
    .await?;
    Ok(asked)
}

/// Judges them: nothing was granted twice, ended late or left. Answers the longest lag, and how many fuses were made that
/// nobody recorded.
async fn judge(ground: &Ground<'_>, asked: &[Asked]) -> anyhow::Result<(SignedDuration, usize)> {
    let (mut latest, mut strays) = (SignedDuration::ZERO, 0);
    for (number, asked) in asked.iter().enumerate() {
        let pieces = ground.journal.pieces(&asked.uid);
        let fuses = pieces
            .iter()
            .filter(|piece| piece.kind == ArtifactKind::Job)
            .count();
        if number % 10 == 0 {
            ensure!(pieces.is_empty(), "refused, and {pieces:?}");
        } else {
            strays += fuses.saturating_sub(1);
            latest = latest.max(lag(ground, asked).await?);
        }
    }
    ground.nothing_left_anywhere().await?;
    Ok((latest, strays))
}

/// Whoever lost the lead between telling and recording does not tell it again.
fn tells_once(operator: &Operator, asked: &[Asked]) -> anyhow::Result<()> {
    let mut told: BTreeMap<(String, String), usize> = BTreeMap::new();
    for record in operator.audit_records() {
        let field = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        *told.entry((field("uid"), field("state"))).or_default() += 1;
    }
    ensure!(
        asked
            .iter()
            .any(|asked| told.contains_key(&(asked.uid.clone(), "Active".to_owned()))),
        "it told nothing: {told:?}"
    );
    told.retain(|_, times| *times > 1);
    ensure!(told.is_empty(), "told more than once: {told:?}");
    Ok(())
}

/// Both are there still, and end.
async fn end(operators: [Operator; 2]) -> anyhow::Result<()> {
    for operator in operators {
        ensure!(operator.is_running(), "it has ended:\n{}", operator.log());
        operator.terminate().await?;
    }
    Ok(())
}

/// Takes the lease from whoever has it every second, and gives it to the other one: so often at most, and then no more,
/// because a machine on which nothing gets done within a second would never end.
async fn steal(lead: &Leadership, most: usize, thefts: &mut usize) -> anyhow::Result<()> {
    let mut known = BTreeSet::new();
    while *thefts < most {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let holder = lead.holder().await?;
        let other = known.iter().find(|other| **other != holder).cloned();
        if !holder.is_empty() {
            known.insert(holder);
        }
        lead.give(&other.unwrap_or_default()).await?;
        *thefts += 1;
    }
    std::future::pending().await
}

/// L3: what ends the access of others, of one fewer than there are slots for that (16), gets no answer. By a follower, which has
/// no second lane that would make good for the first, and without fuses, which would.
async fn access_that_cannot_be_ended_yet_delays_the_end_of_no_other(suite: &Suite) -> anyhow::Result<()> {
    const OTHERS: usize = 15;
    const SLOW: Duration = Duration::from_secs(9);
    let ground = Ground::prepare(suite, 2, json!({"fuse": "None"})).await?;
    let lead = Leadership::vacant(suite).await?;
    let (mine, theirs) = (ground.namespace(0)?, ground.namespace(1)?);
    let (muted, slow) = (ground.proxy()?, ground.proxy()?);
    let leader = replica(&ground, "first", Some(&muted)).await?;
    lead.is_of("first").await?;
    let follower = replica(&ground, "second", Some(&slow)).await?;
    let end = Timestamp::now() + SignedDuration::from_secs(12);
    let until_then = |end: Timestamp| json!({"duration": "1h", "notAfter": end.to_string()});
    let others = try_join_all((0..OTHERS).map(|_| ground.ask(theirs, until_then(end)))).await?;
    let last = ground
        .ask(mine, until_then(end + SignedDuration::from_secs(1)))
        .await?;
    are_active(&ground, &others).await?;
    are_active(&ground, std::slice::from_ref(&last)).await?;
    let silent = [mute(mine), mute(theirs)];
    muted.set_hook(move |exchange| {
        let mut faults = silent.iter().map(|mute| mute(exchange));
        let fault = faults.find(|fault| !matches!(fault, Fault::Pass));
        fault.unwrap_or(Fault::Pass)
    });
    let stuck = Arc::new(AtomicUsize::new(0));
    let (counted, bindings) = (Arc::clone(&stuck), format!("/namespaces/{theirs}/rolebindings/"));
    slow.set_hook(move |exchange| {
        if exchange.method == "DELETE" && exchange.path.contains(&bindings) {
            counted.fetch_add(1, Ordering::Relaxed);
            return Fault::Stall(SLOW);
        }
        Fault::Pass
    });
    ensure!(Timestamp::now() < end, "it took too long to give the access");
    let late = lag(&ground, &last).await?;
    let stuck = stuck.load(Ordering::Relaxed);
    ensure!(stuck == OTHERS, "{stuck} deletions of {OTHERS} were stuck");
    println!("{stuck} deletions of others stuck for {SLOW:?} each: gone {late:#} after its time");
    muted.clear_hook();
    slow.clear_hook();
    for asked in &others {
        ground
            .told(asked, "it expires", |tale| tale.state() == "Expired")
            .await?;
    }
    ground.nothing_left_anywhere().await?;
    leader.kill9().await?;
    follower.kill9().await
}
