//! The answer to each of the operator's requests about a grant is lost, late or a refusal, one after the other; the
//! operator lives on.
//!
//! Faults are told apart by namespace, so all requests of all stories are tried side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;

use super::replicas::{Leadership, two};
use super::scene::{Ground, what};
use super::story::Story;
use crate::harness::{Exchange, Fault, Operator, Proxy};
use crate::support::{Place, Suite};
use crate::tests;

tests![;
    busy:
    an_answer_that_is_lost_after_the_server_did_it_changes_nothing,
    a_request_that_never_arrives_is_made_again,
    a_request_that_arrives_after_all_when_nobody_waits_for_it_does_no_harm,
    a_conflict_is_read_again,
    a_request_for_patience_is_heeded,
    an_error_of_the_server_is_overcome,
    a_server_that_is_not_available_is_overcome;
    thorough:
    whatever_becomes_of_an_answer_every_life_goes_on,
    with_two_replicas_an_answer_that_is_lost_after_the_server_did_it_changes_nothing,
    with_two_replicas_a_request_that_never_arrives_is_made_again,
];

/// No life has more requests.
const REQUESTS: usize = 40;

/// How many lives go on side by side: more, and the test would measure the machine.
const AT_ONCE: usize = 20;

/// Longer than a life: what arrives then finds everything over.
const LATE: Duration = Duration::from_millis(5_500);

/// One life with access by rules, and one about which people decide: between them they have every kind of request.
const TELLING: &[Story] = &[Story::RulesExpire, Story::Decided];

async fn an_answer_that_is_lost_after_the_server_did_it_changes_nothing(suite: &Suite) -> anyhow::Result<()> {
    alone(suite, "lost after", Fault::DropAfter, &Story::IN_ONE_NAMESPACE).await
}

async fn a_request_that_never_arrives_is_made_again(suite: &Suite) -> anyhow::Result<()> {
    alone(suite, "lost before", Fault::DropBefore, TELLING).await
}

async fn a_request_that_arrives_after_all_when_nobody_waits_for_it_does_no_harm(
    suite: &Suite,
) -> anyhow::Result<()> {
    alone(suite, "arrives late", Fault::ArriveLate(LATE), TELLING).await
}

async fn a_conflict_is_read_again(suite: &Suite) -> anyhow::Result<()> {
    alone(suite, "409", Fault::status(409), TELLING).await
}

async fn a_request_for_patience_is_heeded(suite: &Suite) -> anyhow::Result<()> {
    alone(suite, "429", Fault::too_many_requests(1), TELLING).await
}

async fn an_error_of_the_server_is_overcome(suite: &Suite) -> anyhow::Result<()> {
    alone(suite, "500", Fault::status(500), TELLING).await
}

async fn a_server_that_is_not_available_is_overcome(suite: &Suite) -> anyhow::Result<()> {
    alone(suite, "503", Fault::status(503), TELLING).await
}

async fn whatever_becomes_of_an_answer_every_life_goes_on(suite: &Suite) -> anyhow::Result<()> {
    for (name, fault) in [
        ("lost before", Fault::DropBefore),
        ("arrives late", Fault::ArriveLate(LATE)),
        ("409", Fault::status(409)),
        ("429", Fault::too_many_requests(1)),
        ("500", Fault::status(500)),
        ("503", Fault::status(503)),
    ] {
        alone(suite, name, fault, &Story::IN_ONE_NAMESPACE).await?;
    }
    Ok(())
}

async fn with_two_replicas_an_answer_that_is_lost_after_the_server_did_it_changes_nothing(
    suite: &Suite,
) -> anyhow::Result<()> {
    side_by_side(suite, "two replicas, lost after", Fault::DropAfter).await
}

async fn with_two_replicas_a_request_that_never_arrives_is_made_again(suite: &Suite) -> anyhow::Result<()> {
    side_by_side(suite, "two replicas, lost before", Fault::DropBefore).await
}

/// One replica.
async fn alone(suite: &Suite, name: &str, fault: Fault, stories: &[Story]) -> anyhow::Result<()> {
    let cases = cases(stories);
    let ground = Ground::with_deciders(suite, cases.len()).await?;
    let proxy = ground.proxy()?;
    let operators = [ground.operator(Some(&proxy)).await?];
    every_request(&ground, &proxy, operators, &cases, name, fault).await
}

/// A leader and a follower: what either asks for counts.
async fn side_by_side(suite: &Suite, name: &str, fault: Fault) -> anyhow::Result<()> {
    let cases = cases(&Story::IN_ONE_NAMESPACE);
    let ground = Ground::with_deciders(suite, cases.len()).await?;
    let proxy = ground.proxy()?;
    let lead = Leadership::vacant(suite).await?;
    let operators = two(&ground, &lead, Some(&proxy)).await?;
    every_request(&ground, &proxy, operators, &cases, name, fault).await
}

fn cases(stories: &[Story]) -> Vec<(Story, usize)> {
    let nth = |nth| stories.iter().map(move |story| (*story, nth));
    (1..=REQUESTS).flat_map(nth).collect()
}

/// What happened to one namespace.
#[derive(Debug, Default)]
struct Hit {
    requests: usize,
    at: Option<String>,
    finished: bool,
}

type Hits = Arc<Mutex<BTreeMap<String, (usize, Hit)>>>;

async fn every_request<const REPLICAS: usize>(
    ground: &Ground<'_>,
    proxy: &Proxy,
    operators: [Operator; REPLICAS],
    cases: &[(Story, usize)],
    name: &str,
    fault: Fault,
) -> anyhow::Result<()> {
    let alive_since = Timestamp::now();
    let hits = inject(ground, proxy, cases, fault.clone());

    let late_writes = matches!(fault, Fault::ArriveLate(_));
    let life = Life {
        ground,
        hits: &hits,
        operators: &operators,
        alive_since,
        late_writes,
    };
    let lives: Vec<_> = cases
        .iter()
        .zip(&ground.places)
        .map(|((story, nth), place)| life.unless_none_left(cases, *story, *nth, place).boxed())
        .collect();
    let outcomes: Vec<_> = stream::iter(lives).buffer_unordered(AT_ONCE).collect().await;
    let failures: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    let failed = failures
        .iter()
        .map(|error| format!("{error:#}"))
        .collect::<Vec<_>>()
        .join("\n\n");
    ensure!(
        failures.is_empty(),
        "{name}: {} failed:\n{failed}",
        failures.len()
    );
    for operator in operators {
        operator.kill9().await?;
    }
    approval_count(name, cases, ground, &hits)
}

/// What lives have in common.
struct Life<'a> {
    ground: &'a Ground<'a>,
    hits: &'a Hits,
    operators: &'a [Operator],
    alive_since: Timestamp,
    late_writes: bool,
}

impl Life<'_> {
    async fn unless_none_left(
        &self,
        cases: &[(Story, usize)],
        story: Story,
        nth: usize,
        place: &Place<'_>,
    ) -> anyhow::Result<()> {
        if none_left(self.hits, cases, self.ground, story) {
            return Ok(());
        }
        let outcome = self.live(story, place).await;
        finished(self.hits, &place.name);
        outcome.with_context(|| {
            let logs = self
                .operators
                .iter()
                .map(|operator| about(&operator.log(), &place.name));
            let log = logs.collect::<Vec<_>>().join("\n-- and another one:\n");
            format!(
                "at {:?} ({story:?}, {nth}); the operator logged:\n{log}\n",
                hit(self.hits, &place.name)
            )
        })
    }

    async fn live(&self, story: Story, place: &Place<'_>) -> anyhow::Result<()> {
        let asked = story.begin(self.ground, &place.name).await?;
        let told = story.tell(self.ground, asked).await?;
        if self.late_writes {
            // What was sent may still arrive.
            tokio::time::sleep(LATE).await;
        }
        place.nothing_left().await?;
        told.check(self.ground, self.alive_since, self.late_writes)?;
        // A lost Event stops nothing, and is in the log.
        if hit(self.hits, &place.name).is_none_or(|at| at != "POST events") {
            told.check_events(self.ground, story).await?;
        }
        Ok(())
    }
}

/// Sets the fault for the n-th request of each namespace.
fn inject(ground: &Ground<'_>, proxy: &Proxy, cases: &[(Story, usize)], fault: Fault) -> Hits {
    let nth = cases.iter().map(|(_, nth)| (*nth, Hit::default()));
    let names = ground.places.iter().map(|place| place.name.clone());
    let hits: Hits = Arc::new(Mutex::new(names.zip(nth).collect()));
    let shared = Arc::clone(&hits);
    proxy.set_hook(move |exchange| {
        // Forgeries have a test of their own.
        if exchange.is_dry_run() {
            return Fault::Pass;
        }
        let mut hits = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((nth, hit)) = namespace(exchange).and_then(|namespace| hits.get_mut(namespace)) else {
            return Fault::Pass;
        };
        hit.requests += 1;
        if hit.requests != *nth {
            return Fault::Pass;
        }
        hit.at = Some(what(exchange));
        fault.clone()
    });
    hits
}

/// Whether a life of that story is over that had no such request: then every request of such a life has been tried.
fn none_left(hits: &Hits, cases: &[(Story, usize)], ground: &Ground<'_>, story: Story) -> bool {
    let hits = hits.lock().unwrap_or_else(PoisonError::into_inner);
    let unhit = |name: &str| {
        hits.get(name)
            .is_some_and(|(_, hit)| hit.finished && hit.at.is_none())
    };
    cases
        .iter()
        .zip(&ground.places)
        .any(|((other, _), place)| *other == story && unhit(&place.name))
}

fn finished(hits: &Hits, namespace: &str) {
    if let Some((_, hit)) = hits
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_mut(namespace)
    {
        hit.finished = true;
    }
}

/// The log's lines about a namespace.
fn about(log: &str, namespace: &str) -> String {
    let named = format!("\"namespace\":\"{namespace}\"");
    log.lines()
        .filter(|line| line.contains(&named))
        .collect::<Vec<_>>()
        .join("\n")
}

fn namespace(exchange: &Exchange) -> Option<&str> {
    exchange.path.split("/namespaces/").nth(1)?.split('/').next()
}

fn hit(hits: &Hits, namespace: &str) -> Option<String> {
    hits.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(namespace)?
        .1
        .at
        .clone()
}

/// Says how many cases there were; every request of a life must have been one of them.
fn approval_count(
    name: &str,
    cases: &[(Story, usize)],
    ground: &Ground<'_>,
    hits: &Hits,
) -> anyhow::Result<()> {
    let stories: BTreeSet<Story> = cases.iter().map(|(story, _)| *story).collect();
    for &story in &stories {
        ensure!(
            none_left(hits, cases, ground, story),
            "{story:?} has {REQUESTS} requests or more"
        );
    }
    let hits = hits.lock().unwrap_or_else(PoisonError::into_inner);
    let mut at = BTreeMap::<_, usize>::new();
    for what in hits.values().filter_map(|(_, hit)| hit.at.as_deref()) {
        *at.entry(what).or_default() += 1;
    }
    let hit: usize = at.values().sum();
    ensure!(
        hit >= stories.into_iter().map(Story::fewest_writes).sum(),
        "only {hit} requests were hit: {at:?}"
    );
    println!("{name}: {hit} cases, at {at:?}");
    Ok(())
}
