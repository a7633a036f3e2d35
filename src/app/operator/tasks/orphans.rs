//! Orphans: artifacts of deleted grants.
//!
//! Kubernetes deletes the artifacts itself, since the grant owns them. This task is for the cases in which Kubernetes
//! does not: a deletion with `--cascade=orphan`, a garbage collector that is down, a lost record, a finalizer that
//! someone removed. Only a leader deletes. A follower remembers for a while which grants were deleted, because a leader
//! that dies may not have published the end.

use crate::app::operator::metrics::TaskLabel;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::api::{AccessGrant, AccessGrantSpec};
use crate::app::operator::context::Operator;
use crate::app::operator::leader_task::{LeaderTask, retry, run_in_terms};
use crate::app::operator::metrics::PassOutcome;
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::grant::apply::Application;
use crate::cluster::objects::keys::Orphan;
use crate::core::plan::orphan::plan_orphan;
use crate::core::replica::leader;
use crate::core::replica::retry::{Class, Lane};

/// How long an artifact without a grant is left alone. The watch of grants may lag (p99 25 ms).
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a follower remembers a deleted grant. If the leader died at that time, another replica leads by then.
const MEMORY: Duration = leader::DURATION.saturating_add(Duration::from_secs(5));

/// Deletes orphans in each term, until the future is dropped.
pub async fn run(operator: Arc<Operator>, orphans: mpsc::UnboundedReceiver<Orphan>) {
    let task = Orphans {
        operator: Arc::clone(&operator),
        deleted: VecDeque::new(),
    };
    run_in_terms(&operator, task, orphans).await;
}

struct Orphans {
    operator: Arc<Operator>,
    /// Grants that were deleted while this process did not lead, oldest first.
    deleted: VecDeque<(Instant, Orphan)>,
}

impl Orphans {
    fn forget_old(&mut self) {
        while self
            .deleted
            .front()
            .is_some_and(|(since, _)| since.elapsed() > MEMORY)
        {
            self.deleted.pop_front();
        }
    }
}

impl LeaderTask for Orphans {
    type Item = Orphan;

    fn follow(&mut self, orphan: Orphan) {
        self.forget_old();
        if orphan.last.is_some() {
            self.deleted.push_back((Instant::now(), orphan));
        }
    }

    async fn lead(&mut self, orphans: &mut mpsc::UnboundedReceiver<Orphan>) {
        self.forget_old();
        let deleted = std::mem::take(&mut self.deleted);
        let known = self.operator.cluster.index.orphans().into_iter();
        let known = known.map(|(uid, key)| Orphan { uid, key, last: None });
        let mut removals = Removals {
            operator: Arc::clone(&self.operator),
            tasks: JoinSet::new(),
            uids: HashSet::new(),
        };
        for orphan in deleted.into_iter().map(|(_, orphan)| orphan).chain(known) {
            removals.start(orphan);
        }
        loop {
            tokio::select! {
                Some(orphan) = orphans.recv() => removals.start(orphan),
                Some(finished) = removals.tasks.join_next() => match finished {
                    Ok(uid) => {
                        removals.uids.remove(&uid);
                    }
                    Err(panicked) => tracing::error!(error = %panicked, "orphan task panicked"),
                },
                else => return,
            }
        }
    }
}

/// The removals of one term that run.
struct Removals {
    operator: Arc<Operator>,
    tasks: JoinSet<String>,
    uids: HashSet<String>,
}

impl Removals {
    /// Starts a removal, unless one runs for this grant. The end of a grant that was seen to go is published in any
    /// case.
    fn start(&mut self, orphan: Orphan) {
        if self.uids.insert(orphan.uid.clone()) || orphan.last.is_some() {
            let span = tracing::error_span!(
                "orphan",
                namespace = orphan.key.namespace,
                grant = orphan.key.name,
                uid = orphan.uid
            );
            let operator = Arc::clone(&self.operator);
            self.tasks.spawn(look_after(operator, orphan).instrument(span));
        }
    }
}

/// Removes the artifacts of one deleted grant, and retries until that succeeds. Returns the uid of the grant.
async fn look_after(operator: Arc<Operator>, orphan: Orphan) -> String {
    if orphan.last.is_none() {
        tokio::time::sleep(PATIENCE).await;
    }
    // Right after the deletion the garbage collector works on the same objects.
    let class = |error: &Error| match error.class() {
        Class::Denied => Class::Transient,
        other => other,
    };
    let (shared, removed) = (&*operator, &orphan);
    let attempt = move || async move {
        let result = remove(shared, removed).await;
        let outcome = match result {
            Ok(()) => PassOutcome::Done,
            Err(_) => PassOutcome::Failed,
        };
        shared.metrics.passed(TaskLabel::Orphans, outcome);
        result
    };
    retry(Lane::Expiry, attempt, class, |error, pause| {
        tracing::warn!(%error, reason = error.reason(), retry_in = ?pause,
            "artifacts of a deleted grant not removed, will retry");
    })
    .await;
    orphan.uid
}

async fn remove(operator: &Operator, orphan: &Orphan) -> Result<(), Error> {
    // Only a grant that was seen to go is urgent. Any other may exist, and only its watch may lag.
    let _lock = match orphan.last {
        Some(_) => operator.lock_to_end(&orphan.uid).await,
        None => operator.lock(&orphan.uid).await,
    };
    let cluster = &operator.cluster;
    let held = cluster.index.held_by(&orphan.uid).into_iter();
    let found: Vec<_> = held.map(|(_, held)| held.found).collect();
    if found.is_empty() && orphan.last.is_none() {
        return Ok(());
    }
    // A grant that was seen to go does not exist. For any other, a watch that lagged has delivered the grant by now.
    if orphan.last.is_none() && cluster.index.has_grant(&orphan.uid) {
        return Ok(());
    }
    let grants = Api::<AccessGrant>::namespaced(cluster.client.clone(), &orphan.key.namespace);
    if !orphan.key.name.is_empty() {
        let live = call("read grant", grants.get_metadata_opt(&orphan.key.name)).await?;
        if live.is_some_and(|grant| grant.metadata.uid.as_ref() == Some(&orphan.uid)) {
            return Ok(());
        }
    }
    let plan = plan_orphan(orphan.last.as_deref(), &found, cluster.clock.now());
    let grant = orphan.last.clone().unwrap_or_else(|| Arc::new(stand_in(orphan)));
    tracing::info!(artifacts = found.len(), "deleting artifacts of a deleted grant");
    let mut application = Application::new(cluster, grant, &found, None);
    for stage in &plan.stages {
        application
            .stage(stage)
            .await
            .map_err(|interrupted| interrupted.error)?;
    }
    Ok(())
}

/// A grant of which only namespace, name and uid are known.
fn stand_in(orphan: &Orphan) -> AccessGrant {
    let mut grant = AccessGrant::new(&orphan.key.name, AccessGrantSpec::default());
    grant.metadata.namespace = Some(orphan.key.namespace.clone());
    grant.metadata.uid = Some(orphan.uid.clone());
    grant
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::operator::context::testing::{first_line_of, grant, operator};
    use crate::cluster::objects::keys::GrantKey;

    #[tokio::test(start_paused = true)]
    async fn each_log_line_of_an_orphan_names_the_grant() {
        let (operator, triggered) = operator();
        let grant = grant();
        operator.triggers.fire(crate::cluster::objects::keys::Affected {
            orphans: vec![Orphan {
                uid: "uid-1".to_owned(),
                key: GrantKey::of(&grant),
                last: Some(Arc::new(grant)),
            }],
            ..crate::cluster::objects::keys::Affected::default()
        });
        let line = first_line_of(Box::pin(run(operator, triggered.orphans))).await;
        assert_eq!(
            line["fields"]["message"], "artifacts of a deleted grant not removed, will retry",
            "{line}"
        );
        let span = &line["span"];
        assert_eq!(span["name"], "orphan");
        assert_eq!(
            [&span["namespace"], &span["grant"], &span["uid"]],
            ["prod", "pay-123", "uid-1"]
        );
    }
}
