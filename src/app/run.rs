//! The operator: watches, lanes and the HTTP server, until it is told to stop.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{Config as WatchConfig, Event};
use kube::runtime::{Predicate as _, predicates};
use kube::{Api, Client, Config, ResourceExt as _};
use kube_runtime::{Controller, PredicateConfig, WatchStreamExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::deadlines::Deadlines;
use super::expiry;
use super::metrics::{GrantState, Lane as LaneLabel, Metrics, PassOutcome};
use super::orphans::{self, Orphan};
use super::pass::{Failed, Passes};
use super::policies;
use super::server::{self, Readiness};
use super::streams::{self, Sync, Triggered, Triggers, triggers};
use crate::api::{AccessGrant, AccessPolicy, GRANT_UID_LABEL};
use crate::cluster::{Edges, GrantKey, Index, SlotLimits, Slots, client};
use crate::core::{Class, Lane, Settings, delay, slim};

/// Passes of the controller lane under way at once. More than the 16 effects that may go on at once of each kind, so
/// that the access of a burst is made before its bookkeeping; kube's queue was found sound with 1,000 and at a loss
/// with 20,000.
const CONCURRENCY: u16 = 1_024;

/// Longest time without a look at a live grant: kube's queue keeps entries of deleted objects until their time, and
/// does not see a clock that was stepped.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// By how much the controller lane leaves a deadline to the expiry lane, whose it is.
const BEHIND_EXPIRY: Duration = Duration::from_secs(1);

/// How long passes under way may take to finish when the process is told to stop: less than the 30 s after which
/// Kubernetes kills it. What is left unfinished is taken up by the next process.
const LAST_PASSES: Duration = Duration::from_secs(15);

/// How often the gauges are brought up to date.
const GAUGES_EVERY: Duration = Duration::from_secs(5);

/// The watches that must have delivered their first list before anything is decided.
const WATCHES: [&str; 7] = [
    "grants",
    "policies",
    "namespaces",
    "clusterroles",
    "roles",
    "rolebindings",
    "fuses",
];

/// What the operator is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to serve health and metrics.
    pub listen: SocketAddr,
    /// What decisions rest on.
    pub settings: Settings,
    /// This process, as Events name it.
    pub instance: String,
}

/// Why the operator could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No configuration of the API server.
    #[error("no way to the API server: {0}")]
    Configuration(#[from] kube::config::InferConfigError),
    /// The configuration cannot be used.
    #[error("the configuration of the API server cannot be used: {0}")]
    Client(#[from] kube::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The process cannot be told to stop.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

/// Runs the operator until it is told to stop (SIGTERM, SIGINT).
pub async fn run(options: Options) -> Result<(), RunError> {
    let client = client(Config::infer().await?)?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|source| RunError::Listen {
            address: options.listen,
            source,
        })?;
    let address = listener.local_addr().map_err(|source| RunError::Listen {
        address: options.listen,
        source,
    })?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    let stop = Stop::on_signals().map_err(RunError::Signals)?;

    let metrics = Metrics::new();
    let readiness = Readiness::waiting_for(&WATCHES);
    let index = Arc::new(Index::new(options.settings.clone(), Timestamp::now()));
    let edges = Edges {
        client: client.clone(),
        slots: Slots::new(SlotLimits::default()),
        index: Arc::clone(&index),
        witness: Arc::new(metrics.clone()),
        instance: options.instance.into(),
    };
    let sync = Sync::of(&WATCHES, readiness.clone());
    let (triggers, triggered) = triggers();
    let (grants, grant_writer) = reflector::store();
    let (policy_store, policy_writer) = reflector::store();
    let deadlines = Arc::new(Deadlines::default());
    let passes = Arc::new(Passes::new(
        edges,
        options.settings,
        grants.clone(),
        Arc::clone(&deadlines),
        sync.all(),
    ));
    let Triggered {
        grants: triggered_grants,
        policies: triggered_policies,
        orphans: triggered_orphans,
    } = triggered;

    let mut tasks = JoinSet::new();
    watch_the_rest(&mut tasks, &client, &index, &sync, &triggers);
    tasks.spawn(watch_policies(
        client.clone(),
        policy_writer,
        Arc::clone(&index),
        sync.clone(),
        triggers.clone(),
    ));
    tasks.spawn(policies::run(
        Arc::clone(&passes),
        policy_store,
        triggers.clone(),
        triggered_policies,
    ));
    tasks.spawn(expiry::run(Arc::clone(&passes), metrics.clone()));
    tasks.spawn(orphans::run(
        Arc::clone(&passes),
        metrics.clone(),
        triggered_orphans,
    ));
    tasks.spawn(keep_gauges(Arc::clone(&index), metrics.clone()));
    tasks.spawn(serve(listener, readiness, metrics.clone(), stop.clone()));

    let watched = watch_grants(
        client,
        grant_writer,
        grants.clone(),
        index,
        sync,
        triggers,
        deadlines,
    );
    let synced = passes.synced.clone();
    let lane = Arc::new(ControllerLane {
        passes,
        metrics,
        attempts: Mutex::default(),
    });
    let controller = Controller::for_stream(watched, grants)
        .watches_stream(streams::as_objects(triggered_grants), streams::reference)
        .with_config(kube_runtime::controller::Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop.clone().wait())
        .run(reconcile, after_failure, lane)
        .for_each(|_| std::future::ready(()));
    tokio::select! {
        () = controller => {}
        () = stop.patience(synced) => tracing::warn!("passes under way are left unfinished"),
    }
    tracing::info!("stopped");
    tasks.shutdown().await;
    Ok(())
}

async fn serve(listener: TcpListener, readiness: Readiness, metrics: Metrics, stop: Stop) {
    if let Err(error) = server::serve(listener, readiness, metrics, stop.wait()).await {
        tracing::error!(%error, "health and metrics are not served any more");
    }
}

/// Told once that the process is to stop.
#[derive(Clone, Debug)]
pub struct Stop(tokio::sync::watch::Receiver<bool>);

impl Stop {
    /// On SIGTERM or SIGINT.
    fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (told, stop) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.send_replace(true);
            // Keeps the sender, so that nobody takes its end for the word.
            std::future::pending::<()>().await;
        });
        Ok(Self(stop))
    }

    /// Until then.
    pub async fn wait(mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Stop {
    /// Until then, and as long after as passes may take to finish. Before the watches have delivered, kube's
    /// controller does not listen to its own shutdown, and nothing is under way.
    async fn patience(self, synced: tokio::sync::watch::Receiver<bool>) {
        self.wait().await;
        if *synced.borrow() {
            tokio::time::sleep(LAST_PASSES).await;
        }
    }
}

/// The watches that only deliver facts and triggers.
fn watch_the_rest(
    tasks: &mut JoinSet<()>,
    client: &Client,
    index: &Arc<Index>,
    sync: &Sync,
    triggers: &Triggers,
) {
    let ours = || WatchConfig::default().labels(GRANT_UID_LABEL);
    let all = WatchConfig::default;
    macro_rules! watch {
        ($name:literal, $object:ty, $config:expr, $take:ident) => {{
            let api = Api::<$object>::all(client.clone());
            let (index, triggers) = (Arc::clone(index), triggers.clone());
            let events = streams::events($name, api, $config, sync.clone());
            tasks.spawn(events.for_each(move |event| {
                triggers.fire(index.$take(&event));
                std::future::ready(())
            }));
        }};
    }
    watch!("namespaces", PartialObjectMeta<Namespace>, all(), namespace);
    watch!("clusterroles", ClusterRole, all(), cluster_role);
    watch!("roles", Role, all(), role);
    watch!("rolebindings", RoleBinding, ours(), binding);
    watch!("fuses", PartialObjectMeta<Job>, ours(), fuse);
}

async fn watch_policies(
    client: Client,
    mut writer: reflector::store::Writer<AccessPolicy>,
    index: Arc<Index>,
    sync: Sync,
    triggers: Triggers,
) {
    let events = streams::events(
        "policies",
        Api::<AccessPolicy>::all(client),
        WatchConfig::default(),
        sync,
    );
    let mut events = std::pin::pin!(events);
    while let Some(mut event) = events.next().await {
        if let Event::Apply(policy) | Event::InitApply(policy) = &mut event {
            policy.managed_fields_mut().clear();
        }
        writer.apply_watcher_event(&event);
        triggers.fire(index.policy(&event, Timestamp::now()));
    }
}

/// The controller's own stream: grants whose spec, finalizers or deletion changed. Feeds the index, the store and
/// the expiry lane on the way.
fn watch_grants(
    client: Client,
    mut writer: reflector::store::Writer<AccessGrant>,
    store: Store<AccessGrant>,
    index: Arc<Index>,
    sync: Sync,
    triggers: Triggers,
    deadlines: Arc<Deadlines>,
) -> impl futures::Stream<Item = Result<AccessGrant, kube_runtime::watcher::Error>> + Send {
    let api = Api::<AccessGrant>::all(client);
    streams::events("grants", api, WatchConfig::default(), sync)
        .map(move |mut event| {
            let now = Timestamp::now();
            match &mut event {
                Event::Apply(grant) | Event::InitApply(grant) => {
                    slim(grant);
                    deadlines.follow(&index.newest(Arc::new(grant.clone())));
                }
                Event::Delete(_) | Event::Init | Event::InitDone => {}
            }
            // The index forgets what this process wrote as soon as the watch has delivered it, so the store comes
            // first. Where objects go, the other way round: the store still knows what they were.
            let goes = matches!(event, Event::Delete(_) | Event::InitDone);
            if !goes {
                writer.apply_watcher_event(&event);
            }
            let going = match &event {
                Event::Delete(grant) => store
                    .get(&ObjectRef::from_obj(grant))
                    .map(|grant| index.newest(grant)),
                _ => None,
            };
            let mut touched = index.grant(&event, now);
            for (uid, key) in std::mem::take(&mut touched.orphans) {
                deadlines.forget(&key);
                let stored = || store.get(&ObjectRef::new(&key.name).within(&key.namespace));
                let last = going
                    .clone()
                    .or_else(stored)
                    .filter(|grant| grant.uid().as_ref() == Some(&uid));
                triggers.fire_orphan(Orphan { uid, key, last });
            }
            if goes {
                writer.apply_watcher_event(&event);
            }
            triggers.fire(touched);
            Ok(event)
        })
        .applied_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::finalizers),
            PredicateConfig::default(),
        )
}

struct ControllerLane {
    passes: Arc<Passes>,
    metrics: Metrics,
    attempts: Mutex<HashMap<String, u32>>,
}

impl ControllerLane {
    fn attempts(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the controller lane did not finish with a grant.
#[derive(Debug, thiserror::Error)]
enum LaneError {
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error("the pass broke: {0}")]
    Broke(#[from] tokio::task::JoinError),
}

async fn reconcile(grant: Arc<AccessGrant>, lane: Arc<ControllerLane>) -> Result<Action, LaneError> {
    let key = GrantKey::of(&grant);
    let passes = Arc::clone(&lane.passes);
    // A task of its own: passes use both cores, and one that breaks breaks alone.
    let wake = tokio::spawn(async move { passes.run(&key).await }).await??;
    lane.metrics.passed(LaneLabel::Controller, PassOutcome::Done);
    lane.attempts().remove(&grant.uid().unwrap_or_default());
    Ok(wake.map_or_else(Action::await_change, |wake| Action::requeue(pause_until(wake))))
}

fn pause_until(wake: Timestamp) -> Duration {
    let remaining = Duration::try_from(wake.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
    remaining.saturating_add(BEHIND_EXPIRY).min(LONGEST_PAUSE)
}

#[allow(clippy::needless_pass_by_value, reason = "the signature kube asks for")]
fn after_failure(grant: Arc<AccessGrant>, error: &LaneError, lane: Arc<ControllerLane>) -> Action {
    lane.metrics.passed(LaneLabel::Controller, PassOutcome::Failed);
    let (class, retry_lane) = match error {
        LaneError::Failed(failed) => (
            failed.class(),
            if failed.ending {
                Lane::Expiry
            } else {
                Lane::Controller
            },
        ),
        LaneError::Broke(_) => (Class::Invalid, Lane::Controller),
    };
    let attempt = {
        let mut attempts = lane.attempts();
        let attempt = attempts.entry(grant.uid().unwrap_or_default()).or_default();
        let now = *attempt;
        *attempt = attempt.saturating_add(1);
        now
    };
    let pause = delay(class, retry_lane, attempt);
    tracing::warn!(namespace = grant.namespace(), grant = grant.name_any(), %error, attempt, retry_in = ?pause,
        "a pass did not finish");
    Action::requeue(pause)
}

async fn keep_gauges(index: Arc<Index>, metrics: Metrics) {
    let mut tick = tokio::time::interval(GAUGES_EVERY);
    loop {
        tick.tick().await;
        let states = index.states();
        for &state in GrantState::ALL {
            metrics.set_grants(state, states.get(state.reason()).copied().unwrap_or_default());
        }
        metrics.set_overdue_grants(index.overdue(Timestamp::now()));
        let (ready, unready) = index.policy_readiness();
        metrics.set_policies(true, ready);
        metrics.set_policies(false, unready);
    }
}
