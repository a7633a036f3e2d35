//! The nine watches: each feeds the index and triggers what an event affects.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::runtime::{Predicate as _, PredicateConfig, WatchStreamExt as _, predicates};
use kube::{Api, Client, ResourceExt as _};
use tokio::task::JoinSet;

use super::deadlines::Deadlines;
use super::metrics::{GrantState, Metrics};
use super::streams::{self, Sync};
use super::triggers::Triggers;
use crate::api::{AccessGrant, AccessPolicy, GRANT_UID_LABEL};
use crate::cluster::{Edges, GrantKey, Index, fuses};
use crate::core::slim;

/// How often the gauges are brought up to date.
const GAUGES_EVERY: Duration = Duration::from_secs(5);

/// The watches that must have delivered their first list before anything is decided.
pub(super) const WATCHES: [&str; 9] = [
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

/// The watches that only deliver facts and triggers.
pub(super) fn watch_the_rest(
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

pub(super) async fn watch_policies(
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
pub(super) async fn watch_grants(edges: Edges, sync: Sync, triggers: Triggers, deadlines: Arc<Deadlines>) {
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

pub(super) async fn keep_gauges(Edges { clock, index, .. }: Edges, metrics: Metrics) {
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
