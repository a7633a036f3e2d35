//! Watches that break, stay broken, or have lost their place; and lists from the past.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use serde_json::{Value, json};

use super::changes::{Changes, WATCHED, collection};
use super::scene::{Asked, Ground};
use super::verdict::PROMISE;
use crate::harness::{Exchange, Fault, Proxy, eventually};
use crate::support::{SOON, Suite};
use crate::tests;

tests![
    what_changes_when_watches_break_is_noticed,
    what_changes_while_no_watch_can_be_opened_is_noticed,
    what_changes_when_watches_have_lost_their_place_is_noticed,
    a_list_from_before_the_grant_was_decided_grants_nothing_twice,
    a_list_from_when_the_grant_was_active_does_not_bring_it_back,
    watches_that_have_fallen_silent_delay_no_end;
    thorough:
    what_changes_while_watches_are_silent_is_noticed,
];

/// How soon a change has to be noticed once watches can be opened again.
const NOTICED: SignedDuration = SignedDuration::from_secs(10);

/// How long watches may be silent, with no event, no error and no end, before the operator opens them anew.
const SILENT: Duration = Duration::from_secs(75);

/// What becomes of watches after they were cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// They can be opened at once.
    Open,
    /// They can be opened after everything has changed.
    OpenLater,
    /// The same, and the first answer of each is that its place is gone (410).
    Gone,
}

async fn what_changes_when_watches_break_is_noticed(suite: &Suite) -> anyhow::Result<()> {
    every_change(suite, Then::Open).await
}

async fn what_changes_while_no_watch_can_be_opened_is_noticed(suite: &Suite) -> anyhow::Result<()> {
    every_change(suite, Then::OpenLater).await
}

async fn what_changes_when_watches_have_lost_their_place_is_noticed(suite: &Suite) -> anyhow::Result<()> {
    every_change(suite, Then::Gone).await
}

/// What the proxy does to watches, and what it has done.
#[derive(Debug, Default)]
struct Gate {
    closed: bool,
    gone: bool,
    refused: BTreeSet<&'static str>,
    answered_gone: BTreeSet<&'static str>,
}

impl Gate {
    fn judge(&mut self, exchange: &Exchange) -> Fault {
        let Some(watched) = collection(exchange).filter(|_| exchange.is_watch()) else {
            return Fault::Pass;
        };
        if self.closed {
            self.refused.insert(watched);
            return Fault::DropBefore;
        }
        if self.gone && self.answered_gone.insert(watched) {
            return Fault::status(410);
        }
        Fault::Pass
    }
}

async fn every_change(suite: &Suite, then: Then) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 2, json!({})).await?;
    let proxy = ground.proxy()?;
    let operator = ground.operator(Some(&proxy)).await?;
    let changes = Changes::prepare(&ground).await?;
    let gate = Arc::new(Mutex::new(Gate {
        closed: then != Then::Open,
        gone: then == Then::Gone,
        ..Gate::default()
    }));
    let judge = Arc::clone(&gate);
    proxy.set_hook(move |exchange| lock(&judge).judge(exchange));
    proxy.reset();
    proxy.cut_watches();
    if then != Then::Open {
        all_of("every watch is refused", async || lock(&gate).refused.clone()).await?;
    }
    let new = ground
        .ask(ground.namespace(0)?, json!({"duration": "10m"}))
        .await?;
    changes.make(&ground).await?;
    lock(&gate).closed = false;
    let open = Timestamp::now();
    changes.are_noticed(&ground, &new).await?;
    let noticed = Timestamp::now().duration_since(open);
    if then == Then::Gone {
        ensure!(
            lock(&gate).answered_gone.len() == WATCHED.len(),
            "not every watch was told: {gate:?}"
        );
    } else {
        // Whoever has not asked again was not cut.
        all_of("every watch is opened again", async || watches(&proxy)).await?;
    }
    for asked in changes.grants() {
        ground.judge(asked, open + NOTICED)?;
    }
    ground.delete(&new).await?;
    ground.nothing_left_anywhere().await?;
    println!(
        "watches, {then:?}: {} changes and a request noticed within {noticed:#}",
        WATCHED.len()
    );
    operator.kill9().await
}

async fn watches_that_have_fallen_silent_delay_no_end(suite: &Suite) -> anyhow::Result<()> {
    const GRANTS: usize = 5;
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let proxy = ground.proxy()?;
    let operator = ground.operator(Some(&proxy)).await?;
    let mut asked = Vec::new();
    for _ in 0..GRANTS {
        asked.push(
            ground
                .ask(ground.namespace(0)?, json!({"duration": "5s"}))
                .await?,
        );
    }
    for asked in &asked {
        ground.is_active(asked).await?;
    }
    proxy.mute_watches();
    for asked in &asked {
        let tale = ground.expired(asked).await?;
        ground.judge(asked, tale.expires_at().context("no end")? + PROMISE)?;
    }
    println!("watches silent: {GRANTS} ends on time");
    ground.nothing_left_anywhere().await?;
    operator.kill9().await
}

async fn what_changes_while_watches_are_silent_is_noticed(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 2, json!({})).await?;
    let proxy = ground.proxy()?;
    let operator = ground.operator(Some(&proxy)).await?;
    let changes = Changes::prepare(&ground).await?;
    proxy.mute_watches();
    let muted = Timestamp::now();
    let new = ground
        .ask(ground.namespace(0)?, json!({"duration": "10m"}))
        .await?;
    changes.make(&ground).await?;
    eventually("the request is granted all the same", SILENT, async || {
        let tale = ground.journal.tale(&new.uid);
        if tale.was_active() {
            Ok(())
        } else {
            Err(tale.state().to_owned())
        }
    })
    .await?;
    changes.are_noticed(&ground, &new).await?;
    println!(
        "watches silent: {} changes and a request noticed within {:#}",
        WATCHED.len(),
        Timestamp::now().duration_since(muted)
    );
    ground.delete(&new).await?;
    ground.nothing_left_anywhere().await?;
    operator.kill9().await
}

fn watches(proxy: &Proxy) -> BTreeSet<&'static str> {
    proxy
        .requests()
        .iter()
        .filter(|exchange| exchange.is_watch())
        .filter_map(collection)
        .collect()
}

async fn all_of<F: Future<Output = BTreeSet<&'static str>>>(
    what: &str,
    look: impl Fn() -> F,
) -> anyhow::Result<()> {
    eventually(what, 2 * SOON, async || {
        let seen = look().await;
        if seen.len() == WATCHED.len() {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await
}

/// How long an operator lives by old lists before its watches open.
const IN_THE_PAST: Duration = Duration::from_millis(800);

/// The lists of grants and of what is made for them.
type Lists = Vec<(&'static str, Value)>;

async fn lists(client: &Client) -> anyhow::Result<Lists> {
    let mut lists = Vec::new();
    for (collection, path) in [
        ("accessgrants", "/apis/access.curfew.dev/v1alpha1/accessgrants"),
        (
            "jobs",
            "/apis/batch/v1/jobs?labelSelector=access.curfew.dev/grant-uid",
        ),
        ("roles", "/apis/rbac.authorization.k8s.io/v1/roles"),
        (
            "rolebindings",
            "/apis/rbac.authorization.k8s.io/v1/rolebindings?labelSelector=access.curfew.dev/grant-uid",
        ),
    ] {
        let request = hyper::Request::get(path).body(Vec::new())?;
        lists.push((collection, client.request(request).await?));
    }
    Ok(lists)
}

/// Starts an operator whose first lists are these, and waits until it has lived by them for a while and then been told
/// of the present.
async fn live_in_the_past(ground: &Ground<'_>, lists: Lists) -> anyhow::Result<()> {
    let proxy = ground.proxy()?;
    let old: Vec<&'static str> = lists.iter().map(|(collection, _)| *collection).collect();
    let waiting = Mutex::new(lists);
    let began = std::time::Instant::now();
    proxy.set_hook(move |exchange| {
        let Some(asked) = collection(exchange).filter(|asked| old.contains(asked)) else {
            return Fault::Pass;
        };
        if exchange.is_watch() {
            return if began.elapsed() < IN_THE_PAST {
                Fault::DropBefore
            } else {
                Fault::Pass
            };
        }
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = waiting.iter().position(|(collection, _)| *collection == asked) else {
            return Fault::Pass;
        };
        let (_, body) = waiting.swap_remove(found);
        Fault::Respond {
            status: 200,
            retry_after: None,
            body,
        }
    });
    let operator = ground.operator(Some(&proxy)).await?;
    // A request of the present says that it lives there.
    let now = ground
        .ask(ground.namespace(0)?, json!({"duration": "1s"}))
        .await?;
    ground
        .told(&now, "it expires", |tale| {
            tale.state() == "Expired" && tale.was_active()
        })
        .await?;
    ground.nothing_left(&now).await?;
    operator.kill9().await
}

async fn a_list_from_before_the_grant_was_decided_grants_nothing_twice(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let namespace = ground.namespace(0)?;
    let asked = ground.ask(namespace, json!({"duration": "10m"})).await?;
    // Given again it would end at the same moment, so the API server would not know the second record by its end.
    let end_of_both = Timestamp::now() + SignedDuration::from_mins(10);
    let bounded = json!({"duration": "1h", "notAfter": end_of_both.to_string()});
    let bounded = ground.ask(namespace, bounded).await?;
    let past = lists(&suite.admin).await?;
    let operator = ground.operator(None).await?;
    for asked in [&asked, &bounded] {
        ground.is_active(asked).await?;
    }
    operator.kill9().await?;
    live_in_the_past(&ground, past).await?;
    for asked in [&asked, &bounded] {
        let tale = ground.journal.tale(&asked.uid);
        ensure!(tale.state() == "Active", "it did not stay as it was: {tale:#?}");
    }
    let operator = ground.operator(None).await?;
    for asked in [&asked, &bounded] {
        end(&ground, asked).await?;
    }
    ground.nothing_left_anywhere().await?;
    operator.kill9().await
}

async fn a_list_from_when_the_grant_was_active_does_not_bring_it_back(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let asked = ground
        .ask(ground.namespace(0)?, json!({"duration": "10m"}))
        .await?;
    let operator = ground.operator(None).await?;
    ground.is_active(&asked).await?;
    let past = lists(&suite.admin).await?;
    ground.delete_binding(&asked).await?;
    ground
        .told(&asked, "it is revoked", |tale| tale.state() == "Revoked")
        .await?;
    ground.nothing_left(&asked).await?;
    let (over, made) = (Timestamp::now(), ground.journal.pieces(&asked.uid).len());
    operator.kill9().await?;
    live_in_the_past(&ground, past).await?;
    let again = ground.journal.pieces(&asked.uid).len();
    ensure!(
        again == made,
        "{} things were made for a grant that was over",
        again - made
    );
    ground.judge(&asked, over)
}

/// Ends a live grant and judges it.
async fn end(ground: &Ground<'_>, asked: &Asked) -> anyhow::Result<()> {
    let deleted = ground.delete(asked).await.context("cannot delete it")?;
    ground.nothing_left(asked).await?;
    ground.judge(asked, deleted + PROMISE)
}

fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}
