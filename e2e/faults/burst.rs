//! Bursts of 200 requests at once, and an operator that is killed (-9) again and again in the middle of them.

use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use curfew::api::ArtifactKind;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::scene::{Asked, Ground};
use super::verdict::PROMISE;
use crate::harness::{Operator, OperatorOptions, eventually};
use crate::support::{SOON, Suite};
use crate::tests;

tests![;
    busy:
    a_burst_loses_no_request_and_grants_none_twice_though_the_operator_is_killed_five_times;
    thorough:
    bursts_lose_no_request_and_grant_none_twice_though_the_operator_is_killed_at_twenty_moments,
];

const GRANTS: usize = 200;
const KILLS: usize = 5;
/// Two things for each request that is granted.
const PIECES: usize = 2 * GRANTS * 9 / 10;

/// Numbers that a seed gives again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        // Knuth's MMIX generator.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % limit
    }
}

/// An operator that is not waited for: it makes things before it says that it is ready.
async fn starting(ground: &Ground<'_>) -> anyhow::Result<Operator> {
    let options = OperatorOptions {
        unready: true,
        ..OperatorOptions::default()
    };
    Operator::start(&ground.suite.plane, &ground.suite.binary, options).await
}

/// How many things stand made when the operators are killed: one moment in each slice of the burst, so that a kill falls
/// into it however fast the machine is. The last slice is left out: what is made until the signal arrives counts too.
fn moments(seed: u64) -> Vec<usize> {
    let slice = PIECES / (KILLS + 1);
    let mut random = Random(seed);
    (0..KILLS)
        .map(|number| 1 + number * slice + random.below(slice))
        .collect()
}

fn made_in(ground: &Ground<'_>, namespace: &str) -> usize {
    ground.journal.in_namespace(namespace).len()
}

/// Every tenth asks for too long.
fn request(number: usize) -> (Value, bool) {
    match number % 10 {
        0 => (json!({"duration": "2h"}), true),
        _ => (json!({"duration": "25s"}), false),
    }
}

async fn a_burst_loses_no_request_and_grants_none_twice_though_the_operator_is_killed_five_times(
    suite: &Suite,
) -> anyhow::Result<()> {
    bursts(suite, 1).await
}

async fn bursts_lose_no_request_and_grant_none_twice_though_the_operator_is_killed_at_twenty_moments(
    suite: &Suite,
) -> anyhow::Result<()> {
    bursts(suite, 4).await
}

/// So many bursts, one after the other; one seed gives the moments of all of them again.
async fn bursts(suite: &Suite, count: u64) -> anyhow::Result<()> {
    let seed = match std::env::var("CURFEW_SEED") {
        Ok(seed) => seed.parse().context("CURFEW_SEED is no number")?,
        Err(_) => u64::from(SystemTime::UNIX_EPOCH.elapsed()?.subsec_nanos()),
    };
    println!("the bursts' seed: CURFEW_SEED={seed}");
    for number in 0..count {
        let outcome = burst(suite, seed.wrapping_add(number)).await;
        outcome.with_context(|| format!("burst {number} with CURFEW_SEED={seed}"))?;
    }
    Ok(())
}

async fn burst(suite: &Suite, seed: u64) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let namespace = ground.namespace(0)?;
    let requests = ground.many(GRANTS, |number| ground.ask(namespace, request(number).0));
    let operators = async {
        let (mut moments, mut made) = (moments(seed).into_iter(), Vec::new());
        for _ in 0..KILLS {
            let operator = starting(&ground).await?;
            let moment = moments.next().context("no moment is left")?;
            eventually(&format!("{moment} things are made"), SOON, async || {
                let made = made_in(&ground, namespace);
                if made >= moment {
                    Ok(())
                } else {
                    Err(format!("{made} are"))
                }
            })
            .await?;
            operator.kill9().await?;
            made.push(made_in(&ground, namespace));
        }
        let operator = ground.operator(None).await?;
        anyhow::Ok((operator, Timestamp::now(), made))
    };
    let (asked, (operator, since, made)) = tokio::try_join!(requests, operators)?;
    all_are_decided_and_end(&ground, &asked, since).await?;
    ensure!(
        operator.is_running(),
        "the last operator has ended:\n{}",
        operator.log()
    );
    println!(
        "burst: {GRANTS} requests, {KILLS} kills after {made:?} things were made; none lost, none twice"
    );
    let amid = made.iter().filter(|made| (1..PIECES).contains(*made)).count();
    ensure!(amid > 0, "no kill fell into the burst: {made:?} things were made");
    operator.kill9().await
}

async fn all_are_decided_and_end(
    ground: &Ground<'_>,
    asked: &[Asked],
    since: Timestamp,
) -> anyhow::Result<()> {
    for (number, asked) in asked.iter().enumerate() {
        let too_long = request(number).1;
        let wanted = if too_long { "Denied" } else { "Expired" };
        let tale = ground
            .told(asked, "it is over", |tale| tale.state() == wanted)
            .await?;
        // That it was may not have been recorded when its operator was killed, and then its time was over.
        let given = ground.piece(asked, ArtifactKind::RoleBinding).is_ok();
        ensure!(
            given != too_long,
            "{} was not decided well: {tale:#?}",
            asked.name
        );
        let due = tale.expires_at().unwrap_or(since);
        ground.nothing_left(asked).await?;
        let gone_by = due.max(since) + PROMISE;
        ground.judge(asked, gone_by)?;
    }
    ground.nothing_left_anywhere().await
}
