//! The expiry lane: ends access on time, whatever else is going on, and whether or not this process leads.
//!
//! It is fed from the watch of grants and from what passes write, and makes the same kind of pass as the controller
//! lane beside it, which here may end what is past its end and nothing else. Two replicas that end the same access do
//! no harm: what is absent already is as good as deleted, the Event has the same name, and of two records one is
//! refused. The audit log may have the end once from each, since nothing is shared that could tell them.
//!
//! The controller's own queue cannot hold a deadline: with all of its workers busy, 42 of 50 due items were not served
//! within 18 s, because it looks for a free one in no order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::metrics::{Lane as LaneLabel, Metrics, PassOutcome};
use super::pass::{Failed, Passes, Urgency};
use crate::cluster::GrantKey;
use crate::core::{Class, Lane, delay};

/// How far a follower is behind: a leader that lives has mostly ended the access by then (12 ms), and the control plane
/// is spared a second set of writes. It is all that an end is later when the leader is dead.
const BEHIND_LEADER: Duration = Duration::from_millis(50);

/// By how much a follower leaves the rest to the leader when there is no access left: bookkeeping yields to access for
/// 2 s at most.
const BEHIND_BOOKKEEPING: Duration = Duration::from_secs(3);

/// Soonest look at a grant that was due and could not be ended yet, such as one that a relist has not brought entirely.
const AGAIN: Duration = Duration::from_millis(50);

/// How often whatever could not be ended is tried at once because the API server is back. One that comes and goes is
/// asked no more often than this: what failed is tried again within a second anyway.
const RECALL_EVERY: Duration = Duration::from_secs(1);

/// What is past its end and under way, and how often it failed before.
#[derive(Default)]
struct Endings {
    tasks: JoinSet<Result<Option<Timestamp>, Failed>>,
    keys: HashMap<Id, GrantKey>,
    attempts: HashMap<GrantKey, u32>,
}

/// Runs the lane until it is dropped.
pub async fn run(passes: Arc<Passes>, metrics: Metrics) {
    // The first look finds all of them, and so comes to the oldest first.
    passes.wait_until_synced().await;
    let mut endings = Endings::default();
    let (clock, deadlines) = (&passes.edges.clock, &passes.deadlines);
    let (mut forward, mut returns) = (clock.leaps(), passes.edges.reach.returns());
    let mut recalled: Option<Instant> = None;
    loop {
        let leads = passes.leadership.leads();
        let behind = if leads { Duration::ZERO } else { BEHIND_LEADER };
        let (due, sleep) = deadlines.take_due(earlier(clock.now(), behind));
        for key in due {
            if let Some(end) = passes.edges.index.end_without_access(&key).filter(|_| !leads) {
                let patience = later(end, BEHIND_BOOKKEEPING);
                if clock.now() < patience {
                    deadlines.postpone(key, patience);
                    continue;
                }
            }
            endings.begin(&passes, key);
        }
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = deadlines.changed() => {}
            // What an instant is slept until has come sooner. Its sender lives as long as the clock.
            Ok(()) = forward.changed() => {}
            Ok(()) = returns.changed() => {
                if recalled.is_none_or(|last| last.elapsed() >= RECALL_EVERY) {
                    recalled = Some(Instant::now());
                    deadlines.recall();
                }
            }
            Some(finished) = endings.tasks.join_next_with_id() => endings.settle(&passes, &metrics, finished),
        }
    }
}

impl Endings {
    fn begin(&mut self, passes: &Arc<Passes>, key: GrantKey) {
        let (passes, ending) = (Arc::clone(passes), key.clone());
        let task = self
            .tasks
            .spawn(async move { passes.run(&ending, Urgency::Due).await });
        self.keys.insert(task.id(), key);
    }

    fn settle(
        &mut self,
        passes: &Passes,
        metrics: &Metrics,
        finished: Result<(Id, Result<Option<Timestamp>, Failed>), JoinError>,
    ) {
        let (id, outcome) = match finished {
            Ok((id, outcome)) => (id, Ok(outcome)),
            Err(broke) => (broke.id(), Err(broke)),
        };
        let Some(key) = self.keys.remove(&id) else { return };
        let (now, deadlines) = (passes.edges.clock.now(), &passes.deadlines);
        let class = match outcome {
            Ok(Ok(wake)) => {
                metrics.passed(LaneLabel::Expiry, PassOutcome::Done);
                self.attempts.remove(&key);
                match wake {
                    Some(wake) => deadlines.postpone(key, wake.max(later(now, AGAIN))),
                    None => deadlines.over(&key),
                }
                return;
            }
            Ok(Err(failed)) if failed.class() == Class::Conflict => {
                tracing::debug!(namespace = key.namespace, grant = key.name, error = %failed.error,
                    "another replica was at it as well");
                Class::Conflict
            }
            Ok(Err(failed)) => {
                tracing::warn!(namespace = key.namespace, grant = key.name, error = %failed.error,
                    reason = failed.error.reason(), "access could not be ended yet; it is tried again");
                failed.class()
            }
            Err(broke) => {
                tracing::error!(namespace = key.namespace, grant = key.name, error = %broke,
                    "a pass of the expiry lane broke; it is made again");
                Class::Invalid
            }
        };
        metrics.passed(LaneLabel::Expiry, PassOutcome::Failed);
        let attempt = self.attempts.entry(key.clone()).or_default();
        let pause = delay(class, Lane::Expiry, *attempt);
        *attempt = attempt.saturating_add(1);
        deadlines.postpone(key, later(now, pause));
    }
}

fn later(now: Timestamp, pause: Duration) -> Timestamp {
    now.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

fn earlier(now: Timestamp, pause: Duration) -> Timestamp {
    now.saturating_sub(pause).unwrap_or(Timestamp::MIN)
}
