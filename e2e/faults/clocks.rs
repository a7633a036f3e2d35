//! Clocks that are wrong: a proxy has the API server's answers say another time than it is, which is the same
//! disagreement as a wrong clock of the operator's, and needs no other clock.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, ArtifactKind, conditions};
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use serde_json::json;

use super::scene::{Asked, Ground};
use super::verdict::PROMISE;
use crate::harness::{Exchange, Fault, Operator, OperatorOptions, Proxy, eventually};
use crate::support::{SOON, Suite, condition};
use crate::tests;

tests![
    a_replica_whose_clock_is_fast_ends_nothing_before_its_time_at_the_api_server,
    a_replica_whose_clock_is_slow_ends_access_when_its_time_has_come_at_the_api_server,
    where_the_leaders_clock_is_fast_a_follower_ends_access_on_time,
    a_leader_whose_clock_is_wrong_lets_another_one_lead_and_give,
    an_api_server_whose_clock_is_set_back_prolongs_nothing,
    by_clocks_that_differ_too_much_nothing_is_given_and_access_is_revoked,
    an_operator_that_was_suspended_ends_what_is_due_when_it_wakes_up;
    thorough:
    by_clocks_that_differ_a_little_access_lasts_as_long_as_was_asked,
];

/// How soon a lone operator hears what time it is: it renews its lease every 2 s.
const HEARD: SignedDuration = SignedDuration::from_secs(2);

/// What a `Date` leaves open, and the way of an answer.
const OPEN: SignedDuration = SignedDuration::from_millis(1_200);

/// From now on the API server says that it is so many seconds later than it is.
fn shift(proxy: &Proxy, seconds: i64) {
    let shift = SignedDuration::from_secs(seconds);
    proxy.set_hook(move |_: &Exchange| Fault::Dated(Timestamp::now() + shift));
}

/// Waits until the operator has noticed that its clock is so many seconds ahead.
async fn notices(operator: &Operator, ahead: i64) -> anyhow::Result<()> {
    eventually(&format!("it is {ahead} s ahead"), SOON, async || {
        let metrics = operator.metrics().await.map_err(|error| format!("{error:#}"))?;
        let skew = metrics
            .lines()
            .find_map(|line| line.strip_prefix("curfew_clock_skew_seconds "))
            .ok_or_else(|| "no such metric".to_owned())?;
        // Of what it is at least, a second may be missing.
        let noticed: f64 = skew.parse().map_err(|_| format!("no number: {skew}"))?;
        let wanted = SignedDuration::from_secs(ahead).as_secs_f64();
        if (noticed - wanted).abs() <= 1.1 {
            Ok(())
        } else {
            Err(skew.to_owned())
        }
    })
    .await
}

async fn until(at: Timestamp) {
    let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
    tokio::time::sleep(left).await;
}

/// When the binding of a grant was gone; `None`: it stands.
fn gone_at(ground: &Ground<'_>, asked: &Asked) -> Option<Timestamp> {
    let mut pieces = ground.journal.pieces(&asked.uid).into_iter();
    pieces
        .find(|piece| piece.kind == ArtifactKind::RoleBinding)?
        .gone_at
}

/// Waits until the access of a grant has expired, and says when it was gone.
async fn expires(ground: &Ground<'_>, asked: &Asked) -> anyhow::Result<Timestamp> {
    ground
        .told(asked, "it expires", |tale| tale.state() == "Expired")
        .await?;
    ground.nothing_left(asked).await?;
    gone_at(ground, asked).context("no binding was ever there")
}

async fn asked_for(ground: &Ground<'_>, duration: &str) -> anyhow::Result<(Asked, Timestamp)> {
    let asked = ground
        .ask(ground.namespace(0)?, json!({"duration": duration}))
        .await?;
    let end = ground.is_active(&asked).await?.expires_at().context("no end")?;
    Ok((asked, end))
}

/// Access that was given by an operator which is dead.
async fn given(ground: &Ground<'_>, duration: &str) -> anyhow::Result<(Asked, Timestamp)> {
    let operator = ground.operator(None).await?;
    let given = asked_for(ground, duration).await?;
    operator.kill9().await?;
    Ok(given)
}

/// An operator that has never seen another clock of the API server's than the proxy's; returns when it has noticed that
/// its own is so many seconds ahead, and everything else is as it should be.
async fn wrong(ground: &Ground<'_>, proxy: &Proxy, ahead: i64) -> anyhow::Result<Operator> {
    let options = OperatorOptions {
        via: Some(proxy.url()),
        unready: true,
        ..OperatorOptions::default()
    };
    let operator = Operator::start(&ground.suite.plane, &ground.suite.binary, options).await?;
    notices(&operator, ahead).await?;
    eventually(
        "only its clock keeps it from being ready",
        SOON,
        async || match operator.ready().await {
            Ok((503, text)) if text.lines().count() == 1 && text.starts_with("clock: ") => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await?;
    Ok(operator)
}

async fn leads(operator: &Operator) -> anyhow::Result<()> {
    eventually("it leads", 2 * SOON, async || {
        let metrics = operator.metrics().await.map_err(|error| format!("{error:#}"))?;
        if metrics.lines().any(|line| line == "curfew_leader 1") {
            Ok(())
        } else {
            Err("it does not".to_owned())
        }
    })
    .await
}

/// Does something while no fuse burns, so that it is the operator who ends access or nobody.
async fn without_fuses(suite: &Suite, deed: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    suite.plane.stop_controller_manager().await?;
    let done = deed.await;
    suite.plane.start_controller_manager().await?;
    done
}

/// How often the operators behind a proxy asked what time it is.
fn questions(proxy: &Proxy) -> usize {
    let requests = proxy.requests();
    requests
        .iter()
        .filter(|exchange| exchange.path == "/version")
        .count()
}

async fn is_ready(operator: &Operator) -> anyhow::Result<()> {
    eventually("it is ready again", SOON, async || match operator.ready().await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
}

async fn a_replica_whose_clock_is_fast_ends_nothing_before_its_time_at_the_api_server(
    suite: &Suite,
) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let (asked, end) = given(&ground, "20s").await?;
    let proxy = ground.proxy()?;
    shift(&proxy, -40);
    without_fuses(suite, async {
        let operator = wrong(&ground, &proxy, 40).await?;
        ensure!(Timestamp::now() < end, "it took too long to notice");
        // By its own clock the access is over.
        until(end + SignedDuration::from_secs(5)).await;
        ensure!(
            gone_at(&ground, &asked).is_none(),
            "it ended by a clock that is fast"
        );
        proxy.clear_hook();
        let set = Timestamp::now();
        let late = expires(&ground, &asked).await?.duration_since(set);
        ensure!(
            late <= HEARD + PROMISE,
            "gone {late:#} after the clocks agreed again"
        );
        println!(
            "fast by 40 s: nothing ended 5 s after the end by its clock; gone {late:#} after it was set"
        );
        operator.kill9().await
    })
    .await
}

async fn a_replica_whose_clock_is_slow_ends_access_when_its_time_has_come_at_the_api_server(
    suite: &Suite,
) -> anyhow::Result<()> {
    const SLOW: i64 = 40;
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let proxy = ground.proxy()?;
    let operator = ground.operator(Some(&proxy)).await?;
    let (asked, end) = asked_for(&ground, "52s").await?;
    shift(&proxy, SLOW);
    notices(&operator, -SLOW).await?;
    let due = end - SignedDuration::from_secs(SLOW);
    ensure!(Timestamp::now() < due, "it took too long to notice");
    let late = expires(&ground, &asked).await?.duration_since(due);
    ensure!(
        late >= -OPEN && late <= OPEN + PROMISE,
        "gone {late:#} after its time"
    );
    println!("slow by {SLOW} s: gone {late:#} after its time at the API server");
    operator.kill9().await
}

async fn where_the_leaders_clock_is_fast_a_follower_ends_access_on_time(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let (asked, end) = given(&ground, "25s").await?;
    let proxy = ground.proxy()?;
    shift(&proxy, -40);
    let leader = wrong(&ground, &proxy, 40).await?;
    leads(&leader).await?;
    let options = OperatorOptions {
        extra_args: vec!["--instance".to_owned(), "right".to_owned()],
        ..OperatorOptions::default()
    };
    let follower = Operator::start(&suite.plane, &suite.binary, options).await?;
    ensure!(Timestamp::now() < end, "it took too long to notice");
    let late = expires(&ground, &asked).await?.duration_since(end);
    ensure!(
        late >= SignedDuration::ZERO && late <= PROMISE,
        "gone {late:#} after its time"
    );
    println!("leader fast by 40 s: a follower ended access {late:#} after its time");
    leader.kill9().await?;
    follower.kill9().await
}

async fn a_leader_whose_clock_is_wrong_lets_another_one_lead_and_give(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let proxy = ground.proxy()?;
    let first = ground.operator(Some(&proxy)).await?;
    leads(&first).await?;
    let options = OperatorOptions {
        extra_args: vec!["--instance".to_owned(), "right".to_owned()],
        ..OperatorOptions::default()
    };
    let other = Operator::start(&suite.plane, &suite.binary, options).await?;
    shift(&proxy, -40);
    notices(&first, 40).await?;
    let since = Timestamp::now();
    let asked = ground
        .ask(ground.namespace(0)?, json!({"duration": "2s"}))
        .await?;
    leads(&other).await?;
    let after = Timestamp::now().duration_since(since);
    expires(&ground, &asked).await?;
    println!("leader fast by 40 s: another one led {after:#} after, and gave what was held");
    first.kill9().await?;
    other.kill9().await
}

async fn an_api_server_whose_clock_is_set_back_prolongs_nothing(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let proxy = ground.proxy()?;
    let operator = ground.operator(Some(&proxy)).await?;
    without_fuses(suite, async {
        let (asked, end) = asked_for(&ground, "12s").await?;
        shift(&proxy, -40);
        notices(&operator, 40).await?;
        ensure!(Timestamp::now() < end, "it took too long to notice");
        let late = expires(&ground, &asked).await?.duration_since(end);
        ensure!(
            late >= -OPEN && late <= OPEN + PROMISE,
            "gone {late:#} after its time"
        );
        println!("API server set back by 40 s: gone {late:#} after its time");
        Ok(())
    })
    .await?;
    operator.kill9().await
}

async fn by_clocks_that_differ_too_much_nothing_is_given_and_access_is_revoked(
    suite: &Suite,
) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let proxy = ground.proxy()?;
    let operator = ground.operator(Some(&proxy)).await?;
    for (shifted, side) in [
        (40, "s behind the API server's"),
        (-40, "s ahead of the API server's"),
    ] {
        let (before, _) = asked_for(&ground, "10m").await?;
        shift(&proxy, shifted);
        notices(&operator, -shifted).await?;
        let asked = ground
            .ask(ground.namespace(0)?, json!({"duration": "10m"}))
            .await?;
        let grants = Api::<AccessGrant>::namespaced(suite.admin.clone(), &asked.namespace);
        let said = eventually("it is held, and says why", SOON, async || {
            let grant = grants.get(&asked.name).await.map_err(|error| error.to_string())?;
            match condition(&grant, conditions::ACCEPTED) {
                Some(accepted) if accepted.reason == "ClockSkewed" => Ok(accepted.message.clone()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        ensure!(
            said.contains(side) && said.contains("correct the wrong clock"),
            "{said}"
        );
        let (status, text) = operator.ready().await?;
        ensure!(status == 503 && text.contains("clock: "), "{status}: {text}");
        // What is in force is ended early all the same.
        ground.delete(&before).await?;
        ground.nothing_left(&before).await?;
        let tale = ground.journal.tale(&asked.uid);
        ensure!(tale.state() == "Pending", "{tale:#?}");
        ensure!(
            ground.journal.pieces(&asked.uid).is_empty(),
            "something was made for it"
        );
        proxy.clear_hook();
        let set = Timestamp::now();
        let end = ground.is_active(&asked).await?.expires_at().context("no end")?;
        let lasts = end.duration_since(set);
        let ten_minutes = SignedDuration::from_mins(10);
        ensure!(
            lasts >= ten_minutes && lasts <= ten_minutes + HEARD + PROMISE,
            "it lasts {lasts:#}"
        );
        is_ready(&operator).await?;
        ground.delete(&asked).await?;
        ground.nothing_left(&asked).await?;
    }
    let log = operator.log();
    ensure!(log.contains("no access is granted; access still ends"), "{log}");
    operator.kill9().await
}

async fn by_clocks_that_differ_a_little_access_lasts_as_long_as_was_asked(
    suite: &Suite,
) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let proxy = ground.proxy()?;
    for shifted in [10, -10] {
        proxy.reset();
        shift(&proxy, shifted);
        let operator = ground.operator(Some(&proxy)).await?;
        notices(&operator, -shifted).await?;
        without_fuses(suite, async {
            let before = Timestamp::now();
            let (asked, end) = asked_for(&ground, "10s").await?;
            let gone = expires(&ground, &asked).await?;
            let lasted = gone.duration_since(before);
            let asked_for = SignedDuration::from_secs(10);
            ensure!(
                lasted >= asked_for - OPEN && lasted <= asked_for + OPEN + PROMISE,
                "it lasted {lasted:#}"
            );
            // Its end is dated by the API server's clock.
            let due = end - SignedDuration::from_secs(shifted);
            let off = due.duration_since(before + asked_for).abs();
            ensure!(off <= OPEN + PROMISE, "its end is {off:#} off");
            println!("clocks that differ by {shifted} s: access of 10 s lasted {lasted:#}");
            Ok(())
        })
        .await?;
        ensure!(
            operator.ready().await?.0 == 200,
            "not ready for a little difference"
        );
        let log = operator.log();
        ensure!(log.contains("the API server's, which counts"), "{log}");
        let questions = questions(&proxy);
        ensure!(questions == 1, "it asked {questions} times what time it is");
        operator.kill9().await?;
        proxy.clear_hook();
    }
    Ok(())
}

async fn an_operator_that_was_suspended_ends_what_is_due_when_it_wakes_up(
    suite: &Suite,
) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let operator = ground.operator(None).await?;
    without_fuses(suite, async {
        let (asked, end) = asked_for(&ground, "5s").await?;
        operator.suspend();
        until(end + SignedDuration::from_secs(10)).await;
        let stands = gone_at(&ground, &asked).is_none();
        operator.go_on();
        let woken = Timestamp::now();
        ensure!(stands, "somebody else ended it");
        let late = expires(&ground, &asked).await?.duration_since(woken);
        ensure!(late <= PROMISE, "gone {late:#} after it woke up");
        println!("suspended across the end: gone {late:#} after it woke up");
        Ok(())
    })
    .await?;
    operator.kill9().await
}
