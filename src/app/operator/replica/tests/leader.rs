//! With the clock paused: two replicas before one Lease, of whom one fails in one way or another.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::stream;
use kube::core::Status;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::*;
use crate::core::replica::leader::{ASIDE, DURATION, LEADS_FOR, LeaseTerms, RENEW_EVERY};

/// How long an answer takes.
const ANSWERS_IN: Duration = Duration::from_millis(5);

/// Longest that anything may take which happens at once: an answer, and what is told of it.
const AT_ONCE: Duration = Duration::from_millis(20);

type Change = Result<Option<LeaseFacts>, watcher::Error>;

/// One Lease, and whoever watches it.
#[derive(Default)]
struct Store {
    lease: Mutex<Option<LeaseFacts>>,
    versions: AtomicUsize,
    watches: Mutex<Vec<mpsc::UnboundedSender<Change>>>,
}

impl Store {
    fn put(&self, terms: LeaseTerms) -> LeaseFacts {
        let version = self.versions.fetch_add(1, Ordering::Relaxed) + 1;
        let stored = LeaseFacts {
            terms,
            version: version.to_string(),
        };
        *self.lease.lock() = Some(stored.clone());
        for watch in self.watches.lock().iter() {
            watch.send(Ok(Some(stored.clone()))).ok();
        }
        stored
    }

    fn current(&self) -> Option<LeaseFacts> {
        self.lease.lock().clone()
    }

    fn holder(&self) -> Option<String> {
        self.current()?.terms.holder
    }
}

/// One replica's way to it.
struct Way {
    store: Arc<Store>,
    broken: AtomicBool,
}

impl Registry for Way {
    fn read(&self) -> BoxFuture<'_, Result<Option<LeaseFacts>, Error>> {
        async {
            self.pass().await;
            Ok(self.store.current())
        }
        .boxed()
    }

    fn write<'a>(&'a self, write: &'a LeaseWrite) -> BoxFuture<'a, Result<LeaseFacts, Error>> {
        async {
            self.pass().await;
            let current = self.store.current().map(|lease| lease.version);
            if current == write.expected {
                Ok(self.store.put(write.terms.clone()))
            } else {
                let status = Status::failure("it has changed", "Conflict").with_code(409);
                Err(Error::of("write Lease", kube::Error::Api(status.boxed())))
            }
        }
        .boxed()
    }
}

impl Way {
    /// Nobody answers over a broken one.
    async fn pass(&self) {
        if self.broken.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        sleep(ANSWERS_IN).await;
    }
}

struct Replica {
    way: Arc<Way>,
    leadership: Leadership,
    candidacy: Candidacy,
    readiness: Readiness,
    unfit: watch::Sender<bool>,
}

impl Replica {
    fn start(store: &Arc<Store>, instance: &str, entropy: u64) -> Self {
        let way = Arc::new(Way {
            store: Arc::clone(store),
            broken: AtomicBool::new(false),
        });
        let (told, mut changes) = mpsc::unbounded_channel();
        store.watches.lock().push(told);
        let readiness = Readiness::default();
        let unfit = watch::Sender::new(false);
        let (campaign, leadership) = Campaign::new(
            Arc::clone(&way) as Arc<dyn Registry>,
            ReplicaId::new(instance, entropy),
            readiness.clone(),
            Metrics::new(),
            unfit.subscribe(),
        );
        let watch = stream::poll_fn(move |context| changes.poll_recv(context));
        let candidacy = campaign.start(watch, std::future::ready(()));
        Self {
            way,
            leadership,
            candidacy,
            readiness,
            unfit,
        }
    }

    /// Cut off from the API server.
    fn cut_off(&self) {
        self.way.broken.store(true, Ordering::Relaxed);
    }

    /// Killed: nothing is given back.
    fn die(&self) {
        self.candidacy.running.abort();
    }

    async fn leads_within(&self, limit: Duration) -> Term {
        timeout(limit, self.leadership.begins())
            .await
            .expect("it does not lead")
    }
}

/// How long until that has happened.
async fn takes<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let since = Instant::now();
    let done = timeout(Duration::from_mins(5), what)
        .await
        .expect("it never happened");
    (done, since.elapsed())
}

/// Two replicas, of which the first leads.
async fn two() -> (Arc<Store>, Replica, Replica) {
    let store = Arc::<Store>::default();
    let first = Replica::start(&store, "curfew-a", 1);
    first.leads_within(AT_ONCE).await;
    let second = Replica::start(&store, "curfew-b", 2);
    sleep(AT_ONCE).await;
    assert!(!second.leadership.leads());
    assert!(second.readiness.missing().is_empty());
    (store, first, second)
}

#[tokio::test(start_paused = true)]
async fn a_live_leader_keeps_one_term() {
    let (store, first, second) = two().await;
    let term = first.leadership.term().unwrap();
    assert!(timeout(Duration::from_hours(1), term.ends()).await.is_err());
    assert!(first.leadership.leads() && !second.leadership.leads());
    assert_eq!(store.current().unwrap().terms.transitions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_returned_lease_is_taken_at_once() {
    let (store, first, second) = two().await;
    sleep(Duration::from_secs(61)).await;
    let (_, took) = takes(async {
        first.candidacy.resign().await;
        assert!(!first.leadership.leads());
        second.leadership.begins().await
    })
    .await;
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(store.holder().unwrap(), "curfew-b_0000000000000002");
    assert_eq!(store.current().unwrap().terms.transitions, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_when_its_lease_expires() {
    let (_store, first, second) = two().await;
    first.die();
    let (_, took) = takes(second.leadership.begins()).await;
    assert!(
        took <= DURATION + AT_ONCE && took + RENEW_EVERY > DURATION,
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_disconnected_leader_stops_before_another_begins() {
    let (_store, first, second) = two().await;
    let term = first.leadership.term().unwrap();
    first.cut_off();
    let ((), stopped) = takes(term.ends()).await;
    assert!(stopped <= LEADS_FOR && !first.leadership.leads(), "{stopped:?}");
    let (_, between) = takes(second.leadership.begins()).await;
    assert!(between + LEADS_FOR >= DURATION, "{between:?}");
    assert!(!first.readiness.missing().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_term_drops_the_work_of_the_leader() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (_store, first, _second) = two().await;
    let term = first.leadership.term().unwrap();
    assert_eq!(term.run(async { 7 }).await, Some(7));
    first.cut_off();
    let dropped = Arc::<AtomicBool>::default();
    let held = Dropped(Arc::clone(&dropped));
    let work = async move {
        std::future::pending::<()>().await;
        drop(held);
    };
    let (done, took) = takes(term.run(work)).await;
    assert!(done.is_none() && dropped.load(Ordering::Relaxed));
    assert!(took <= LEADS_FOR, "{took:?}");
    assert_eq!(term.run(async { 7 }).await, None, "it is over");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_is_taken_stops_at_once() {
    let (store, first, second) = two().await;
    let term = first.leadership.term().unwrap();
    let thief = LeaseTerms {
        holder: Some("thief".to_owned()),
        ..store.current().unwrap().terms
    };
    store.put(thief);
    let ((), stopped) = takes(term.ends()).await;
    assert!(stopped < AT_ONCE, "{stopped:?}");
    let begins = async {
        tokio::select! {
            term = first.leadership.begins() => term,
            term = second.leadership.begins() => term,
        }
    };
    let (_, took) = takes(begins).await;
    assert!(took >= DURATION && took < DURATION + AT_ONCE, "{took:?}");
    assert_ne!(first.leadership.leads(), second.leadership.leads());
}

#[tokio::test(start_paused = true)]
async fn a_regained_lease_begins_a_new_term() {
    let (store, first, second) = two().await;
    second.die();
    let before = first.leadership.term().unwrap();
    store.put(LeaseTerms {
        holder: None,
        ..store.current().unwrap().terms
    });
    let ((), took) = takes(before.ends()).await;
    assert!(took < AT_ONCE, "{took:?}");
    let after = first.leads_within(AT_ONCE).await;
    assert!(timeout(Duration::from_mins(1), after.ends()).await.is_err());
    let ((), none) = takes(before.ends()).await;
    assert_eq!(none, Duration::ZERO, "the earlier term is over for good");
}

#[tokio::test(start_paused = true)]
async fn an_unfit_leader_hands_over() {
    let (_store, first, second) = two().await;
    let term = first.leadership.term().unwrap();
    first.unfit.send_replace(true);
    // It looks when it renews.
    let ((), stopped) = takes(term.ends()).await;
    assert!(stopped <= RENEW_EVERY + AT_ONCE, "{stopped:?}");
    let (next, took) = takes(second.leadership.begins()).await;
    assert!(took < AT_ONCE, "{took:?}");
    assert!(timeout(Duration::from_hours(1), next.ends()).await.is_err());
    assert!(!first.leadership.leads());
}

#[tokio::test(start_paused = true)]
async fn an_unfit_leader_without_successor_leads_on_except_for_moments() {
    let (_store, first, second) = two().await;
    second.die();
    let term = first.leadership.term().unwrap();
    first.unfit.send_replace(true);
    let ((), _) = takes(term.ends()).await;
    let (again, took) = takes(first.leadership.begins()).await;
    assert!(took <= ASIDE + AT_ONCE, "{took:?}");
    let ((), led) = takes(again.ends()).await;
    assert!(led + ASIDE + AT_ONCE >= ASIDE_EVERY, "{led:?}");
    let fit = first.leads_within(ASIDE + AT_ONCE).await;
    first.unfit.send_replace(false);
    assert!(timeout(Duration::from_hours(1), fit.ends()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn if_all_replicas_are_unfit_one_keeps_the_lease() {
    let (store, first, second) = two().await;
    for replica in [&first, &second] {
        replica.unfit.send_replace(true);
    }
    sleep(Duration::from_secs(30)).await;
    let holder = store.holder().unwrap();
    let transitions = store.current().unwrap().terms.transitions;
    assert!(transitions <= 3, "{transitions}");
    sleep(Duration::from_mins(4)).await;
    assert_eq!(store.holder().unwrap(), holder);
    assert_ne!(first.leadership.leads(), second.leadership.leads());
}

#[tokio::test(start_paused = true)]
async fn a_restarted_process_does_not_wait_for_its_own_lease() {
    let (_store, first, second) = two().await;
    first.die();
    let again = Replica::start(&first.way.store, "curfew-a", 3);
    again.leads_within(AT_ONCE).await;
    assert!(!second.leadership.leads());
}

#[tokio::test(start_paused = true)]
async fn a_resign_during_a_renewal_returns_the_renewed_lease() {
    let (store, first, second) = two().await;
    // Right when it renews.
    let renewed = store.current().unwrap().version;
    while store.current().unwrap().version == renewed {
        sleep(Duration::from_millis(1)).await;
    }
    let (_, took) = takes(async {
        first.candidacy.resign().await;
        second.leadership.begins().await
    })
    .await;
    assert!(took < 3 * AT_ONCE, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_older_lease_ends_the_campaign_of_leader_and_follower() {
    let (store, mut first, mut second) = two().await;
    sleep(RENEW_EVERY * 10).await;
    // A backup of the beginning, of which no watch tells.
    let mut old = store.current().unwrap();
    old.version = "1".to_owned();
    *store.lease.lock() = Some(old);
    let ((), took) = takes(first.candidacy.is_put_back()).await;
    assert!(took <= RENEW_EVERY + AT_ONCE * 2, "{took:?}");
    let ((), took) = takes(second.candidacy.is_put_back()).await;
    assert!(took <= DURATION + AT_ONCE * 2, "{took:?}");
    assert_eq!(store.current().unwrap().version, "1", "somebody wrote it");
}
