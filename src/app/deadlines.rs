//! When live grants end.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::api::AccessGrant;
use crate::cluster::GrantKey;
use crate::core::{Agenda, Live};

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

    /// Puts a moment at which to look at a grant, in place of any other.
    pub(super) fn put(&self, key: GrantKey, at: Timestamp) {
        self.agenda
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put(key, at);
        self.changed.notify_one();
    }

    /// Takes what is due, oldest first, and says how long to sleep after it.
    pub(super) fn take_due(&self, now: Timestamp) -> (Vec<GrantKey>, Duration) {
        let mut agenda = self.agenda.lock().unwrap_or_else(PoisonError::into_inner);
        let due = agenda.take_due(now);
        let sleep = agenda.next().map_or(LONGEST_SLEEP, |next| {
            Duration::try_from(next.duration_since(now))
                .unwrap_or(Duration::ZERO)
                .min(LONGEST_SLEEP)
        });
        (due, sleep)
    }

    /// Until an end was put that may be the next one.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}
