//! The operator: watches, lanes and the HTTP server, until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;

use kube::{Api, Client, Config};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::deadlines::Deadlines;
use super::decisions;
use super::error::RunError;
use super::expiry;
use super::heartbeat;
use super::lane;
use super::lease::Campaign;
use super::metrics::Metrics;
use super::options::Options;
use super::orphans;
use super::pass::{Gates, Passes};
use super::policies;
use super::probe::ApiServer;
use super::self_test::SelfTest;
use super::server::{self, Readiness};
use super::skew::SkewWatch;
use super::stop::Stop;
use super::streams::{Patience, Sync};
use super::triggers::{Triggers, triggers};
use super::watches::{WATCHES, keep_gauges, watch_grants, watch_policies, watch_the_rest};
use crate::cluster::{Canary, Clock, Edges, Index, Leases, Reach, SlotLimits, Slots, client_heard_by};
use crate::core::GuardSettings;
use crate::core::lease::Identity;

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
