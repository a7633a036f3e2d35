//! With the clock paused: what is asked of the world, when, and what passes are told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};

use super::*;
use crate::app::operator::triggers::{Triggered, triggers};

type Answer = Result<GuardState, String>;

/// How long the world takes to answer.
const ANSWERS_IN: Duration = Duration::from_millis(30);

/// A world whose answers the test sets.
struct World {
    specs: Mutex<Answer>,
    here: Mutex<Answer>,
    open: Mutex<Vec<String>>,
    compared: AtomicUsize,
    forged: AtomicUsize,
}

impl Probe for Arc<World> {
    fn compare(&self) -> BoxFuture<'_, Answer> {
        async {
            self.compared.fetch_add(1, Ordering::Relaxed);
            sleep(ANSWERS_IN).await;
            self.specs.lock().clone()
        }
        .boxed()
    }

    fn forge<'a>(&'a self, _: &'a GrantKey) -> BoxFuture<'a, Answer> {
        async {
            self.forged.fetch_add(1, Ordering::Relaxed);
            sleep(ANSWERS_IN).await;
            self.here.lock().clone()
        }
        .boxed()
    }

    fn open_namespaces(&self) -> BTreeMap<String, String> {
        let open = self.open.lock();
        open.iter().map(|name| (name.clone(), "a".to_owned())).collect()
    }

    fn waiting(&self, namespace: &str) -> BTreeSet<GrantKey> {
        [grant(namespace)].into()
    }
}

fn grant(namespace: &str) -> GrantKey {
    GrantKey {
        namespace: namespace.to_owned(),
        name: "a".to_owned(),
    }
}

fn breached(why: &str) -> GuardState {
    GuardState::Breached(why.to_owned())
}

struct Bed {
    world: Arc<World>,
    test: Arc<SelfTest>,
    triggered: Triggered,
    readiness: Readiness,
    metrics: Metrics,
}

impl Bed {
    fn new(open: &[&str]) -> Self {
        let world = Arc::new(World {
            specs: Mutex::new(Ok(GuardState::InForce)),
            here: Mutex::new(Ok(GuardState::InForce)),
            open: Mutex::new(open.iter().map(ToString::to_string).collect()),
            compared: AtomicUsize::new(0),
            forged: AtomicUsize::new(0),
        });
        let (readiness, metrics) = (Readiness::default(), Metrics::new());
        let (triggers, triggered) = triggers();
        let probe = Box::new(Arc::clone(&world));
        let test = SelfTest::new(probe, triggers, readiness.clone(), metrics.clone());
        Self {
            world,
            test: Arc::new(test),
            triggered,
            readiness,
            metrics,
        }
    }

    /// Starts the task in a process that leads. Whoever drops what this answers ends that.
    fn run(&self) -> (watch::Sender<bool>, impl Fn(bool) + use<>) {
        let (synced, receiver) = watch::channel(true);
        let (tell, leadership) = Leadership::as_told();
        tell(true);
        tokio::spawn(Arc::clone(&self.test).run(receiver, leadership));
        (synced, tell)
    }

    fn asked(&self) -> (usize, usize) {
        let count = |number: &AtomicUsize| number.load(Ordering::Relaxed);
        (count(&self.world.compared), count(&self.world.forged))
    }

    fn says(&self, specs: Answer, here: Answer) {
        *self.world.specs.lock() = specs;
        *self.world.here.lock() = here;
    }

    fn in_force(&self) -> bool {
        let text = self.metrics.encode().unwrap();
        text.contains("curfew_guards_in_force 1\n")
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_grants_in_a_new_namespace_cost_one_trial() {
    let bed = Bed::new(&[]);
    let here = grant("prod");
    let began = Instant::now();
    let answers = join_all((0..100).map(|_| bed.test.standing(&here))).await;
    assert!(answers.iter().all(|answer| *answer == GuardState::InForce));
    assert_eq!(bed.asked(), (1, 1));
    assert_eq!(began.elapsed(), 2 * ANSWERS_IN);
    sleep_until(began + VALIDITY).await;
    let later = Instant::now();
    assert_eq!(bed.test.standing(&here).await, GuardState::InForce);
    assert_eq!((bed.asked(), later.elapsed()), ((1, 1), Duration::ZERO));
    sleep(3 * ANSWERS_IN).await;
    assert_eq!(bed.test.standing(&here).await, GuardState::InForce);
    assert_eq!(bed.asked(), (2, 2), "an outdated proof counted");
}

#[tokio::test(start_paused = true)]
async fn open_namespaces_are_tried_once_a_minute_and_closed_ones_never() {
    let bed = Bed::new(&["a", "b", "c"]);
    let _synced = bed.run();
    sleep(Duration::from_secs(59)).await;
    assert_eq!(bed.asked(), (1, 3));
    assert!(bed.in_force());
    assert_eq!(bed.readiness.missing(), Vec::<String>::new());
    sleep(Duration::from_mins(10)).await;
    let (compared, forged) = bed.asked();
    assert!(
        (10..=11).contains(&compared),
        "compared {compared} times in 11 minutes"
    );
    assert!((30..=33).contains(&forged), "forged {forged} times in 11 minutes");
    bed.world.open.lock().clear();
    sleep(Duration::from_mins(10)).await;
    assert!(bed.asked().1 <= forged + 3, "closed namespaces were tried on");
}

#[tokio::test(start_paused = true)]
async fn a_follower_only_compares_and_forgets_breaches() {
    let bed = Bed::new(&["prod"]);
    bed.says(Ok(GuardState::InForce), Ok(breached("accepted")));
    let (_synced, tell) = bed.run();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(bed.readiness.missing(), ["guards: in namespace prod: accepted"]);
    tell(false);
    sleep(LATER + SOON).await;
    assert_eq!(bed.readiness.missing(), Vec::<String>::new());
    let (compared, forged) = bed.asked();
    sleep(Duration::from_mins(10)).await;
    assert_eq!(bed.asked().1, forged, "it forged");
    assert!(bed.asked().0 >= compared + 9, "it does not compare");
    tell(true);
    sleep(3 * ANSWERS_IN).await;
    assert_eq!(bed.asked().1, forged + 1, "a leader tries at once");
}

#[tokio::test(start_paused = true)]
async fn at_most_five_namespaces_a_second_are_tried() {
    let names: Vec<String> = (0..2_000).map(|number| format!("ns-{number}")).collect();
    let bed = Bed::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let _synced = bed.run();
    sleep(Duration::from_mins(1)).await;
    let (_, forged) = bed.asked();
    assert!((200..=300).contains(&forged), "{forged}");
}

#[tokio::test(start_paused = true)]
async fn removed_guards_are_noticed_within_a_minute() {
    let bed = Bed::new(&["prod"]);
    let _synced = bed.run();
    assert_eq!(bed.test.standing(&grant("prod")).await, GuardState::InForce);
    bed.says(Ok(breached("curfew-fuse is absent")), Ok(GuardState::InForce));
    sleep(EVERY + SOON).await;
    let standing = bed.test.standing(&grant("prod")).await;
    assert_eq!(standing.breach(), Some("curfew-fuse is absent"));
    assert!(!bed.in_force());
    assert_eq!(bed.readiness.missing(), ["guards: curfew-fuse is absent"]);
}

#[tokio::test(start_paused = true)]
async fn an_accepted_forgery_stops_access_everywhere_until_a_comparison() {
    let bed = Bed::new(&["a", "b"]);
    let _synced = bed.run();
    for name in ["a", "b"] {
        assert_eq!(bed.test.standing(&grant(name)).await, GuardState::InForce);
    }
    sleep(Duration::from_secs(1)).await;
    let (compared, forged) = bed.asked();
    let more = async |done: fn((usize, usize)) -> usize, than: usize| {
        let waiting = async {
            while done(bed.asked()) == than {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(2 * EVERY, waiting).await.unwrap();
    };
    // The minute's comparison still finds them in force; the trial after it does not.
    more(|asked| asked.0, compared).await;
    sleep(ANSWERS_IN).await;
    bed.says(Ok(breached("curfew-decider is absent")), Ok(breached("accepted")));
    more(|asked| asked.1, forged).await;
    sleep(ANSWERS_IN).await;
    assert_eq!(bed.asked(), (compared + 1, forged + 1));
    for name in ["a", "b"] {
        let standing = bed.test.standing(&grant(name)).await;
        assert!(standing.breach().is_some(), "{name}: {standing:?}");
    }
    assert_eq!(bed.asked(), (compared + 2, forged + 1));
}

#[tokio::test(start_paused = true)]
async fn held_grants_are_reconciled_when_the_guards_are_proven_again() {
    let mut bed = Bed::new(&["prod"]);
    bed.says(Ok(breached("absent")), Ok(GuardState::InForce));
    let _synced = bed.run();
    let standing = bed.test.standing(&grant("prod")).await;
    assert_eq!(standing.breach(), Some("absent"));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(bed.asked().1, 0, "forged though the guards are not there");
    // Back, but the API server has not loaded them.
    bed.says(Ok(GuardState::InForce), Ok(breached("accepted")));
    sleep(Duration::from_secs(3)).await;
    let standing = bed.test.standing(&grant("prod")).await;
    assert_eq!(standing.breach(), Some("accepted"));
    while bed.triggered.grants.try_recv().is_ok() {}
    bed.says(Ok(GuardState::InForce), Ok(GuardState::InForce));
    let looked_at = timeout(2 * SOON, bed.triggered.grants.recv()).await;
    assert_eq!(looked_at, Ok(Some(grant("prod"))));
    assert_eq!(bed.test.standing(&grant("prod")).await, GuardState::InForce);
    sleep(SOON).await;
    assert!(bed.in_force());
}

#[tokio::test(start_paused = true)]
async fn a_breach_is_retried_each_second_ten_times_then_every_5s() {
    let bed = Bed::new(&["prod"]);
    bed.says(Ok(breached("absent")), Ok(GuardState::InForce));
    let _synced = bed.run();
    sleep(Duration::from_secs(12)).await;
    let (eager, _) = bed.asked();
    assert!((10..=12).contains(&eager), "{eager}");
    sleep(Duration::from_mins(1)).await;
    let later = bed.asked().0 - eager;
    assert!((11..=12).contains(&later), "{later}");
}

#[tokio::test(start_paused = true)]
async fn without_answers_the_last_proof_counts_until_it_expires() {
    let mut bed = Bed::new(&["prod"]);
    let _synced = bed.run();
    assert_eq!(bed.test.standing(&grant("prod")).await, GuardState::InForce);
    let silent = || Err("503".to_owned());
    bed.says(silent(), silent());
    sleep(Duration::from_secs(80)).await;
    assert_eq!(bed.test.standing(&grant("prod")).await, GuardState::InForce);
    sleep(Duration::from_secs(15)).await;
    let asked = Instant::now();
    let standing = bed.test.standing(&grant("prod")).await;
    let unproven = GuardState::Unproven("not tested yet: 503".to_owned());
    assert_eq!(standing, unproven, "given without a proof, or taken for a breach");
    assert_eq!(asked.elapsed(), PATIENCE);
    assert!(!bed.in_force());
    bed.says(Ok(GuardState::InForce), Ok(GuardState::InForce));
    let looked_at = timeout(2 * LATER, bed.triggered.grants.recv()).await;
    assert_eq!(looked_at, Ok(Some(grant("prod"))));
}

#[tokio::test(start_paused = true)]
async fn an_accepted_forgery_causes_a_comparison_at_once() {
    let bed = Bed::new(&["prod"]);
    let _synced = bed.run();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bed.asked().0, 1);
    bed.says(Ok(breached("its binding differs")), Ok(breached("accepted")));
    let standing = bed.test.standing(&grant("new")).await;
    assert!(standing.breach().is_some());
    sleep(SOON).await;
    let elsewhere = bed.test.standing(&grant("prod")).await;
    assert_eq!(elsewhere.breach(), Some("its binding differs"));
}
