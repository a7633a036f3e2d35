//! The watches: each delivers into the index and says what it touches.
//!
//! Each has its own backoff, and an error of one never reaches another: merged streams share one backoff, by which
//! a single broken watch delays every trigger by up to 25 s (kube#763).

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::core::{DeserializeGuard, error_boundary::InvalidObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher as watch_objects};
use kube::{Api, Client, Resource};
use tokio::sync::watch;

use super::server::Readiness;
use crate::api::{
    AccessDecision, AccessDecisionSpec, AccessGrant, AccessGrantSpec, AccessPolicy, AccessPolicySpec,
    DecisionKind, GrantRef,
};

/// Keeps account of which watches have delivered their first list.
#[derive(Clone, Debug)]
pub struct Sync {
    missing: Arc<Mutex<BTreeSet<&'static str>>>,
    all: watch::Sender<bool>,
    readiness: Readiness,
}

impl Sync {
    /// Waits for these watches.
    pub fn of(names: &[&'static str], readiness: Readiness) -> Self {
        let missing = Arc::new(Mutex::new(names.iter().copied().collect()));
        Self {
            missing,
            all: watch::Sender::new(false),
            readiness,
        }
    }

    /// Turns true when all have delivered, and stays so.
    pub fn all(&self) -> watch::Receiver<bool> {
        self.all.subscribe()
    }

    /// Takes note of an event.
    pub fn note<K>(&self, name: &'static str, event: &Result<Event<K>, watcher::Error>) {
        match event {
            Ok(Event::InitDone) => {
                self.readiness.done(name);
                let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
                missing.remove(name);
                if missing.is_empty() {
                    self.all.send_replace(true);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(watch = name, %error, "a watch broke; it is tried again");
                if self
                    .missing
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .contains(name)
                {
                    self.readiness
                        .undone(name, "cannot be listed yet; the log says why");
                }
            }
        }
    }
}

/// How long a watch goes on before it is asked for anew, in seconds. A connection that is dead without an error says
/// nothing: after this time and 5 s without a word (kube) it is given up. Left out, it is 290 s, for which a request
/// would not be seen. Nine watches asked for once a minute cost nothing, and the API server sends where each has got to
/// before it ends it, so none has to list anew.
const WATCH_SECONDS: u32 = 60;

/// How everything is watched.
pub fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Longest pause of a broken watch. kube's default grows to 30 s: after an API server had restarted, requests were
/// not seen for as long. Nine watches that try every 2 s are five requests a second against a server that is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Pauses of a broken watch: doubling from 100 ms, from the start again after a success.
#[derive(Debug, Default)]
pub struct Patience {
    failures: u32,
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Duration::from_millis(100).saturating_mul(1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        Some(pause.min(LONGEST_PAUSE))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The events of one kind of objects: endless, restarted with backoff, errors told and dropped.
pub fn events<K>(
    name: &'static str,
    api: Api<K>,
    config: watcher::Config,
    sync: Sync,
) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    told(name, watch_objects(api, config), sync)
}

/// With backoff, errors told and dropped.
fn told<K: Send>(
    name: &'static str,
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send,
    sync: Sync,
) -> impl Stream<Item = Event<K>> + Send {
    listed(events)
        .backoff(Patience::default())
        .inspect(move |event| sync.note(name, event))
        .filter_map(|event| std::future::ready(event.ok()))
}

/// Holds back that a list begins until there is something of it. Each attempt at a list begins so, and would count as a
/// success: one that is refused was tried ten times a second.
fn listed<K: Send>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>> + Send,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send {
    let mut begins = false;
    events.flat_map(move |event| {
        let began = std::mem::replace(&mut begins, matches!(event, Ok(Event::Init)));
        let init = (began && event.is_ok()).then_some(Ok(Event::Init));
        let event = (!begins).then_some(event);
        futures::stream::iter(init.into_iter().chain(event))
    })
}

/// Objects of ours, whose definition somebody may replace by that of another version.
pub trait Ours:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + std::marker::Sync + 'static
{
    /// One of which nothing but its metadata is known, to tell that it is gone.
    fn bare(metadata: ObjectMeta) -> Self;
}

impl Ours for AccessGrant {
    fn bare(metadata: ObjectMeta) -> Self {
        let mut grant = Self::new("", AccessGrantSpec::default());
        grant.metadata = metadata;
        grant
    }
}

impl Ours for AccessDecision {
    fn bare(metadata: ObjectMeta) -> Self {
        let spec = AccessDecisionSpec {
            grant_ref: GrantRef::default(),
            decision: DecisionKind::Revoke,
            access_hash: None,
            decider: None,
            reason: None,
        };
        let mut decision = Self::new("", spec);
        decision.metadata = metadata;
        decision
    }
}

impl Ours for AccessPolicy {
    fn bare(metadata: ObjectMeta) -> Self {
        let mut policy = Self::new("", AccessPolicySpec::nothing());
        policy.metadata = metadata;
        policy
    }
}

/// Like [`events`], for objects of ours: one that this version cannot read, such as a record of a later one, keeps no
/// other from being seen. It counts as gone, unless `last` knows a copy that could be read.
pub fn events_of_ours<K: Ours>(
    name: &'static str,
    client: Client,
    sync: Sync,
    last: impl Fn(&ObjectMeta) -> Option<K> + Send + 'static,
) -> impl Stream<Item = Event<K>> + Send
where
    K::Scope: 'static,
{
    // Whoever reads each by itself pays twice for it, which at a start with 50,000 grants is felt. So that begins
    // with the first one that cannot be read.
    let all = watch_objects(Api::<K>::all(client.clone()), config());
    let readable = all.take_while(|event| std::future::ready(!event.as_ref().is_err_and(is_unreadable)));
    let each = watch_objects(Api::<DeserializeGuard<K>>::all(client), config());
    let each = each.filter_map(move |event| {
        let event = event.map(|event| readable_event(name, event, &last)).transpose();
        std::future::ready(event)
    });
    told(name, readable.chain(each), sync)
}

fn is_unreadable(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::SerdeError(_))
            | watcher::Error::WatchFailed(kube::Error::SerdeError(_))
    )
}

/// What an event says, as far as it can be read.
fn readable_event<K: Ours>(
    name: &'static str,
    event: Event<DeserializeGuard<K>>,
    last: impl Fn(&ObjectMeta) -> Option<K>,
) -> Option<Event<K>> {
    let told = |unreadable: &InvalidObject| {
        let metadata = &unreadable.metadata;
        tracing::error!(
            watch = name,
            namespace = metadata.namespace,
            name = metadata.name,
            error = unreadable.error,
            "an object that this version cannot read is left out"
        );
    };
    match event {
        Event::Init => Some(Event::Init),
        Event::InitDone => Some(Event::InitDone),
        Event::InitApply(DeserializeGuard(Ok(object))) => Some(Event::InitApply(object)),
        Event::Apply(DeserializeGuard(Ok(object))) => Some(Event::Apply(object)),
        Event::Delete(DeserializeGuard(Ok(object))) => Some(Event::Delete(object)),
        Event::InitApply(DeserializeGuard(Err(unreadable))) => {
            told(&unreadable);
            last(&unreadable.metadata).map(Event::InitApply)
        }
        Event::Apply(DeserializeGuard(Err(unreadable))) => {
            told(&unreadable);
            let known = last(&unreadable.metadata).map(Event::Apply);
            Some(known.unwrap_or_else(|| Event::Delete(K::bare(unreadable.metadata))))
        }
        Event::Delete(DeserializeGuard(Err(unreadable))) => Some(Event::Delete(K::bare(unreadable.metadata))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_watch_is_tried_again_at_once_and_then_every_two_seconds() {
        let mut patience = Patience::default();
        let pauses: Vec<_> = patience.by_ref().take(7).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        patience.reset();
        assert_eq!(patience.next(), Some(Duration::from_millis(100)));
        patience.failures = u32::MAX;
        assert_eq!(patience.next(), Some(LONGEST_PAUSE));
    }

    #[test]
    fn what_cannot_be_read_counts_as_gone_unless_a_copy_is_known_that_could_be_read() {
        let metadata = serde_json::json!({"name": "pay-123", "namespace": "prod", "uid": "u"});
        let object = serde_json::json!({"metadata": metadata, "spec": {"duration": 5}});
        let unreadable = || serde_json::from_value::<DeserializeGuard<AccessGrant>>(object.clone()).unwrap();
        let known = |metadata: &ObjectMeta| {
            let mut known = AccessGrant::bare(metadata.clone());
            known.spec.reason = "as it was read".to_owned();
            Some(known)
        };
        let said = |event, last: &dyn Fn(&ObjectMeta) -> Option<AccessGrant>| {
            let (what, grant) = match readable_event("grants", event, last)? {
                Event::Apply(grant) => ("applied", grant),
                Event::InitApply(grant) => ("listed", grant),
                Event::Delete(grant) => ("gone", grant),
                Event::Init | Event::InitDone => return None,
            };
            Some((what, grant.metadata.name?, grant.spec.reason))
        };
        let named = |what, reason: &str| Some((what, "pay-123".to_owned(), reason.to_owned()));
        let nothing = |_: &ObjectMeta| None;
        assert_eq!(said(Event::Apply(unreadable()), &nothing), named("gone", ""));
        assert_eq!(said(Event::InitApply(unreadable()), &nothing), None);
        assert_eq!(said(Event::Delete(unreadable()), &nothing), named("gone", ""));
        assert_eq!(
            said(Event::Apply(unreadable()), &known),
            named("applied", "as it was read")
        );
        assert_eq!(
            said(Event::InitApply(unreadable()), &known),
            named("listed", "as it was read")
        );
        assert_eq!(said(Event::Delete(unreadable()), &known), named("gone", ""));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_fails_again_and_again_is_tried_less_and_less_often() {
        let refused = || Err(watcher::Error::NoResourceVersion);
        let attempts = (0..6).flat_map(move |_| [Ok(Event::Init), refused()]);
        let events: Vec<Result<Event<AccessGrant>, _>> =
            attempts.chain([Ok(Event::Init), Ok(Event::InitDone)]).collect();
        let sync = Sync::of(&["grants"], Readiness::default());
        let began = tokio::time::Instant::now();
        let told: Vec<_> = told("grants", futures::stream::iter(events), sync)
            .collect()
            .await;
        assert!(
            matches!(told.as_slice(), [Event::Init, Event::InitDone]),
            "{told:?}"
        );
        let pauses = 100 + 200 + 400 + 800 + 1600 + 2000;
        let took = began.elapsed().as_millis();
        assert!((pauses..pauses + 10).contains(&took), "{took} ms");
    }
}
