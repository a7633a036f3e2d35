//! Objects of this API group that this version cannot read.

use std::fmt::Debug;

use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::core::{DeserializeGuard, error_boundary::InvalidObject};
use kube::runtime::watcher::{self, Event, watcher as watch_objects};
use kube::{Api, Client, Resource};

use super::{Sync, config, told};
use crate::api::{
    AccessDecision, AccessDecisionSpec, AccessGrant, AccessGrantSpec, AccessPolicy, AccessPolicySpec,
    DecisionKind, GrantRef,
};

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
}
