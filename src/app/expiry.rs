//! The expiry lane: ends access on time, whatever else is going on.
//!
//! It is fed from the watch of grants and from what passes write, and runs the same pass as the controller lane
//! beside it. The controller's own queue cannot hold a deadline: with all of its workers busy, 42 of 50 due items
//! were not served within 18 s, because it looks for a free one in no order.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::metrics::{Lane as LaneLabel, Metrics, PassOutcome};
use super::pass::{Passes, Urgency};
use crate::cluster::GrantKey;
use crate::core::{Lane, delay};

/// Runs the lane until it is dropped.
pub async fn run(passes: Arc<Passes>, metrics: Metrics) {
    let mut under_way = JoinSet::new();
    let mut attempts: HashMap<GrantKey, u32> = HashMap::new();
    loop {
        let (due, sleep) = passes.deadlines.take_due(Timestamp::now());
        for key in due {
            let passes = Arc::clone(&passes);
            under_way.spawn(async move {
                let result = passes.run(&key, Urgency::Due).await;
                (key, result)
            });
        }
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = passes.deadlines.changed() => {}
            Some(finished) = under_way.join_next() => match finished {
                Ok((key, Ok(_))) => {
                    metrics.passed(LaneLabel::Expiry, PassOutcome::Done);
                    attempts.remove(&key);
                }
                Ok((key, Err(failed))) => {
                    metrics.passed(LaneLabel::Expiry, PassOutcome::Failed);
                    let attempt = attempts.entry(key.clone()).or_default();
                    let pause = delay(failed.class(), Lane::Expiry, *attempt);
                    *attempt = attempt.saturating_add(1);
                    tracing::warn!(namespace = key.namespace, grant = key.name, error = %failed.error,
                        reason = failed.error.reason(), retry_in = ?pause, "access could not be ended yet");
                    passes.deadlines.put(key, Timestamp::now().saturating_add(pause).unwrap_or(Timestamp::MAX));
                }
                Err(panicked) => {
                    metrics.passed(LaneLabel::Expiry, PassOutcome::Failed);
                    tracing::error!(error = %panicked, "a pass of the expiry lane broke");
                }
            },
        }
    }
}
