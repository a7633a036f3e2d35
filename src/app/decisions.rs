//! Decisions that no pass over a grant looks at: about a grant that is not there, and those that have outlived theirs.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Api;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::lease::Term;
use super::pass::Passes;
use super::triggers::Triggers;
use crate::api::{AccessGrant, reasons};
use crate::cluster::{DecisionKey, Error, GrantKey, call, decisions, publish};
use crate::core::{Announcement, Class, Judged, Lane, Verdict, delay};

/// How long after a decision was seen its grant is looked for: the watch of grants may only lag behind (p99 25 ms), and
/// tools apply a grant and what belongs to it in one go.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the decisions about a grant stay after it is gone: as long as the record of a denied one.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// How often it is looked for such that can go.
const TIDIED_EVERY: Duration = Duration::from_mins(10);

/// Looks after such decisions in each term, until it is dropped.
pub async fn run(passes: Arc<Passes>, triggers: Triggers, mut unknown: mpsc::UnboundedReceiver<DecisionKey>) {
    passes.wait_until_synced().await;
    loop {
        let term = next_term(&passes, &mut unknown).await;
        term.run(lead(&passes, &triggers, &mut unknown)).await;
    }
}

/// The next term. Until then another process judges; what it leaves is found in the index.
async fn next_term(passes: &Passes, unknown: &mut mpsc::UnboundedReceiver<DecisionKey>) -> Term {
    let mut begins = std::pin::pin!(passes.leadership.begins());
    loop {
        tokio::select! {
            term = &mut begins => return term,
            Some(_) = unknown.recv() => {}
        }
    }
}

async fn lead(passes: &Arc<Passes>, triggers: &Triggers, unknown: &mut mpsc::UnboundedReceiver<DecisionKey>) {
    let mut under_way = JoinSet::new();
    for key in passes.edges.index.unknown_decisions() {
        under_way.spawn(look_after(Arc::clone(passes), triggers.clone(), key));
    }
    let mut tidying = tokio::time::interval(TIDIED_EVERY);
    loop {
        tokio::select! {
            Some(key) = unknown.recv() => {
                under_way.spawn(look_after(Arc::clone(passes), triggers.clone(), key));
            }
            Some(finished) = under_way.join_next() => {
                if let Err(panicked) = finished {
                    tracing::error!(error = %panicked, "looking after a decision broke");
                }
            }
            _ = tidying.tick() => tidy(passes, passes.edges.clock.now()).await,
        }
    }
}

async fn look_after(passes: Arc<Passes>, triggers: Triggers, key: DecisionKey) {
    tokio::time::sleep(PATIENCE).await;
    for attempt in 0.. {
        match judge(&passes, &triggers, &key).await {
            Ok(()) => return,
            Err(error) => {
                let pause = delay(error.class(), Lane::Controller, attempt);
                tracing::warn!(namespace = key.namespace, decision = key.name, %error,
                    reason = error.reason(), retry_in = ?pause, "a decision could not be judged");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Ignores a decision about a grant that is not there. If it is there after all, a pass over it judges.
async fn judge(passes: &Passes, triggers: &Triggers, key: &DecisionKey) -> Result<(), Error> {
    let Some(decision) = passes.edges.index.open_decision(key) else {
        return Ok(());
    };
    let grant = GrantKey {
        namespace: key.namespace.clone(),
        name: decision.grant.clone(),
    };
    let grants = Api::<AccessGrant>::namespaced(passes.edges.client.clone(), &grant.namespace);
    let there = call("read grant", grants.get_metadata_opt(&grant.name)).await?;
    let uid = there.and_then(|there| there.metadata.uid);
    if uid.as_ref() == Some(&decision.grant_uid) {
        triggers.fire_grants([grant].into());
        return Ok(());
    }
    let message = match uid {
        None => format!("there is no grant {} in this namespace", decision.grant),
        Some(uid) => format!(
            "grant {} has the uid {uid}: another request of that name; decide about that one",
            decision.grant
        ),
    };
    let judged = Judged {
        verdict: Verdict::ignored(reasons::GRANT_NOT_FOUND, message),
        decision,
    };
    let at = passes.edges.clock.now();
    let announcement = Announcement::Judged(Box::new(judged.clone()));
    if let Some((decision, event)) = announcement.event_of_decision(at) {
        let regarding = decisions::reference(&key.namespace, decision);
        match publish(&passes.edges, regarding, &event, at).await {
            Err(error) if matches!(error.class(), Class::Transient | Class::Throttled) => return Err(error),
            _ => {}
        }
    }
    decisions::record(&passes.edges, &key.namespace, &judged).await
}

async fn tidy(passes: &Passes, now: Timestamp) {
    let before = now.saturating_sub(KEPT).unwrap_or(Timestamp::MIN);
    for (key, uid) in passes.edges.index.stale_decisions(before, now) {
        if let Err(error) = decisions::delete(&passes.edges, &key, &uid).await {
            tracing::warn!(namespace = key.namespace, decision = key.name, %error,
                reason = error.reason(), "the record of a decision could not be deleted");
        }
    }
}
