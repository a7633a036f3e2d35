//! The nine watches: each feeds the index and triggers what an event affects.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates};
use kube::{Api, ResourceExt as _};
use tokio::task::JoinSet;

use crate::api::{AccessGrant, AccessPolicy, GRANT_UID_LABEL, GrantState};
use crate::app::operator::context::Operator;
use crate::app::operator::streams;
use crate::app::operator::streams::sync::Sync;
use crate::app::operator::streams::unreadable;
use crate::cluster::objects::keys::GrantKey;
use crate::cluster::objects::read::fuses;
use crate::core::grant::retention::prune;

/// Interval between two updates of the gauges.
const GAUGES_EVERY: Duration = Duration::from_secs(5);

/// Names of the watches, as `/readyz` and log lines have them. Nothing is decided before each watch has delivered its
/// first list.
pub(crate) const WATCHES: [&str; 9] = [
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

/// Starts the watches that only feed the cache and trigger.
pub(crate) fn watch_the_rest(
    tasks: &mut JoinSet<()>,
    operator: &Arc<Operator>,
    act_as_accounts: Api<PartialObjectMeta<ServiceAccount>>,
    sync: &Sync,
) {
    let ours = || streams::config().labels(GRANT_UID_LABEL);
    let all = streams::config;
    macro_rules! watch {
        ($name:literal, $api:expr, $config:expr, $take:ident) => {{
            let api: Api<_> = $api;
            let operator = Arc::clone(operator);
            let events = streams::events($name, api, $config, sync.clone());
            tasks.spawn(events.for_each(move |event| {
                operator.triggers.fire(operator.cluster.index.$take(&event));
                std::future::ready(())
            }));
        }};
    }
    let client = || operator.cluster.client.clone();
    let decisions = unreadable::events_of_ours("decisions", client(), sync.clone(), |_| None);
    let shared = Arc::clone(operator);
    tasks.spawn(decisions.for_each(move |event| {
        shared.triggers.fire(shared.cluster.index.decision(&event));
        std::future::ready(())
    }));
    watch!("namespaces", Api::all(client()), all(), namespace);
    watch!("identities", act_as_accounts, all(), identity);
    watch!("clusterroles", Api::all(client()), all(), cluster_role);
    watch!("roles", Api::all(client()), all(), role);
    watch!("rolebindings", Api::all(client()), ours(), binding);
    watch!("fuses", Api::all_with(client(), &fuses()), ours(), fuse);
}

/// The watch of policies.
pub(crate) async fn watch_policies(operator: Arc<Operator>, sync: Sync) {
    let cluster = &operator.cluster;
    let events =
        unreadable::events_of_ours::<AccessPolicy>("policies", cluster.client.clone(), sync, |_| None);
    let mut events = std::pin::pin!(events);
    while let Some(mut event) = events.next().await {
        if let Event::Apply(policy) | Event::InitApply(policy) = &mut event {
            policy.managed_fields_mut().clear();
        }
        operator
            .triggers
            .fire(cluster.index.policy(&event, cluster.clock.now()));
    }
}

/// The watch of grants. It feeds the cache and the expiry times, and triggers a reconcile of each grant whose spec,
/// finalizers or deletion changed. A change of the status triggers nothing: only this process writes the status.
pub(crate) async fn watch_grants(operator: Arc<Operator>, sync: Sync) {
    let cache = Arc::clone(&operator.cluster.index);
    // The access of a grant that cannot be read any more ends at the time that was read last.
    let last = move |metadata: &ObjectMeta| {
        let key = GrantKey {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
        };
        let grant = cache.get_grant(&key)?;
        (grant.metadata.uid == metadata.uid).then(|| Arc::unwrap_or_clone(grant))
    };
    let events = unreadable::events_of_ours("grants", operator.cluster.client.clone(), sync, last);
    events
        .map(|mut event| {
            take_grant(&operator, &mut event);
            Ok(event)
        })
        .applied_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::finalizers),
            PredicateConfig::default(),
        )
        .for_each(|grant| {
            if let Ok(grant) = grant {
                operator.triggers.fire_grants([GrantKey::of(&grant)].into());
            }
            std::future::ready(())
        })
        .await;
}

/// Takes one event into the cache and the expiry times, and triggers work on everything affected.
fn take_grant(operator: &Operator, event: &mut Event<AccessGrant>) {
    let Operator {
        cluster, expirations, ..
    } = operator;
    if let Event::Apply(grant) | Event::InitApply(grant) = event {
        prune(grant);
    }
    let affected = cluster.index.grant(event, cluster.clock.now());
    for orphan in &affected.orphans {
        expirations.forget(&orphan.key);
    }
    // After the orphans: a new grant may have the name of a deleted one.
    if let Event::Apply(grant) | Event::InitApply(grant) = event
        && let Some(newest) = cluster.index.get_grant(&GrantKey::of(grant))
    {
        expirations.follow(&newest);
    }
    operator.triggers.fire(affected);
}

/// Updates the gauges until the future is dropped.
pub(crate) async fn keep_gauges(operator: Arc<Operator>) {
    let (index, metrics) = (&operator.cluster.index, &operator.metrics);
    let mut tick = tokio::time::interval(GAUGES_EVERY);
    loop {
        tick.tick().await;
        let states = index.states();
        for state in GrantState::ALL {
            metrics.set_grants(state, states.get(&state).copied().unwrap_or_default());
        }
        metrics.set_overdue_grants(index.overdue(operator.cluster.clock.now()));
        metrics.set_unfused_grants(index.unfused());
        let (ready, unready) = index.policy_readiness();
        metrics.set_policies(true, ready);
        metrics.set_policies(false, unready);
    }
}
