//! Priority queue for requests to the API server: revoke before grant before bookkeeping.
//!
//! A thousand grants that end in the same second cause about nine thousand writes, and each write costs 2.5 to 5 ms of
//! control-plane CPU. So the order of the writes decides how late access ends, not their speed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::core::plan::effect::Precedence;

/// Default number of permits in each class. Measured with 16 workers against a control plane on two cores: of 1,000
/// grants that ended in the same second, access was gone after 1.0 s (median) and 1.8 to 2.2 s (99th percentile).
pub const SLOTS: usize = 16;

/// How long bookkeeping waits while access is granted or revoked. 1,000 simultaneous revocations take about 2 s, so
/// even their bookkeeping waits for all of them. With 10 s, short access in a burst of 200 ended before its start was
/// recorded.
pub const RECORD_PATIENCE: Duration = Duration::from_secs(2);

/// Permits for impatient bookkeeping while access is granted or revoked. Bookkeeping cannot starve, and access keeps
/// most of the API server's capacity. With as many permits as access has, a burst of 1,000 grants reached 0.20 of the
/// rate of a client that creates only bindings.
pub const RECORDS_BESIDE: usize = 4;

/// Most concurrent requests of each class. A limit of 0 counts as 1; otherwise that class would never progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Requests that revoke access.
    pub end: usize,
    /// Requests that grant access.
    pub begin: usize,
    /// Bookkeeping.
    pub record: usize,
    /// Bookkeeping while access is granted or revoked; at most `record`.
    pub beside: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            end: SLOTS,
            begin: SLOTS,
            record: SLOTS,
            beside: RECORDS_BESIDE,
        }
    }
}

/// Queue of requests to the API server, with a priority for each purpose. Clones share the permits.
///
/// # Guarantees
/// - Revocations and new access each have their own permits; nothing else takes them.
/// - Bookkeeping starts if no access is being granted or revoked, or waits for that: at most [`RequestLimits::record`] at
///   once. After [`RECORD_PATIENCE`] it starts anyway, so that it cannot starve, but at most [`RequestLimits::beside`] at
///   once.
/// - Within a class, first come, first served. [Overdue](Slots::enter_overdue) revocations come after requests that
///   waited already; among overdue ones, the oldest expiry is first.
#[derive(Clone)]
pub struct RequestQueue {
    admission: Arc<Mutex<Admission>>,
}

impl RequestQueue {
    /// A queue with all permits free.
    pub fn new(limits: RequestLimits) -> Self {
        Self {
            admission: Arc::new(Mutex::new(Admission {
                end: Class::new(limits.end),
                begin: Class::new(limits.begin),
                record: Class::new(limits.record),
                beside: limits.beside.max(1),
                tickets: 0,
            })),
        }
    }

    /// Waits for a permit. It returns to the queue when the guard is dropped.
    ///
    /// # Guarantees
    /// Cancel safe: a future that is dropped while it waits leaves the queue. A future that is dropped after it got a
    /// permit returns the permit.
    pub async fn enter(&self, precedence: Precedence) -> Permit {
        self.queue(precedence, None).await
    }

    /// Waits for a permit to revoke access that expired at `due`, before access that expired later.
    ///
    /// For use after an outage only. If the oldest expiry were always first, a revocation that never succeeds would
    /// delay all others.
    pub async fn enter_overdue(&self, due: Timestamp) -> Permit {
        self.queue(Precedence::End, Some(due)).await
    }

    async fn queue(&self, precedence: Precedence, due: Option<Timestamp>) -> Permit {
        let (admitted, admission) = oneshot::channel();
        let (place, since) = self.admission.lock().queue(precedence, due, admitted);
        // If this future is dropped from here on, the guard leaves the queue or returns the permit.
        let guard = Permit {
            admission: Arc::clone(&self.admission),
            precedence,
            place,
        };
        admit(&self.admission);
        // The sender leaves the queue only with a permit, so every result means "admitted".
        match precedence {
            Precedence::End | Precedence::Begin => drop(admission.await),
            Precedence::Record => {
                let mut admission = admission;
                if timeout_at(since + RECORD_PATIENCE, &mut admission).await.is_err() {
                    admit(&self.admission);
                    drop(admission.await);
                }
            }
        }
        guard
    }
}

impl fmt::Debug for RequestQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let admission = self.admission.lock();
        let mut all = f.debug_struct("Slots");
        for (name, class) in [
            ("end", &admission.end),
            ("begin", &admission.begin),
            ("record", &admission.record),
        ] {
            all.field(name, &(class.running, class.waiting.len()));
        }
        all.finish()
    }
}

/// A permit. Dropping it returns the permit.
#[must_use = "the permit is returned as soon as the guard is dropped"]
pub struct Permit {
    admission: Arc<Mutex<Admission>>,
    precedence: Precedence,
    place: Place,
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Dropped after the lock is released, because dropping a waiter may wake a task.
        let given_up = self.admission.lock().leave(self.precedence, self.place);
        drop(given_up);
        admit(&self.admission);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SlotGuard").field(&self.precedence).finish()
    }
}

struct Admission {
    end: Class,
    begin: Class,
    record: Class,
    beside: usize,
    /// Tickets issued so far, over all classes.
    tickets: u64,
}

/// One class of requests.
///
/// Invariant after every [`admit`]: requests for access wait only while all permits are taken. So "none runs" implies
/// "none waits".
struct Class {
    limit: usize,
    running: usize,
    /// A request that leaves the map is counted in `running`, or was dropped.
    waiting: BTreeMap<Place, Waiting>,
}

/// A place in a queue: the expiry, of overdue revocations only, and the ticket.
type Place = (Option<Timestamp>, u64);

struct Waiting {
    since: Instant,
    admitted: oneshot::Sender<()>,
}

impl Admission {
    fn class(&mut self, precedence: Precedence) -> &mut Class {
        match precedence {
            Precedence::End => &mut self.end,
            Precedence::Begin => &mut self.begin,
            Precedence::Record => &mut self.record,
        }
    }

    fn queue(
        &mut self,
        precedence: Precedence,
        due: Option<Timestamp>,
        admitted: oneshot::Sender<()>,
    ) -> (Place, Instant) {
        // Read under the lock, so that patience ends in the order of the queue.
        let since = Instant::now();
        self.tickets += 1;
        let place = (due, self.tickets);
        let waiting = Waiting { since, admitted };
        self.class(precedence).waiting.insert(place, waiting);
        (place, since)
    }

    /// Leaves the queue; if it left the queue already, returns the permit.
    fn leave(&mut self, precedence: Precedence, place: Place) -> Option<Waiting> {
        let class = self.class(precedence);
        let given_up = class.waiting.remove(&place);
        if given_up.is_none() {
            class.running -= 1;
        }
        given_up
    }

    fn admit(&mut self, now: Instant) -> Vec<oneshot::Sender<()>> {
        let mut admitted = Vec::new();
        self.end.admit(self.end.limit, &mut admitted, |_| true);
        self.begin.admit(self.begin.limit, &mut admitted, |_| true);
        if self.end.running == 0 && self.begin.running == 0 {
            self.record.admit(self.record.limit, &mut admitted, |_| true);
        } else {
            let limit = self.beside.min(self.record.limit);
            self.record.admit(limit, &mut admitted, |waiting| {
                now.duration_since(waiting.since) >= RECORD_PATIENCE
            });
        }
        admitted
    }
}

impl Class {
    fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            running: 0,
            waiting: BTreeMap::new(),
        }
    }

    fn admit(
        &mut self,
        limit: usize,
        admitted: &mut Vec<oneshot::Sender<()>>,
        may_enter: impl Fn(&Waiting) -> bool,
    ) {
        while self.running < limit
            && let Some(first) = self.waiting.first_entry()
            && may_enter(first.get())
        {
            self.running += 1;
            admitted.push(first.remove().admitted);
        }
    }
}

fn admit(admission: &Mutex<Admission>) {
    let admitted = admission.lock().admit(Instant::now());
    // After the lock is released, because waking may run any task.
    for waiting in admitted {
        // A receiver that is gone has a guard that is being dropped, which returns the permit.
        waiting.send(()).ok();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::join_all;
    use tokio::task::JoinSet;
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    fn slots(end: usize, begin: usize, record: usize) -> RequestQueue {
        RequestQueue::new(RequestLimits {
            end,
            begin,
            record,
            beside: record,
        })
    }

    /// (running, waiting) of End, Begin and Record.
    fn counts(slots: &RequestQueue) -> [(usize, usize); 3] {
        let admission = slots.admission.lock();
        [&admission.end, &admission.begin, &admission.record]
            .map(|class| (class.running, class.waiting.len()))
    }

    const ALL_FREE: [(usize, usize); 3] = [(0, 0); 3];

    #[tokio::test(start_paused = true)]
    async fn revocations_get_permits_while_all_other_classes_are_full() {
        let slots = RequestQueue::new(RequestLimits::default());
        let mut others = JoinSet::new();
        for precedence in [Precedence::Record, Precedence::Begin] {
            for _ in 0..100 {
                let slots = slots.clone();
                others.spawn(async move {
                    let _slot = slots.enter(precedence).await;
                    sleep(Duration::from_hours(1)).await;
                });
            }
        }
        sleep(Duration::from_mins(1)).await;
        assert_eq!(counts(&slots), [(0, 0), (SLOTS, 84), (SLOTS, 84)]);
        let ending: Vec<_> = (0..SLOTS)
            .map(|_| slots.enter(Precedence::End).now_or_never().unwrap())
            .collect();
        assert!(slots.enter(Precedence::End).now_or_never().is_none());
        drop(ending);
        others.shutdown().await;
        assert_eq!(counts(&slots), ALL_FREE);
    }

    #[tokio::test(start_paused = true)]
    async fn revocations_take_no_permit_from_new_access() {
        let slots = slots(2, 1, 1);
        let _ending = join_all([slots.enter(Precedence::End), slots.enter(Precedence::End)]).await;
        assert!(slots.enter(Precedence::End).now_or_never().is_none());
        assert!(slots.enter(Precedence::Begin).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_revocations_finish_before_any_bookkeeping() {
        let slots = RequestQueue::new(RequestLimits::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut grants = JoinSet::new();
        for _ in 0..1_000 {
            let (slots, order) = (slots.clone(), Arc::clone(&order));
            grants.spawn(async move {
                for precedence in [Precedence::End, Precedence::Record] {
                    let _slot = slots.enter(precedence).await;
                    order.lock().push(precedence);
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
        grants.join_all().await;
        let order = order.lock();
        assert_eq!(order.len(), 2_000);
        assert!(order[..1_000].iter().all(|of| *of == Precedence::End));
        assert_eq!(counts(&slots), ALL_FREE);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_of_one_class_are_served_in_order_of_arrival() {
        for precedence in [Precedence::End, Precedence::Begin, Precedence::Record] {
            let slots = slots(1, 1, 1);
            let order = Mutex::new(Vec::new());
            join_all((0..100).map(async |number| {
                let _slot = slots.enter(precedence).await;
                order.lock().push(number);
                sleep(Duration::from_millis(1)).await;
            }))
            .await;
            assert_eq!(order.into_inner(), (0..100).collect::<Vec<_>>());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn overdue_revocations_queue_by_expiry_after_waiting_requests() {
        let slots = slots(1, 1, 1);
        let order = Mutex::new(Vec::new());
        let serve = async |name: &'static str, slot: Permit| {
            order.lock().push(name);
            sleep(Duration::from_millis(1)).await;
            drop(slot);
        };
        let due = |second| slots.enter_overdue(Timestamp::from_second(second).unwrap());
        tokio::join!(
            async { serve("running", slots.enter(Precedence::End).await).await },
            async { serve("before", slots.enter(Precedence::End).await).await },
            async { serve("due at 30", due(30).await).await },
            async { serve("due at 10", due(10).await).await },
            async { serve("due at 20", due(20).await).await },
        );
        assert_eq!(
            order.into_inner(),
            ["running", "before", "due at 10", "due at 20", "due at 30"]
        );
        assert_eq!(counts(&slots), ALL_FREE);
    }

    #[tokio::test(start_paused = true)]
    async fn bookkeeping_starts_at_once_if_no_access_changes() {
        let slots = slots(1, 1, 2);
        let first = slots.enter(Precedence::Record).now_or_never().unwrap();
        let _second = slots.enter(Precedence::Record).now_or_never().unwrap();
        assert!(slots.enter(Precedence::Record).now_or_never().is_none());
        drop(first);
        assert!(slots.enter(Precedence::Record).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn bookkeeping_waits_until_the_last_access_request_is_done() {
        let slots = slots(1, 1, 1);
        let ending = slots.enter(Precedence::End).await;
        let making = slots.enter(Precedence::Begin).await;
        let mut record = Box::pin(slots.enter(Precedence::Record));
        assert!((&mut record).now_or_never().is_none());
        drop(ending);
        assert!((&mut record).now_or_never().is_none());
        drop(making);
        assert!((&mut record).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn bookkeeping_starts_after_two_seconds_at_the_latest() {
        let slots = slots(1, 1, 1);
        let _ending = slots.enter(Precedence::End).await;
        let asked = Instant::now();
        let record = timeout(Duration::from_mins(1), slots.enter(Precedence::Record))
            .await
            .unwrap();
        assert_eq!(asked.elapsed(), RECORD_PATIENCE);
        drop(record);
        assert_eq!(counts(&slots), [(1, 0), (0, 0), (0, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn impatient_bookkeeping_gets_few_permits_while_access_changes() {
        let slots = RequestQueue::new(RequestLimits {
            end: 1,
            begin: 1,
            record: 3,
            beside: 1,
        });
        let ending = slots.enter(Precedence::End).await;
        let mut records: Vec<_> = (0..4)
            .map(|_| Box::pin(slots.enter(Precedence::Record)))
            .collect();
        for record in &mut records {
            assert!(record.now_or_never().is_none());
        }
        advance(RECORD_PATIENCE).await;
        let _entered: Vec<_> = records.iter_mut().filter_map(FutureExt::now_or_never).collect();
        assert_eq!(counts(&slots), [(1, 0), (0, 0), (1, 3)]);
        drop(ending);
        assert_eq!(counts(&slots), [(0, 0), (0, 0), (3, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn impatient_bookkeeping_keeps_its_limit_and_order() {
        let slots = slots(1, 1, 2);
        let _ending = slots.enter(Precedence::End).await;
        let started = Instant::now();
        let entered = Mutex::new(Vec::new());
        join_all((0..5_u64).map(async |number| {
            let _slot = slots.enter(Precedence::Record).await;
            entered.lock().push((number, started.elapsed().as_secs()));
            sleep(Duration::from_secs(12)).await;
        }))
        .await;
        let entered = entered.into_inner();
        assert_eq!(entered, [(0, 2), (1, 2), (2, 14), (3, 14), (4, 26)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_stops_waiting_leaves_the_queue() {
        let slots = slots(1, 1, 1);
        let holder = slots.enter(Precedence::End).await;
        for precedence in [Precedence::End, Precedence::Record] {
            assert!(
                timeout(Duration::from_millis(5), slots.enter(precedence))
                    .await
                    .is_err()
            );
        }
        assert_eq!(counts(&slots), [(1, 0), (0, 0), (0, 0)]);
        drop(holder);
        assert!(slots.enter(Precedence::Record).now_or_never().is_some());
        assert_eq!(counts(&slots), ALL_FREE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_for_a_dropped_request_goes_to_the_next() {
        let slots = slots(1, 1, 1);
        let holder = slots.enter(Precedence::End).await;
        let mut gone = Box::pin(slots.enter(Precedence::End));
        assert!((&mut gone).now_or_never().is_none());
        let mut next = Box::pin(slots.enter(Precedence::End));
        assert!((&mut next).now_or_never().is_none());
        // Admits `gone`, which has not been polled since.
        drop(holder);
        assert_eq!(counts(&slots), [(1, 1), (0, 0), (0, 0)]);
        drop(gone);
        assert!((&mut next).now_or_never().is_some());
        assert_eq!(counts(&slots), ALL_FREE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_leaves_the_middle_keeps_the_order_of_the_rest() {
        let slots = slots(1, 1, 1);
        let holder = slots.enter(Precedence::Begin).await;
        let mut queue: Vec<_> = (0..3).map(|_| Box::pin(slots.enter(Precedence::Begin))).collect();
        for waiting in &mut queue {
            assert!(waiting.now_or_never().is_none());
        }
        drop(queue.remove(1));
        drop(holder);
        assert!((&mut queue[1]).now_or_never().is_none());
        assert!((&mut queue[0]).now_or_never().is_some());
        assert!((&mut queue[1]).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_zero_counts_as_one() {
        let slots = slots(0, 0, 0);
        for precedence in [Precedence::End, Precedence::Begin, Precedence::Record] {
            assert!(slots.enter(precedence).now_or_never().is_some());
        }
    }

    /// Uses real threads, and drops futures in every stage: waiting, just admitted, running.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_permit_is_lost_if_a_third_of_thousands_give_up() {
        let slots = slots(3, 2, 2);
        let mut tasks = JoinSet::new();
        for number in 0..6_000_u64 {
            let slots = slots.clone();
            tasks.spawn(async move {
                let precedence = match number % 3 {
                    0 => Precedence::End,
                    1 => Precedence::Begin,
                    _ => Precedence::Record,
                };
                let work = async {
                    let _slot = slots.enter(precedence).await;
                    tokio::task::yield_now().await;
                };
                if number % 7 < 2 {
                    // Gives up after a few polls at most.
                    tokio::select! {
                        biased;
                        () = work => {}
                        () = async { for _ in 0..number % 5 { tokio::task::yield_now().await } } => {}
                    }
                } else {
                    work.await;
                }
            });
        }
        timeout(Duration::from_mins(1), tasks.join_all()).await.unwrap();
        assert_eq!(counts(&slots), ALL_FREE);
    }

    #[tokio::test(start_paused = true)]
    async fn impatient_bookkeeping_starts_as_soon_as_a_permit_is_free() {
        let slots = slots(1, 1, 1);
        let record = slots.enter(Precedence::Record).await;
        let _ending = slots.enter(Precedence::End).await;
        let mut waiting = Box::pin(slots.enter(Precedence::Record));
        assert!((&mut waiting).now_or_never().is_none());
        advance(RECORD_PATIENCE).await;
        assert!((&mut waiting).now_or_never().is_none());
        drop(record);
        assert!((&mut waiting).now_or_never().is_some());
    }
}
