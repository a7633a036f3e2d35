//! When live grants end.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::api::AccessGrant;
use crate::cluster::GrantKey;
use crate::core::{Ends, Live};

/// Longest sleep of the lane: the wall clock is read again at least so often, so that a clock that was stepped or a
/// machine that was suspended ends access at most so much late.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);

/// When live grants end.
#[derive(Debug, Default)]
pub struct Deadlines {
    ends: Mutex<Ends<GrantKey>>,
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
            Some(end) => self.change(|ends| ends.follow(key, end)),
            None => self.forget(&key),
        }
    }

    /// Forgets a grant that is gone.
    pub fn forget(&self, key: &GrantKey) {
        self.ends().forget(key);
    }

    /// What was taken is not over: looks at it again then.
    pub(super) fn postpone(&self, key: GrantKey, until: Timestamp) {
        self.change(|ends| ends.postpone(key, until));
    }

    /// What was taken is over.
    pub(super) fn over(&self, key: &GrantKey) {
        self.ends().over(key);
    }

    /// Looks at whatever was postponed now, the oldest end first.
    pub(super) fn recall(&self) {
        self.change(Ends::recall);
    }

    /// Takes what is due, oldest first, and says how long to sleep after it.
    pub(super) fn take_due(&self, now: Timestamp) -> (Vec<GrantKey>, Duration) {
        let mut ends = self.ends();
        let due = ends.take_due(now);
        let sleep = ends.next().map_or(LONGEST_SLEEP, |next| {
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

    fn change(&self, change: impl FnOnce(&mut Ends<GrantKey>)) {
        change(&mut self.ends());
        self.changed.notify_one();
    }

    /// Nothing here panics half way, so a poisoned lock is as good as any.
    fn ends(&self) -> MutexGuard<'_, Ends<GrantKey>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AccessGrantSpec, AccessGrantStatus};
    use crate::core::status::micro_time;

    fn grant(ends: Option<i64>, ended: bool) -> AccessGrant {
        let mut grant = AccessGrant::new("pay-123", AccessGrantSpec::default());
        let at = |second| micro_time(Timestamp::from_second(second).unwrap());
        grant.status = Some(AccessGrantStatus {
            expires_at: ends.map(at),
            ended_at: ended.then(|| at(0)),
            ..AccessGrantStatus::default()
        });
        grant
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_live_grant_is_due_at_its_end_and_not_before() {
        let deadlines = Deadlines::default();
        deadlines.follow(&grant(Some(100), false));
        assert_eq!(deadlines.take_due(second(97)), (vec![], Duration::from_secs(3)));
        let (due, sleep) = deadlines.take_due(second(100));
        assert_eq!(due.len(), 1);
        assert_eq!(sleep, LONGEST_SLEEP);
    }

    #[test]
    fn an_end_that_moves_earlier_counts_and_the_old_one_does_not() {
        let deadlines = Deadlines::default();
        deadlines.follow(&grant(Some(100), false));
        deadlines.follow(&grant(Some(50), false));
        assert_eq!(deadlines.take_due(second(50)).0.len(), 1);
        assert_eq!(deadlines.take_due(second(100)).0.len(), 0);
    }

    #[test]
    fn a_grant_that_is_not_live_has_no_end() {
        let deadlines = Deadlines::default();
        for not_live in [grant(None, false), grant(Some(100), true)] {
            deadlines.follow(&grant(Some(100), false));
            deadlines.follow(&not_live);
            assert_eq!(deadlines.take_due(second(200)).0.len(), 0);
        }
    }

    #[test]
    fn the_clock_is_read_again_however_far_the_next_end_is() {
        let deadlines = Deadlines::default();
        deadlines.follow(&grant(Some(1_000_000), false));
        assert_eq!(deadlines.take_due(second(0)).1, LONGEST_SLEEP);
    }

    #[tokio::test]
    async fn a_new_end_wakes_whoever_waits() {
        let deadlines = Deadlines::default();
        let woken = deadlines.changed();
        deadlines.follow(&grant(Some(100), false));
        tokio::time::timeout(Duration::from_secs(5), woken).await.unwrap();
    }
}
