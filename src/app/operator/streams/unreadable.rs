//! Objects of this API group that this version cannot read.

use std::fmt::Debug;

use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::watcher::{self, Event, watcher as watch_objects};
use kube::{Api, Client, Resource};

use crate::api::{
    AccessDecision, AccessDecisionSpec, AccessGrant, AccessGrantSpec, AccessPolicy, AccessPolicySpec,
    DecisionKind, GrantRef,
};
use crate::app::operator::streams::sync::Sync;
use crate::app::operator::streams::{config, told};

/// A kind of this API group. Its CRD may be of another version than this program.
pub trait Ours:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + std::marker::Sync + 'static
{
    /// An object of which only the metadata is known, for the event of its deletion.
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

/// Endless stream of the events of a kind of this API group.
///
/// # Guarantees
/// An object that this version cannot read, such as one of a later version, hides no other object. It counts as deleted,
/// unless `last` has a copy that was read before.
pub fn events_of_ours<K: Ours>(
    name: &'static str,
    client: Client,
    sync: Sync,
    last: impl Fn(&ObjectMeta) -> Option<K> + Send + 'static,
) -> impl Stream<Item = Event<K>> + Send
where
    K::Scope: 'static,
{
    // To read each object separately costs twice as much, which matters at a start with 50,000 grants. So the separate
    // reads begin with the first object that cannot be read.
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

/// The readable form of an event; `None`: there is none.
fn readable_event<K: Ours>(
    name: &'static str,
    event: Event<DeserializeGuard<K>>,
    last: impl Fn(&ObjectMeta) -> Option<K>,
) -> Option<Event<K>> {
    let log = |unreadable: &InvalidObject| {
        let metadata = &unreadable.metadata;
        tracing::error!(
            watch = name,
            namespace = metadata.namespace,
            name = metadata.name,
            error = unreadable.error,
            "object cannot be read by this version and is ignored; upgrade curfew or fix the object"
        );
    };
    match event {
        Event::Init => Some(Event::Init),
        Event::InitDone => Some(Event::InitDone),
        Event::InitApply(DeserializeGuard(Ok(object))) => Some(Event::InitApply(object)),
        Event::Apply(DeserializeGuard(Ok(object))) => Some(Event::Apply(object)),
        Event::Delete(DeserializeGuard(Ok(object))) => Some(Event::Delete(object)),
        Event::InitApply(DeserializeGuard(Err(unreadable))) => {
            log(&unreadable);
            last(&unreadable.metadata).map(Event::InitApply)
        }
        Event::Apply(DeserializeGuard(Err(unreadable))) => {
            log(&unreadable);
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
    fn an_unreadable_object_counts_as_deleted_unless_a_copy_is_known() {
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
