//! The expiry lane: ends access on time, whatever else is going on.
//!
//! It is fed from the watch of grants and from what passes write, and runs the same pass as the controller lane
//! beside it. The controller's own queue cannot hold a deadline: with all of its workers busy, 42 of 50 due items
//! were not served within 18 s, because it looks for a free one in no order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::metrics::{Lane as LaneLabel, Metrics, PassOutcome};
use super::pass::Passes;
use crate::api::AccessGrant;
use crate::cluster::GrantKey;
use crate::core::{Agenda, Lane, Live, delay};

/// Longest sleep of the lane: the wall clock is read again at least so often, so that a clock that was stepped or a
/// machine that was suspended ends access at most so much late.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);

/// When live grants end.
#[derive(Debug, Default)]
pub struct Deadlines {
    agenda: Mutex<Agenda<GrantKey>>,
    changed: Notify,
}

impl Deadlines {
    /// Takes note of a grant's end; of one that is not live, that it has none.
    pub fn follow(&self, grant: &AccessGrant) {
        let end = grant
            .status
            .as_ref()
            .and_then(Live::of)
            .map(|live| live.expires_at);
        let key = GrantKey::of(grant);
        match end {
            Some(end) => self.put(key, end),
            None => self.forget(&key),
        }
    }

    /// Forgets a grant that is gone.
    pub fn forget(&self, key: &GrantKey) {
        self.agenda
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .cancel(key);
    }

    fn put(&self, key: GrantKey, at: Timestamp) {
        self.agenda
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put(key, at);
        self.changed.notify_one();
    }

    fn take_due(&self, now: Timestamp) -> (Vec<GrantKey>, Duration) {
        let mut agenda = self.agenda.lock().unwrap_or_else(PoisonError::into_inner);
        let due = agenda.take_due(now);
        let sleep = agenda.next().map_or(LONGEST_SLEEP, |next| {
            Duration::try_from(next.duration_since(now))
                .unwrap_or(Duration::ZERO)
                .min(LONGEST_SLEEP)
        });
        (due, sleep)
    }
}

/// Runs the lane until it is dropped.
pub async fn run(passes: Arc<Passes>, metrics: Metrics) {
    let mut under_way = JoinSet::new();
    let mut attempts: HashMap<GrantKey, u32> = HashMap::new();
    loop {
        let (due, sleep) = passes.deadlines.take_due(Timestamp::now());
        for key in due {
            let passes = Arc::clone(&passes);
            under_way.spawn(async move {
                let result = passes.run(&key).await;
                (key, result)
            });
        }
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = passes.deadlines.changed.notified() => {}
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
