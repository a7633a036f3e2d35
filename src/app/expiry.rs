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
use tokio::task::JoinSet;

use super::metrics::{Lane as LaneLabel, Metrics, PassOutcome};
use super::pass::{Passes, Urgency};
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

/// Runs the lane until it is dropped.
pub async fn run(passes: Arc<Passes>, metrics: Metrics) {
    let mut under_way = JoinSet::new();
    let mut attempts: HashMap<GrantKey, u32> = HashMap::new();
    let clock = &passes.edges.clock;
    let mut forward = clock.leaps();
    loop {
        let leads = passes.leadership.leads();
        let behind = if leads { Duration::ZERO } else { BEHIND_LEADER };
        let (due, sleep) = passes.deadlines.take_due(earlier(clock.now(), behind));
        for key in due {
            if let Some(end) = passes.edges.index.end_without_access(&key).filter(|_| !leads) {
                let patience = later(end, BEHIND_BOOKKEEPING);
                if clock.now() < patience {
                    passes.deadlines.again(key, patience);
                    continue;
                }
            }
            let passes = Arc::clone(&passes);
            under_way.spawn(async move {
                let result = passes.run(&key, Urgency::Due).await;
                (key, result)
            });
        }
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = passes.deadlines.changed() => {}
            // What an instant is slept until has come sooner. Its sender lives as long as the clock.
            Ok(()) = forward.changed() => {}
            Some(finished) = under_way.join_next() => match finished {
                Ok((key, Ok(wake))) => {
                    metrics.passed(LaneLabel::Expiry, PassOutcome::Done);
                    attempts.remove(&key);
                    if let Some(wake) = wake {
                        passes.deadlines.again(key, wake.max(later(clock.now(), AGAIN)));
                    }
                }
                Ok((key, Err(failed))) => {
                    metrics.passed(LaneLabel::Expiry, PassOutcome::Failed);
                    let attempt = attempts.entry(key.clone()).or_default();
                    let pause = delay(failed.class(), Lane::Expiry, *attempt);
                    *attempt = attempt.saturating_add(1);
                    if failed.class() == Class::Conflict {
                        tracing::debug!(namespace = key.namespace, grant = key.name, error = %failed.error,
                            "another replica was at it as well");
                    } else {
                        tracing::warn!(namespace = key.namespace, grant = key.name, error = %failed.error,
                            reason = failed.error.reason(), retry_in = ?pause, "access could not be ended yet");
                    }
                    passes.deadlines.put(key, later(clock.now(), pause));
                }
                Err(panicked) => {
                    metrics.passed(LaneLabel::Expiry, PassOutcome::Failed);
                    tracing::error!(error = %panicked, "a pass of the expiry lane broke");
                }
            },
        }
    }
}

fn later(now: Timestamp, pause: Duration) -> Timestamp {
    now.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

fn earlier(now: Timestamp, pause: Duration) -> Timestamp {
    now.saturating_sub(pause).unwrap_or(Timestamp::MIN)
}
