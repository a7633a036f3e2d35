//! Expiry times of live grants, shared by all tasks.

use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::api::AccessGrant;
use crate::cluster::objects::keys::GrantKey;
use crate::core::grant::live::Live;
use crate::core::replica::expiry_queue::ExpiryQueue;

/// Longest sleep of the expiry task. After that it reads the wall clock again. It bounds how late access ends after a
/// step of the clock or a suspend of the machine.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);

/// Expiry time of each live grant.
#[derive(Debug, Default)]
pub struct Expirations {
    ends: Mutex<ExpiryQueue<GrantKey>>,
    changed: Notify,
}

impl Expirations {
    /// Notes the expiry time of a grant. A grant that is not live has none.
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

    /// Forgets a deleted grant.
    pub fn forget(&self, key: &GrantKey) {
        self.ends().forget(key);
    }

    /// Returns a taken grant whose access has not ended; it is due again at `until`.
    pub(crate) fn postpone(&self, key: GrantKey, until: Timestamp) {
        self.change(|ends| ends.postpone(key, until));
    }

    /// Forgets a taken grant whose access has ended.
    pub(crate) fn over(&self, key: &GrantKey) {
        self.ends().over(key);
    }

    /// Makes all postponed grants due now, the oldest expiry first.
    pub(crate) fn recall(&self) {
        self.change(ExpiryQueue::recall);
    }

    /// Takes the due grants, oldest expiry first. Also returns the time until the next one, at most 15 s.
    pub(crate) fn take_due(&self, now: Timestamp) -> (Vec<GrantKey>, Duration) {
        let mut ends = self.ends();
        let due = ends.take_due(now);
        let sleep = ends.next().map_or(LONGEST_SLEEP, |next| {
            Duration::try_from(next.duration_since(now))
                .unwrap_or(Duration::ZERO)
                .min(LONGEST_SLEEP)
        });
        (due, sleep)
    }

    /// Waits until an expiry time is added that may be the next.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut ExpiryQueue<GrantKey>)) {
        change(&mut self.ends());
        self.changed.notify_one();
    }

    fn ends(&self) -> MutexGuard<'_, ExpiryQueue<GrantKey>> {
        self.ends.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AccessGrantSpec, AccessGrantStatus};
    use crate::core::time::timestamp::micro_time;

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
    fn a_live_grant_is_due_at_its_expiry() {
        let deadlines = Expirations::default();
        deadlines.follow(&grant(Some(100), false));
        assert_eq!(deadlines.take_due(second(97)), (vec![], Duration::from_secs(3)));
        let (due, sleep) = deadlines.take_due(second(100));
        assert_eq!(due.len(), 1);
        assert_eq!(sleep, LONGEST_SLEEP);
    }

    #[test]
    fn an_earlier_expiry_replaces_the_old_one() {
        let deadlines = Expirations::default();
        deadlines.follow(&grant(Some(100), false));
        deadlines.follow(&grant(Some(50), false));
        assert_eq!(deadlines.take_due(second(50)).0.len(), 1);
        assert_eq!(deadlines.take_due(second(100)).0.len(), 0);
    }

    #[test]
    fn a_grant_that_is_not_live_is_never_due() {
        let deadlines = Expirations::default();
        for not_live in [grant(None, false), grant(Some(100), true)] {
            deadlines.follow(&grant(Some(100), false));
            deadlines.follow(&not_live);
            assert_eq!(deadlines.take_due(second(200)).0.len(), 0);
        }
    }

    #[test]
    fn the_longest_sleep_is_15s() {
        let deadlines = Expirations::default();
        deadlines.follow(&grant(Some(1_000_000), false));
        assert_eq!(deadlines.take_due(second(0)).1, LONGEST_SLEEP);
    }

    #[tokio::test]
    async fn a_new_expiry_wakes_the_waiter() {
        let deadlines = Expirations::default();
        let woken = deadlines.changed();
        deadlines.follow(&grant(Some(100), false));
        tokio::time::timeout(Duration::from_secs(5), woken).await.unwrap();
    }
}
