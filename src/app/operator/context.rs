//! Context of the tasks of the operator.

use std::sync::Arc;

use tokio::sync::watch;

use crate::app::operator::expirations::Expirations;
use crate::app::operator::guard::self_test::SelfTest;
use crate::app::operator::key_lock::{KeyGuard, KeyLocks};
use crate::app::operator::metrics::Metrics;
use crate::app::operator::reconcile::Limited;
use crate::app::operator::replica::clock::SkewWatch;
use crate::app::operator::replica::leader::Leadership;
use crate::app::operator::server::Readiness;
use crate::app::operator::triggers::Triggers;
use crate::cluster::context::Cluster;
use crate::core::settings::Settings;

/// Everything that the tasks of the operator share.
pub struct Operator {
    /// Client, clock, cache and request queue of the cluster.
    pub cluster: Cluster,
    /// Settings that decisions depend on.
    pub settings: Settings,
    /// Metrics of this process.
    pub metrics: Metrics,
    /// Conditions of `/readyz`.
    pub readiness: Readiness,
    /// Sender of work to the tasks.
    pub triggers: Triggers,
    /// Expiry time of each live grant.
    pub expirations: Arc<Expirations>,
    /// State of the admission guards. No access is granted unless they are proven to be in force.
    pub guards: Arc<SelfTest>,
    /// Agreement of the clocks. No access is granted while they disagree.
    pub skew: Arc<SkewWatch>,
    /// Whether this process leads.
    pub leadership: Leadership,
    /// Whether each watch has delivered its first list. Before that, a missing object proves nothing.
    pub synced: watch::Receiver<bool>,
    /// One lock for each grant, by uid.
    pub grant_locks: KeyLocks<String>,
    /// One lock for each limit of each policy, by the name of the policy.
    pub(crate) limit_locks: KeyLocks<(String, Limited)>,
}

impl Operator {
    /// Waits until each watch has delivered its first list.
    pub async fn wait_until_synced(&self) {
        // The sender lives as long as the process. Without a sender the cache would never be complete.
        if self.synced.clone().wait_for(|synced| *synced).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Locks a grant by its uid.
    pub async fn lock(&self, uid: &str) -> KeyGuard<'_, String> {
        self.grant_locks.lock(uid.to_owned()).await
    }

    /// Locks a grant by its uid, to revoke its access. The holder of the lock is notified, so that bookkeeping stops.
    pub async fn lock_to_end(&self, uid: &str) -> KeyGuard<'_, String> {
        self.grant_locks.lock_urgently(uid.to_owned()).await
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::collections::{BTreeMap, BTreeSet};
    use std::task::{Context, Poll};

    use futures::FutureExt as _;
    use futures::future::BoxFuture;
    use http::{Request, Response, StatusCode};
    use kube::Client;
    use kube::client::Body;
    use tokio::sync::Notify;

    use super::*;
    use crate::api::{AccessGrant, AccessGrantSpec, PolicyRef};
    use crate::app::operator::guard::probe::Probe;
    use crate::app::operator::triggers::{Triggered, triggers};
    use crate::app::telemetry::testing::Log;
    use crate::cluster::client::clock::Clock;
    use crate::cluster::client::health::ApiHealth;
    use crate::cluster::client::priority::{RequestLimits, RequestQueue};
    use crate::cluster::index::Index;
    use crate::cluster::objects::keys::GrantKey;
    use crate::core::guard::state::GuardState;
    use crate::core::time::duration::AccessDuration;

    /// An API server that answers each request with 503.
    #[derive(Clone)]
    struct Unavailable;

    impl tower::Service<Request<Body>> for Unavailable {
        type Response = Response<Body>;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            std::future::ready(Ok(answer))
        }
    }

    /// Guards that are in force.
    struct InForce;

    impl Probe for InForce {
        fn compare(&self) -> BoxFuture<'_, Result<GuardState, String>> {
            async { Ok(GuardState::InForce) }.boxed()
        }

        fn forge<'a>(&'a self, _: &'a GrantKey) -> BoxFuture<'a, Result<GuardState, String>> {
            async { Ok(GuardState::InForce) }.boxed()
        }

        fn open_namespaces(&self) -> BTreeMap<String, String> {
            BTreeMap::new()
        }

        fn waiting(&self, _: &str) -> BTreeSet<GrantKey> {
            BTreeSet::new()
        }
    }

    /// An operator that leads and is synced, on a cluster whose API server answers each request with 503.
    pub fn operator() -> (Arc<Operator>, Triggered) {
        let settings = Settings {
            cap: AccessDuration::MAX,
            namespace: "curfew-system".to_owned(),
            identities: "curfew-identities".to_owned(),
        };
        let clock = Clock::start();
        let (metrics, readiness) = (Metrics::new(), Readiness::default());
        let (triggers, triggered) = triggers();
        let cluster = Cluster {
            client: Client::new(Unavailable, "default"),
            reach: ApiHealth::default(),
            slots: RequestQueue::new(RequestLimits::default()),
            index: Arc::new(Index::new(settings.clone(), clock.now())),
            clock,
            observer: Arc::new(metrics.clone()),
            instance: "test".into(),
        };
        let guards = SelfTest::new(
            Box::new(InForce),
            triggers.clone(),
            readiness.clone(),
            metrics.clone(),
        );
        let skew = SkewWatch::new(
            cluster.clone(),
            triggers.clone(),
            readiness.clone(),
            metrics.clone(),
        );
        let (lead, leadership) = Leadership::as_told();
        lead(true);
        // A watch whose sender is gone keeps its value.
        let (_, synced) = watch::channel(true);
        let operator = Operator {
            cluster,
            settings,
            metrics,
            readiness,
            triggers,
            expirations: Arc::default(),
            guards: Arc::new(guards),
            skew: Arc::new(skew),
            leadership,
            synced,
            grant_locks: KeyLocks::default(),
            limit_locks: KeyLocks::default(),
        };
        (Arc::new(operator), triggered)
    }

    /// The grant prod/pay-123 as the user made it.
    pub fn grant() -> AccessGrant {
        let spec = AccessGrantSpec {
            policy_ref: PolicyRef { name: "p".to_owned() },
            ..AccessGrantSpec::default()
        };
        let mut grant = AccessGrant::new("pay-123", spec);
        grant.metadata.namespace = Some("prod".to_owned());
        grant.metadata.uid = Some("uid-1".to_owned());
        grant.metadata.resource_version = Some("10".to_owned());
        grant
    }

    /// Runs a task of the operator until the log has a warning, and returns the warning.
    pub async fn first_line_of(task: BoxFuture<'_, ()>) -> serde_json::Value {
        let written = Arc::new(Notify::new());
        let log = Log::new(Arc::clone(&written));
        let _guard = tracing::subscriber::set_default(log.subscriber("warn"));
        tokio::select! {
            () = written.notified() => {}
            () = task => {}
        }
        let text = log.text();
        let line = text.lines().next().expect("the task has logged nothing");
        serde_json::from_str(line).unwrap()
    }
}
