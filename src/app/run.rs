//! The operator: watches, lanes and the HTTP server, until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates};
use kube::{Api, Client, Config, ResourceExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::deadlines::Deadlines;
use super::decisions;
use super::expiry;
use super::heartbeat;
use super::lane;
use super::lease::Campaign;
use super::metrics::{GrantState, Metrics};
use super::orphans;
use super::pass::{Gates, Passes};
use super::policies;
use super::probe::ApiServer;
use super::self_test::SelfTest;
use super::server::{self, Readiness};
use super::skew::SkewWatch;
use super::streams::{self, Patience, Sync};
use super::triggers::{Triggers, triggers};
use crate::api::{AccessGrant, AccessPolicy, GRANT_UID_LABEL};
use crate::cluster::{
    Canary, Clock, Edges, GrantKey, Index, Leases, Reach, SlotLimits, Slots, client_heard_by, fuses,
};
use crate::core::GuardSettings;
use crate::core::lease::Identity;
use crate::core::{Settings, slim};

/// How long passes under way may take to finish when the process is told to stop. One alone takes about 13 ms; what is
/// left unfinished is taken up by whoever leads next, who has to wait for this: within a second of a leader being told
/// to stop, another one grants.
const LAST_PASSES: Duration = Duration::from_millis(500);

/// How often the gauges are brought up to date.
const GAUGES_EVERY: Duration = Duration::from_secs(5);

/// The watches that must have delivered their first list before anything is decided.
const WATCHES: [&str; 9] = [
    "grants",
    "decisions",
    "policies",
    "namespaces",
    "clusterroles",
    "identities",
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
    /// What the admission guards have to say.
    pub guards: GuardSettings,
    /// The place this process runs in, such as its pod, as Events and the Lease name it.
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
    /// The system gave no random bits to tell this process from others.
    #[error("no randomness to be had: {0}")]
    NoEntropy(#[from] getrandom::Error),
    /// The cluster goes on from a backup: everything this process knows is of a time that has never been.
    #[error(
        "the cluster was put back to an earlier state: its Lease is older than it was; start this process anew, so that \
         it reads what is there now"
    )]
    PutBack,
    /// The process cannot be told to stop.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

/// Runs the operator until it is told to stop (SIGTERM, SIGINT).
pub async fn run(options: Options) -> Result<(), RunError> {
    let config = Config::infer().await?;
    let (clock, reach) = (Clock::start(), Reach::default());
    let client = client_heard_by(&clock, &reach, config.clone())?;
    let listener = listen(options.listen).await?;
    let stop = Stop::on_signals().map_err(RunError::Signals)?;
    tell_the_time(&clock, &client).await;

    let metrics = Metrics::new();
    let readiness = Readiness::waiting_for(&WATCHES);
    readiness.undone(policies::JUDGED, "not yet");
    let index = Arc::new(Index::new(options.settings.clone(), clock.now()));
    let edges = Edges {
        client: client.clone(),
        clock,
        reach,
        slots: Slots::new(SlotLimits::default()),
        index: Arc::clone(&index),
        witness: Arc::new(metrics.clone()),
        instance: options.instance.as_str().into(),
    };
    let sync = Sync::of(&WATCHES, readiness.clone());
    let (triggers, triggered) = triggers();
    let deadlines = Arc::new(Deadlines::default());
    let gates = gates(&config, &edges, &options.guards, &triggers, &readiness, &metrics);
    let leases = Leases::new(client.clone(), &options.guards.namespace);
    let changes = leases.watch(Patience::default());
    let identity = Identity::new(&options.instance, getrandom::u64()?);
    let (campaign, leadership) = Campaign::new(
        Arc::new(leases),
        identity,
        readiness.clone(),
        metrics.clone(),
        gates.skews.unfit(),
    );
    let passes = Arc::new(Passes::new(
        edges.clone(),
        options.settings,
        Arc::clone(&deadlines),
        gates.clone(),
        leadership.clone(),
        sync.all(),
    ));
    let mut tasks = JoinSet::new();
    let identities = Api::namespaced(client.clone(), &passes.settings.identities);
    watch_the_rest(&mut tasks, &client, identities, &index, &sync, &triggers);
    tasks.spawn(watch_policies(edges.clone(), sync.clone(), triggers.clone()));
    let judge = policies::Judge {
        passes: Arc::clone(&passes),
        triggers: triggers.clone(),
    };
    tasks.spawn(policies::run(judge, triggered.policies, readiness.clone()));
    tasks.spawn(gates.guards.run(sync.all(), leadership));
    tasks.spawn(gates.skews.run());
    tasks.spawn(expiry::run(Arc::clone(&passes), metrics.clone()));
    tasks.spawn(orphans::run(
        Arc::clone(&passes),
        metrics.clone(),
        triggered.orphans,
    ));
    tasks.spawn(decisions::run(
        Arc::clone(&passes),
        triggers.clone(),
        triggered.decisions,
    ));
    tasks.spawn(keep_gauges(edges.clone(), metrics.clone()));
    tasks.spawn(heartbeat::run(Arc::clone(&passes), metrics.clone()));
    tasks.spawn(serve(listener, readiness, metrics.clone(), stop.clone()));

    tasks.spawn(watch_grants(edges, sync, triggers, deadlines));
    let synced = passes.synced.clone();
    let warm = Arc::clone(&passes);
    let mut candidacy = campaign.start(changes, async move { warm.wait_until_synced().await });
    let controller = lane::run(passes, metrics, triggered.grants, stop.clone().wait());
    tokio::select! {
        () = controller => {}
        () = stop.patience(synced) => tracing::warn!("passes under way are left unfinished"),
        () = candidacy.is_put_back() => {
            tasks.shutdown().await;
            return Err(RunError::PutBack);
        }
    }
    candidacy.resign().await;
    tracing::info!("stopped");
    tasks.shutdown().await;
    Ok(())
}

/// Before anything is dated. While nobody answers nothing is decided either.
async fn tell_the_time(clock: &Clock, client: &Client) {
    if let Err(error) = clock.ask(client).await {
        tracing::warn!(%error, reason = error.reason(), "the API server has not said yet what time it is");
    }
}

fn gates(
    config: &Config,
    edges: &Edges,
    guards: &GuardSettings,
    triggers: &Triggers,
    readiness: &Readiness,
    metrics: &Metrics,
) -> Gates {
    let canary = Canary::new(config, edges.client.clone(), &guards.namespace);
    let probe = ApiServer::new(edges.clone(), canary, guards);
    Gates {
        guards: Arc::new(SelfTest::new(
            Box::new(probe),
            triggers.clone(),
            readiness.clone(),
            metrics.clone(),
        )),
        skews: Arc::new(SkewWatch::new(
            edges.clone(),
            triggers.clone(),
            readiness.clone(),
            metrics.clone(),
        )),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    let cannot = |source| RunError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    Ok(listener)
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
    pub(super) fn on_signals() -> std::io::Result<Self> {
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
    /// Until then, and as long after as passes may take to finish. Before the watches have delivered, nothing is
    /// under way.
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
    identities: Api<PartialObjectMeta<ServiceAccount>>,
    index: &Arc<Index>,
    sync: &Sync,
    triggers: &Triggers,
) {
    let ours = || streams::config().labels(GRANT_UID_LABEL);
    let all = streams::config;
    macro_rules! watch {
        ($name:literal, $api:expr, $config:expr, $take:ident) => {{
            let api: Api<_> = $api;
            let (index, triggers) = (Arc::clone(index), triggers.clone());
            let events = streams::events($name, api, $config, sync.clone());
            tasks.spawn(events.for_each(move |event| {
                triggers.fire(index.$take(&event));
                std::future::ready(())
            }));
        }};
    }
    let client = || client.clone();
    let decisions = streams::events_of_ours("decisions", client(), sync.clone(), |_| None);
    let (held, fires) = (Arc::clone(index), triggers.clone());
    tasks.spawn(decisions.for_each(move |event| {
        fires.fire(held.decision(&event));
        std::future::ready(())
    }));
    watch!("namespaces", Api::all(client()), all(), namespace);
    watch!("identities", identities, all(), identity);
    watch!("clusterroles", Api::all(client()), all(), cluster_role);
    watch!("roles", Api::all(client()), all(), role);
    watch!("rolebindings", Api::all(client()), ours(), binding);
    watch!("fuses", Api::all_with(client(), &fuses()), ours(), fuse);
}

async fn watch_policies(
    Edges {
        client, clock, index, ..
    }: Edges,
    sync: Sync,
    triggers: Triggers,
) {
    let events = streams::events_of_ours::<AccessPolicy>("policies", client, sync, |_| None);
    let mut events = std::pin::pin!(events);
    while let Some(mut event) = events.next().await {
        if let Event::Apply(policy) | Event::InitApply(policy) = &mut event {
            policy.managed_fields_mut().clear();
        }
        triggers.fire(index.policy(&event, clock.now()));
    }
}

/// The watch of grants: feeds the index and the expiry task, and triggers a reconcile of each grant whose spec,
/// finalizers or deletion changed. Status writes are this process's own.
async fn watch_grants(edges: Edges, sync: Sync, triggers: Triggers, deadlines: Arc<Deadlines>) {
    let known = Arc::clone(&edges.index);
    // Access that is in force ends as it was last read to end.
    let last = move |metadata: &ObjectMeta| {
        let key = GrantKey {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
        };
        let grant = known.get_grant(&key)?;
        (grant.metadata.uid == metadata.uid).then(|| Arc::unwrap_or_clone(grant))
    };
    let events = streams::events_of_ours("grants", edges.client.clone(), sync, last);
    let fired = triggers.clone();
    events
        .map(move |mut event| {
            take_grant(&edges, &deadlines, &fired, &mut event);
            Ok(event)
        })
        .applied_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::finalizers),
            PredicateConfig::default(),
        )
        .for_each(|grant| {
            if let Ok(grant) = grant {
                triggers.fire_grants([GrantKey::of(&grant)].into());
            }
            std::future::ready(())
        })
        .await;
}

/// Takes one event into the index and the expiry times, and triggers what the event affects.
fn take_grant(edges: &Edges, deadlines: &Deadlines, triggers: &Triggers, event: &mut Event<AccessGrant>) {
    if let Event::Apply(grant) | Event::InitApply(grant) = event {
        slim(grant);
    }
    let touched = edges.index.grant(event, edges.clock.now());
    for orphan in &touched.orphans {
        deadlines.forget(&orphan.key);
    }
    // After that, since a new grant may have the name of the orphan.
    if let Event::Apply(grant) | Event::InitApply(grant) = event
        && let Some(newest) = edges.index.get_grant(&GrantKey::of(grant))
    {
        deadlines.follow(&newest);
    }
    triggers.fire(touched);
}

async fn keep_gauges(Edges { clock, index, .. }: Edges, metrics: Metrics) {
    let mut tick = tokio::time::interval(GAUGES_EVERY);
    loop {
        tick.tick().await;
        let states = index.states();
        for state in GrantState::ALL {
            metrics.set_grants(state, states.get(state.reason()).copied().unwrap_or_default());
        }
        metrics.set_overdue_grants(index.overdue(clock.now()));
        metrics.set_unfused_grants(index.unfused());
        let (ready, unready) = index.policy_readiness();
        metrics.set_policies(true, ready);
        metrics.set_policies(false, unready);
    }
}
