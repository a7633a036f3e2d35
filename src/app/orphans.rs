//! What was made for grants that are gone.
//!
//! Kubernetes removes it by itself, since the grant owns it; this is for when it does not: a deletion that orphans,
//! a garbage collector that is down, a record that was lost, a finalizer that somebody took off. A leader looks after
//! it; whoever does not lead only remembers for a while which grants it saw go, in case it comes to lead: a leader that
//! died may not have told that.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lease::{Leadership, Term};
use super::metrics::{Lane as LaneLabel, Metrics, PassOutcome};
use super::pass::Passes;
use crate::api::{AccessGrant, AccessGrantSpec};
use crate::cluster::{Application, Error, Orphan, call};
use crate::core::{Class, Lane, delay, lease, plan_orphan};

/// How long after an artifact without a grant was seen it is looked into: its grant's watch may only lag behind
/// (p99 25 ms).
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a grant that was seen to go is remembered by whoever does not lead: a leader that died then is succeeded by
/// then.
const MEMORY: Duration = lease::DURATION.saturating_add(Duration::from_secs(5));

/// Looks after orphans in each term, until it is dropped.
pub async fn run(passes: Arc<Passes>, metrics: Metrics, mut orphans: mpsc::UnboundedReceiver<Orphan>) {
    passes.wait_until_synced().await;
    loop {
        let (term, seen_to_go) = next_term(&passes.leadership, &mut orphans).await;
        let standing = passes.edges.index.orphans().into_iter();
        let standing = standing.map(|(uid, key)| Orphan { uid, key, last: None });
        let first = seen_to_go.into_iter().chain(standing).collect();
        term.run(lead(&passes, &metrics, first, &mut orphans)).await;
    }
}

/// The next term, and the grants that were seen to go lately.
async fn next_term(
    leadership: &Leadership,
    orphans: &mut mpsc::UnboundedReceiver<Orphan>,
) -> (Term, Vec<Orphan>) {
    let mut seen: VecDeque<(Instant, Orphan)> = VecDeque::new();
    let mut begins = std::pin::pin!(leadership.begins());
    let forget = |seen: &mut VecDeque<(Instant, Orphan)>| {
        while seen.front().is_some_and(|(since, _)| since.elapsed() > MEMORY) {
            seen.pop_front();
        }
    };
    loop {
        tokio::select! {
            term = &mut begins => {
                forget(&mut seen);
                return (term, seen.into_iter().map(|(_, orphan)| orphan).collect());
            }
            Some(orphan) = orphans.recv() => {
                forget(&mut seen);
                if orphan.last.is_some() {
                    seen.push_back((Instant::now(), orphan));
                }
            }
        }
    }
}

/// Looks after these, and then after what comes.
async fn lead(
    passes: &Arc<Passes>,
    metrics: &Metrics,
    first: Vec<Orphan>,
    orphans: &mut mpsc::UnboundedReceiver<Orphan>,
) {
    let mut under_way = JoinSet::new();
    let mut waiting: HashSet<String> = HashSet::new();
    let take = |orphan: Orphan, under_way: &mut JoinSet<String>, waiting: &mut HashSet<String>| {
        // A grant that was seen to go is told even if it is already being looked after.
        if orphan.last.is_some() || waiting.insert(orphan.uid.clone()) {
            under_way.spawn(look_after(Arc::clone(passes), metrics.clone(), orphan));
        }
    };
    for orphan in first {
        take(orphan, &mut under_way, &mut waiting);
    }
    loop {
        tokio::select! {
            Some(orphan) = orphans.recv() => take(orphan, &mut under_way, &mut waiting),
            Some(finished) = under_way.join_next() => match finished {
                Ok(uid) => {
                    waiting.remove(&uid);
                }
                Err(panicked) => tracing::error!(error = %panicked, "looking after an orphan broke"),
            },
            else => return,
        }
    }
}

async fn look_after(passes: Arc<Passes>, metrics: Metrics, orphan: Orphan) -> String {
    if orphan.last.is_none() {
        tokio::time::sleep(PATIENCE).await;
    }
    for attempt in 0.. {
        match remove(&passes, &orphan).await {
            Ok(()) => {
                metrics.passed(LaneLabel::Orphans, PassOutcome::Done);
                break;
            }
            Err(error) => {
                metrics.passed(LaneLabel::Orphans, PassOutcome::Failed);
                // Right after a grant went, the garbage collector is at the same objects.
                let class = if error.class() == Class::Denied {
                    Class::Transient
                } else {
                    error.class()
                };
                let pause = delay(class, Lane::Expiry, attempt);
                tracing::warn!(namespace = orphan.key.namespace, grant = orphan.key.name, %error,
                    reason = error.reason(), retry_in = ?pause, "what a grant that is gone left behind stands yet");
                tokio::time::sleep(pause).await;
            }
        }
    }
    orphan.uid
}

async fn remove(passes: &Passes, orphan: &Orphan) -> Result<(), Error> {
    // Only a grant that was seen to go is urgent: another may be there, and only its watch behind.
    let _alone = match orphan.last {
        Some(_) => passes.lock_to_end(&orphan.uid).await,
        None => passes.lock(&orphan.uid).await,
    };
    let edges = &passes.edges;
    let found: Vec<_> = edges
        .index
        .held_by(&orphan.uid)
        .into_iter()
        .map(|(_, held)| held.found)
        .collect();
    if found.is_empty() && orphan.last.is_none() {
        return Ok(());
    }
    // What was seen to go is not there any more, and a watch that lagged has delivered by now.
    if orphan.last.is_none() && edges.index.has_grant(&orphan.uid) {
        return Ok(());
    }
    let grants = Api::<AccessGrant>::namespaced(edges.client.clone(), &orphan.key.namespace);
    if !orphan.key.name.is_empty() {
        let live = call("read grant", grants.get_metadata_opt(&orphan.key.name)).await?;
        if live.is_some_and(|grant| grant.metadata.uid.as_ref() == Some(&orphan.uid)) {
            return Ok(());
        }
    }
    let plan = plan_orphan(orphan.last.as_deref(), &found, edges.clock.now());
    let grant = orphan.last.clone().unwrap_or_else(|| Arc::new(stand_in(orphan)));
    tracing::info!(
        namespace = orphan.key.namespace,
        grant = orphan.key.name,
        uid = orphan.uid,
        artifacts = found.len(),
        "ending what a grant that is gone left behind"
    );
    let mut application = Application::new(edges, grant, &found, None);
    for stage in &plan.stages {
        application
            .stage(stage)
            .await
            .map_err(|interrupted| interrupted.error)?;
    }
    Ok(())
}

/// Stands for a grant of which only namespace and uid are known.
fn stand_in(orphan: &Orphan) -> AccessGrant {
    let mut grant = AccessGrant::new(&orphan.key.name, AccessGrantSpec::default());
    grant.metadata.namespace = Some(orphan.key.namespace.clone());
    grant.metadata.uid = Some(orphan.uid.clone());
    grant
}
