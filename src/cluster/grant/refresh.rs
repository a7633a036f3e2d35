//! Live reads of everything that a refusal depends on.

use std::sync::Arc;

use futures::future::try_join_all;
use futures::try_join;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, ResourceExt as _};

use crate::api::AccessPolicy;
use crate::cluster::client::call;
use crate::cluster::client::error::Error;
use crate::cluster::context::Cluster;
use crate::cluster::grant::live_read::{namespace_live, role_live};
use crate::cluster::grant::observe::Observation;
use crate::cluster::grant::references::{identity_names, role_names};
use crate::cluster::objects::keys::GrantKey;
use crate::core::facts::PolicyFacts;
use crate::core::settings::Settings;

/// Reads namespace, policy, roles and service accounts again, from the API server itself.
///
/// A denial is final, so it must not result from a watch that lags behind an administrator's change.
///
/// # Guarantees
/// A policy that is newer than its known readiness counts as not checked yet, so the request waits.
///
/// # Errors
/// A read failed. All reads are concurrent, because access that people approved waits for them.
pub async fn refresh(
    edges: &Cluster,
    mut seen: Observation,
    settings: &Settings,
    now: Timestamp,
) -> Result<Observation, Error> {
    let key = GrantKey::of(&seen.grant);
    let name = seen.grant.spec.policy_ref.name.clone();
    let policies = Api::<AccessPolicy>::all(edges.client.clone());
    let accounts = Api::<ServiceAccount>::namespaced(edges.client.clone(), &settings.identities);
    let roles = role_names(&seen.grant, &seen.policy)
        .into_iter()
        .map(async |(kind, role)| {
            let facts = role_live(edges, &key.namespace, kind, &role).await?;
            Ok::<_, Error>(facts.map(|facts| ((kind, role), Arc::new(facts))))
        });
    let identities = identity_names(&seen.grant, &seen.policy)
        .into_iter()
        .map(async |name| {
            let live = call("read ServiceAccount", accounts.get_metadata_opt(&name)).await?;
            Ok::<_, Error>(live.map(|account| (name, account.uid().unwrap_or_default())))
        });
    let (namespace, live, roles, identities) = try_join!(
        namespace_live(edges, &key.namespace),
        call("read policy", policies.get_metadata_opt(&name)),
        try_join_all(roles.collect::<Vec<_>>()),
        try_join_all(identities.collect::<Vec<_>>()),
    )?;
    seen.namespace = namespace;
    seen.roles = roles.into_iter().flatten().collect();
    seen.identities = identities.into_iter().flatten().collect();
    let version = |uid: Option<&str>, generation: i64| (uid.unwrap_or_default().to_owned(), generation);
    let there = live.map(|live| {
        version(
            live.metadata.uid.as_deref(),
            live.metadata.generation.unwrap_or_default(),
        )
    });
    let judged = match &seen.policy {
        PolicyFacts::Ready(policy) => Some(version(Some(&policy.uid), policy.generation)),
        PolicyFacts::Absent { .. } | PolicyFacts::Unready { .. } => None,
    };
    if judged.is_some() && judged != there {
        seen.policy = PolicyFacts::Absent {
            since: now,
            why: "has not been checked yet".to_owned(),
            text: None,
        };
    }
    Ok(seen)
}
