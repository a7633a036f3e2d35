//! Who may talk to the API server next.
//!
//! A thousand grants that end in one second owe the API server about nine thousand writes, and every write costs
//! 2.5 to 5 ms of control-plane CPU. What decides how late access ends is therefore the order of the writes, not
//! their speed: first everything that ends access, then what makes it, and bookkeeping when neither is under way.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::core::Precedence;

/// Slots of each class unless told otherwise. Measured with 16 workers against a control plane on two cores: the
/// access of 1,000 grants that ended in one second was gone after 1.0 s (median) and 1.8 to 2.2 s (99th percentile).
pub const SLOTS: usize = 16;

/// How long bookkeeping yields to access. 2 s is about what 1,000 ends at once take, so that even then their
/// bookkeeping comes after all of them. With 10 s, short access in a burst of 200 was over before its beginning had
/// been told.
pub const RECORD_PATIENCE: Duration = Duration::from_secs(2);

/// Slots of bookkeeping that has lost patience while access is under way: it cannot starve, and access keeps most of
/// what the API server can do. With as many as for access, a burst of 1,000 grants was made at 0.20 of the rate of a
/// client that makes bindings only.
pub const RECORDS_BESIDE: usize = 4;

/// How many requests of each class are under way at once. A limit of 0 counts as 1: nothing of that class would
/// ever be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotLimits {
    /// Requests that end access.
    pub end: usize,
    /// Requests that make access.
    pub begin: usize,
    /// Bookkeeping.
    pub record: usize,
    /// Bookkeeping while access is ended or made; never more than `record`.
    pub beside: usize,
}

impl Default for SlotLimits {
    fn default() -> Self {
        Self {
            end: SLOTS,
            begin: SLOTS,
            record: SLOTS,
            beside: RECORDS_BESIDE,
        }
    }
}

/// Admits requests to the API server by what they are for. Clones share the slots.
///
/// - Ending access and making access have slots of their own, which nothing else takes.
/// - Bookkeeping enters while no access is being ended or made, or waits for it: at most [`SlotLimits::record`] are
///   under way. After [`RECORD_PATIENCE`] it enters regardless, so that it cannot starve, while fewer than
///   [`SlotLimits::beside`] are under way.
/// - Within a class, first come, first served; what was overdue when it [came](Slots::enter_overdue) waits for whoever
///   came before that, and among each other the oldest end is first.
#[derive(Clone)]
pub struct Slots {
    admission: Arc<Mutex<Admission>>,
}

impl Slots {
    /// All slots free.
    pub fn new(limits: SlotLimits) -> Self {
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

    /// Waits for a slot, which is held until the guard is dropped.
    ///
    /// Cancel safe: a future dropped while it waits gives up its place in the queue, and one dropped after it was
    /// admitted gives the slot back.
    pub async fn enter(&self, precedence: Precedence) -> SlotGuard {
        self.queue(precedence, None).await
    }

    /// Waits for a slot to end access that was due then, like [`enter`](Self::enter), before whoever is due later. For
    /// when much has become overdue at once: what can never be ended would keep others from it, if it always were first.
    pub async fn enter_overdue(&self, due: Timestamp) -> SlotGuard {
        self.queue(Precedence::End, Some(due)).await
    }

    async fn queue(&self, precedence: Precedence, due: Option<Timestamp>) -> SlotGuard {
        let (admitted, admission) = oneshot::channel();
        let (place, since) = lock(&self.admission).queue(precedence, due, admitted);
        // From here on dropping this future drops the guard, wherever its place has got to by then.
        let guard = SlotGuard {
            admission: Arc::clone(&self.admission),
            precedence,
            place,
        };
        admit(&self.admission);
        // The sender leaves the queue only when the slot is ours, so any answer means "admitted".
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

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let admission = lock(&self.admission);
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

/// A slot, held until this is dropped.
#[must_use = "the slot is given back as soon as the guard is dropped"]
pub struct SlotGuard {
    admission: Arc<Mutex<Admission>>,
    precedence: Precedence,
    place: Place,
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        // Bound, so that the waiter is dropped after the lock is released: dropping it may wake a task.
        let given_up = lock(&self.admission).leave(self.precedence, self.place);
        drop(given_up);
        admit(&self.admission);
    }
}

impl fmt::Debug for SlotGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SlotGuard").field(&self.precedence).finish()
    }
}

struct Admission {
    end: Class,
    begin: Class,
    record: Class,
    beside: usize,
    /// Tickets given out so far, over all classes.
    tickets: u64,
}

/// Invariant after every [`admit`]: in the classes of access somebody waits only while all slots are taken. So
/// "nobody runs" includes "nobody waits".
struct Class {
    limit: usize,
    running: usize,
    /// Who leaves it has either been counted in `running` or given up.
    waiting: BTreeMap<Place, Waiting>,
}

/// A place in a queue: when it was due, of what had become overdue, and the ticket.
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
        // Read under the lock: patience runs out in the order of the queue.
        let since = Instant::now();
        self.tickets += 1;
        let place = (due, self.tickets);
        let waiting = Waiting { since, admitted };
        self.class(precedence).waiting.insert(place, waiting);
        (place, since)
    }

    /// Gives up the place in the queue, or else the slot.
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

/// A panic cannot leave the counts half changed, so a poisoned lock is as good as any.
fn lock(admission: &Mutex<Admission>) -> MutexGuard<'_, Admission> {
    admission.lock().unwrap_or_else(PoisonError::into_inner)
}

fn admit(admission: &Mutex<Admission>) {
    let admitted = lock(admission).admit(Instant::now());
    // After the lock is released: waking may run anything.
    for waiting in admitted {
        // Who stopped listening has a guard that is being dropped, and that gives the slot back.
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

    fn slots(end: usize, begin: usize, record: usize) -> Slots {
        Slots::new(SlotLimits {
            end,
            begin,
            record,
            beside: record,
        })
    }

    /// (running, waiting) of End, Begin and Record.
    fn counts(slots: &Slots) -> [(usize, usize); 3] {
        let admission = lock(&slots.admission);
        [&admission.end, &admission.begin, &admission.record]
            .map(|class| (class.running, class.waiting.len()))
    }

    const ALL_FREE: [(usize, usize); 3] = [(0, 0); 3];

    #[tokio::test(start_paused = true)]
    async fn nothing_else_delays_the_ending_of_access() {
        let slots = Slots::new(SlotLimits::default());
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
    async fn the_ending_of_access_takes_no_slot_from_the_making() {
        let slots = slots(2, 1, 1);
        let _ending = join_all([slots.enter(Precedence::End), slots.enter(Precedence::End)]).await;
        assert!(slots.enter(Precedence::End).now_or_never().is_none());
        assert!(slots.enter(Precedence::Begin).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_ends_go_before_the_bookkeeping_of_any() {
        let slots = Slots::new(SlotLimits::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut grants = JoinSet::new();
        for _ in 0..1_000 {
            let (slots, order) = (slots.clone(), Arc::clone(&order));
            grants.spawn(async move {
                for precedence in [Precedence::End, Precedence::Record] {
                    let _slot = slots.enter(precedence).await;
                    order.lock().unwrap().push(precedence);
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
        grants.join_all().await;
        let order = order.lock().unwrap();
        assert_eq!(order.len(), 2_000);
        assert!(order[..1_000].iter().all(|of| *of == Precedence::End));
        assert_eq!(counts(&slots), ALL_FREE);
    }

    #[tokio::test(start_paused = true)]
    async fn within_a_class_first_come_is_first_served() {
        for precedence in [Precedence::End, Precedence::Begin, Precedence::Record] {
            let slots = slots(1, 1, 1);
            let order = Mutex::new(Vec::new());
            join_all((0..100).map(async |number| {
                let _slot = slots.enter(precedence).await;
                order.lock().unwrap().push(number);
                sleep(Duration::from_millis(1)).await;
            }))
            .await;
            assert_eq!(order.into_inner().unwrap(), (0..100).collect::<Vec<_>>());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_what_is_overdue_the_oldest_end_is_first_behind_whoever_came_before_the_outage() {
        let slots = slots(1, 1, 1);
        let order = Mutex::new(Vec::new());
        let serve = async |name: &'static str, slot: SlotGuard| {
            order.lock().unwrap().push(name);
            sleep(Duration::from_millis(1)).await;
            drop(slot);
        };
        let due = |second| slots.enter_overdue(Timestamp::from_second(second).unwrap());
        tokio::join!(
            async { serve("the one under way", slots.enter(Precedence::End).await).await },
            async { serve("before", slots.enter(Precedence::End).await).await },
            async { serve("due at 30", due(30).await).await },
            async { serve("due at 10", due(10).await).await },
            async { serve("due at 20", due(20).await).await },
        );
        assert_eq!(
            order.into_inner().unwrap(),
            [
                "the one under way",
                "before",
                "due at 10",
                "due at 20",
                "due at 30"
            ]
        );
        assert_eq!(counts(&slots), ALL_FREE);
    }

    #[tokio::test(start_paused = true)]
    async fn bookkeeping_enters_at_once_while_access_rests() {
        let slots = slots(1, 1, 2);
        let first = slots.enter(Precedence::Record).now_or_never().unwrap();
        let _second = slots.enter(Precedence::Record).now_or_never().unwrap();
        assert!(slots.enter(Precedence::Record).now_or_never().is_none());
        drop(first);
        assert!(slots.enter(Precedence::Record).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn bookkeeping_yields_to_either_kind_of_access_and_enters_when_the_last_of_it_leaves() {
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
    async fn bookkeeping_loses_patience_after_two_seconds() {
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
    async fn bookkeeping_without_patience_takes_few_slots_beside_access_and_all_of_them_after() {
        let slots = Slots::new(SlotLimits {
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
    async fn bookkeeping_without_patience_still_keeps_its_limit_and_order() {
        let slots = slots(1, 1, 2);
        let _ending = slots.enter(Precedence::End).await;
        let started = Instant::now();
        let entered = Mutex::new(Vec::new());
        join_all((0..5_u64).map(async |number| {
            let _slot = slots.enter(Precedence::Record).await;
            entered
                .lock()
                .unwrap()
                .push((number, started.elapsed().as_secs()));
            sleep(Duration::from_secs(12)).await;
        }))
        .await;
        let entered = entered.into_inner().unwrap();
        assert_eq!(entered, [(0, 2), (1, 2), (2, 14), (3, 14), (4, 26)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_is_not_counted_as_waiting() {
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
    async fn a_slot_given_to_somebody_who_no_longer_listens_goes_to_the_next() {
        let slots = slots(1, 1, 1);
        let holder = slots.enter(Precedence::End).await;
        let mut gone = Box::pin(slots.enter(Precedence::End));
        assert!((&mut gone).now_or_never().is_none());
        let mut next = Box::pin(slots.enter(Precedence::End));
        assert!((&mut next).now_or_never().is_none());
        // Admits `gone`, which has not looked yet.
        drop(holder);
        assert_eq!(counts(&slots), [(1, 1), (0, 0), (0, 0)]);
        drop(gone);
        assert!((&mut next).now_or_never().is_some());
        assert_eq!(counts(&slots), ALL_FREE);
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_in_the_middle_of_the_queue_keeps_the_order_of_the_rest() {
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

    /// Real threads, and futures dropped at every stage: waiting, just admitted, running.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nothing_is_lost_when_thousands_enter_and_a_third_gives_up() {
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
    async fn no_timer_is_needed_to_let_bookkeeping_in_that_lost_patience_while_its_slots_were_taken() {
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
