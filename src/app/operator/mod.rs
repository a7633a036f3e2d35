//! `curfew run`: starts watches, tasks and HTTP server, and waits for the request to stop.

pub mod context;
pub mod expirations;
pub mod guard;
pub mod key_lock;
pub mod leader_task;
pub mod metrics;
pub mod options;
pub mod reconcile;
pub mod replica;
pub mod server;
pub mod streams;
pub mod tasks;
pub mod triggers;
pub mod watches;
pub mod work_queue;

use std::net::SocketAddr;
use std::sync::Arc;

use kube::{Api, Client, Config};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::error::RunError;
use crate::app::operator::context::Operator;
use crate::app::operator::guard::probe::ApiServer;
use crate::app::operator::guard::self_test::SelfTest;
use crate::app::operator::key_lock::KeyLocks;
use crate::app::operator::metrics::Metrics;
use crate::app::operator::options::OperatorOptions;
use crate::app::operator::replica::clock::SkewWatch;
use crate::app::operator::replica::heartbeat;
use crate::app::operator::replica::leader::{Campaign, Candidacy};
use crate::app::operator::server::Readiness;
use crate::app::operator::streams::Patience;
use crate::app::operator::streams::sync::Sync;
use crate::app::operator::tasks::{controller, decisions, expiry, orphans, policies};
use crate::app::operator::triggers::{Triggered, triggers};
use crate::app::operator::watches::{WATCHES, keep_gauges, watch_grants, watch_policies, watch_the_rest};
use crate::app::stop::Stop;
use crate::cluster::client::client_heard_by;
use crate::cluster::client::clock::Clock;
use crate::cluster::client::health::ApiHealth;
use crate::cluster::client::priority::{RequestLimits, RequestQueue};
use crate::cluster::context::Cluster;
use crate::cluster::guard::canary::Canary;
use crate::cluster::index::Index;
use crate::cluster::replica::leader::Leases;
use crate::core::replica::leader::ReplicaId;

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// The operator cannot start, or the cluster was restored from a backup while the operator ran.
pub async fn run(options: OperatorOptions) -> Result<(), RunError> {
    let config = Config::infer().await?;
    let (clock, reach) = (Clock::start(), ApiHealth::default());
    let client = client_heard_by(&clock, &reach, config.clone())?;
    let listener = listen(options.listen).await?;
    let stop = Stop::on_signals().map_err(RunError::Signals)?;
    read_server_time(&clock, &client).await;

    let metrics = Metrics::new();
    let cluster = Cluster {
        client,
        reach,
        slots: RequestQueue::new(RequestLimits::default()),
        index: Arc::new(Index::new(options.settings.clone(), clock.now())),
        clock,
        observer: Arc::new(metrics.clone()),
        instance: options.instance.as_str().into(),
    };
    let (operator, start) = operator(&config, options, cluster, metrics)?;
    let mut tasks = JoinSet::new();
    start_watches(&mut tasks, &operator, &start.sync);
    let affected = start_tasks(&mut tasks, &operator, start.triggered);
    let serving = (operator.readiness.clone(), operator.metrics.clone());
    tasks.spawn(serve(listener, serving.0, serving.1, stop.clone()));
    let warm = Arc::clone(&operator);
    let changes = start.leases.watch(Patience::default());
    let candidacy = start
        .campaign
        .start(changes, async move { warm.wait_until_synced().await });
    let synced = operator.synced.clone();
    let controller = controller::run(operator, affected, stop.clone());
    wait(controller, candidacy, stop, synced, tasks).await
}

/// Waits for the end of the controller, and then gives the leader Lease back.
async fn wait(
    controller: impl Future<Output = ()>,
    mut candidacy: Candidacy,
    stop: Stop,
    synced: watch::Receiver<bool>,
    mut tasks: JoinSet<()>,
) -> Result<(), RunError> {
    tokio::select! {
        () = controller => {}
        () = stop.patience(synced) => {
            tracing::info!("shutdown: running reconciles are abandoned; the next leader continues them");
        }
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

/// Reads the time of the API server before anything gets a date. Without an answer, nothing is decided either.
async fn read_server_time(clock: &Clock, client: &Client) {
    if let Err(error) = clock.ask(client).await {
        tracing::warn!(%error, reason = error.reason(), "cannot read the time of the API server yet, will retry");
    }
}

/// The parts that [`run`] needs to start an [`Operator`].
struct Start {
    campaign: Campaign,
    leases: Leases,
    sync: Sync,
    triggered: Triggered,
}

/// The context of the tasks.
fn operator(
    config: &Config,
    options: OperatorOptions,
    cluster: Cluster,
    metrics: Metrics,
) -> Result<(Arc<Operator>, Start), RunError> {
    let readiness = Readiness::waiting_for(&WATCHES);
    readiness.undone(policies::JUDGED, "not yet");
    let sync = Sync::of(&WATCHES, readiness.clone());
    let (triggers, triggered) = triggers();
    let canary = Canary::new(config, cluster.client.clone(), &options.guards.namespace);
    let probe = Box::new(ApiServer::new(cluster.clone(), canary, &options.guards));
    let guards = SelfTest::new(probe, triggers.clone(), readiness.clone(), metrics.clone());
    let skew = SkewWatch::new(
        cluster.clone(),
        triggers.clone(),
        readiness.clone(),
        metrics.clone(),
    );
    let leases = Leases::new(cluster.client.clone(), &options.guards.namespace);
    let replica = ReplicaId::new(&options.instance, getrandom::u64()?);
    let registry = Arc::new(leases.clone());
    let (campaign, leadership) = Campaign::new(
        registry,
        replica,
        readiness.clone(),
        metrics.clone(),
        skew.unfit(),
    );
    let operator = Operator {
        cluster,
        settings: options.settings,
        metrics,
        readiness,
        triggers,
        expirations: Arc::default(),
        guards: Arc::new(guards),
        skew: Arc::new(skew),
        leadership,
        synced: sync.all(),
        grant_locks: KeyLocks::default(),
        limit_locks: KeyLocks::default(),
    };
    let start = Start {
        campaign,
        leases,
        sync,
        triggered,
    };
    Ok((Arc::new(operator), start))
}

fn start_watches(tasks: &mut JoinSet<()>, operator: &Arc<Operator>, sync: &Sync) {
    let accounts = Api::namespaced(operator.cluster.client.clone(), &operator.settings.identities);
    watch_the_rest(tasks, operator, accounts, sync);
    tasks.spawn(watch_policies(Arc::clone(operator), sync.clone()));
    tasks.spawn(watch_grants(Arc::clone(operator), sync.clone()));
}

/// Starts all tasks but the controller. Returns the grants that the controller has to reconcile.
fn start_tasks(
    tasks: &mut JoinSet<()>,
    operator: &Arc<Operator>,
    triggered: Triggered,
) -> tokio::sync::mpsc::UnboundedReceiver<crate::cluster::objects::keys::GrantKey> {
    let shared = || Arc::clone(operator);
    let guards = Arc::clone(&operator.guards);
    tasks.spawn(guards.run(operator.synced.clone(), operator.leadership.clone()));
    tasks.spawn(Arc::clone(&operator.skew).run());
    tasks.spawn(policies::run(shared(), triggered.policies));
    tasks.spawn(expiry::run(shared()));
    tasks.spawn(orphans::run(shared(), triggered.orphans));
    tasks.spawn(decisions::run(shared(), triggered.decisions));
    tasks.spawn(keep_gauges(shared()));
    tasks.spawn(heartbeat::run(shared()));
    triggered.grants
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
        tracing::error!(%error, "HTTP server failed: /livez, /readyz and /metrics are not served any more");
    }
}
