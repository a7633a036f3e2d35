//! All reads of a pass.

use std::sync::Arc;

use futures::future::try_join_all;
use futures::try_join;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::{Api, ResourceExt as _};

use super::edges::{Edges, call};
use super::error::Error;
use super::keys::{GrantKey, Held};
use super::{read, rights};
use crate::api::{AccessGrant, AccessGrantStatus, AccessPolicy, ArtifactKind, RoleKind};
use crate::core::self_test::Standing;
use crate::core::{
    ArtifactKey, Decision, Found, Identities, Input, Live, NamespaceFacts, Objection, Policy, PolicyFacts,
    Request, RoleFacts, Roles, Settings, Tried, artifacts,
};

/// What a pass has seen.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The grant, as new as any copy seen.
    pub grant: Arc<AccessGrant>,
    namespace: Option<NamespaceFacts>,
    policy: PolicyFacts,
    roles: Roles,
    identities: Identities,
    found: Vec<Found>,
    rivals: Vec<String>,
    pending: Vec<String>,
    decisions: Vec<Decision>,
    objections: Vec<Objection>,
    sweep_lives: bool,
    entropy: u128,
}

impl Observation {
    /// What was found of the grant's artifacts.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// As the input of a decision.
    pub fn input<'a>(
        &'a self,
        settings: &'a Settings,
        guards: &'a Standing,
        skewed: Option<&'a str>,
        tried: &'a Tried,
    ) -> Input<'a> {
        Input {
            grant: &self.grant,
            namespace: self.namespace.as_ref(),
            policy: &self.policy,
            roles: &self.roles,
            identities: &self.identities,
            found: &self.found,
            rivals: &self.rivals,
            pending: &self.pending,
            decisions: &self.decisions,
            objections: &self.objections,
            guards,
            skewed,
            tried,
            sweep_lives: self.sweep_lives,
            entropy: self.entropy,
            settings,
        }
    }
}

/// Observes one grant. Reads what the watches have delivered; what looks wrong in it, and would be acted upon, is
/// read again live, because a watch can lag behind what this process itself has written.
pub async fn observe(
    edges: &Edges,
    grant: Arc<AccessGrant>,
    undecided: Option<&Request>,
    now: Timestamp,
) -> Result<Observation, Error> {
    let key = GrantKey::of(&grant);
    let policy_name = &grant.spec.policy_ref.name;
    let policy = edges.index.policy_facts(policy_name);
    let roles = edges.index.roles(&key.namespace, role_names(&grant, &policy));
    let identities = edges.index.identities(identity_names(&grant, &policy));
    let found = found(edges, &grant, now).await?;
    let rivals = undecided
        .map(|request| edges.index.rivals(policy_name, &request.subject, &key))
        .unwrap_or_default();
    let pending = undecided
        .map(|request| {
            edges
                .index
                .pending(policy_name, &request.requester.username, &key)
        })
        .unwrap_or_default();
    let objections = undecided
        .map(|_| edges.index.objections(&key))
        .unwrap_or_default();
    let decisions = decisions(edges, &grant, &key).await;
    let namespace = match edges.index.namespace_facts(&key.namespace) {
        // A namespace and a grant in it are often made in one go, and their watches are not in step.
        None => namespace_live(edges, &key.namespace).await?,
        known => known,
    };
    Ok(Observation {
        namespace,
        policy,
        roles,
        identities,
        found,
        rivals,
        pending,
        decisions,
        objections,
        sweep_lives: edges.index.sweep_lives(),
        entropy: entropy()?,
        grant,
    })
}

/// What people decided about the grant. Who may revoke it by the verb alone is asked of the API server; what it does not
/// answer stops nothing else.
async fn decisions(edges: &Edges, grant: &AccessGrant, key: &GrantKey) -> Vec<Decision> {
    let mut decisions = edges.index.decisions_about(key, &grant.uid().unwrap_or_default());
    if decisions.is_empty() {
        return decisions;
    }
    let Ok(request) = Request::parse(grant) else {
        return decisions;
    };
    for decision in &mut decisions {
        if decision.needs_authority(&request) {
            decision.authority = rights::authority(edges, key, &decision.decider).await;
        }
    }
    decisions
}

/// Reads again live what a refusal rests on: namespace, policy, roles and service accounts. A refusal is final, so it
/// must not come from a watch that lags behind an administrator who has just opened the door. A policy that is not the
/// one that was judged counts as not judged: its verdict is on the way.
pub async fn freshen(
    edges: &Edges,
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
    // Side by side: access that people approved waits for the answers.
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
            why: "has not been judged yet".to_owned(),
            text: None,
        };
    }
    Ok(seen)
}

async fn namespace_live(edges: &Edges, name: &str) -> Result<Option<NamespaceFacts>, Error> {
    let namespaces = Api::<Namespace>::all(edges.client.clone());
    let live = call("read namespace", namespaces.get_metadata_opt(name)).await?;
    Ok(live.map(|namespace| read::namespace(&namespace.metadata)))
}

async fn role_live(
    edges: &Edges,
    namespace: &str,
    kind: RoleKind,
    name: &str,
) -> Result<Option<RoleFacts>, Error> {
    let client = edges.client.clone();
    Ok(match kind {
        RoleKind::ClusterRole => {
            let roles = Api::<ClusterRole>::all(client);
            call("read ClusterRole", roles.get_opt(name))
                .await?
                .map(|role| read::cluster_role(&role))
        }
        RoleKind::Role => {
            let roles = Api::<Role>::namespaced(client, namespace);
            call("read Role", roles.get_opt(name))
                .await?
                .map(|role| read::role(&role))
        }
    })
}

fn role_names(grant: &AccessGrant, policy: &PolicyFacts) -> Vec<(RoleKind, String)> {
    let resolved = grant.status.iter().filter_map(|status| status.resolved.as_ref());
    let held = resolved
        .flat_map(|access| &access.entitlements)
        .filter_map(|entitlement| entitlement.role.as_ref());
    let mut names: Vec<_> = held.map(|role| (role.kind, role.name.clone())).collect();
    if let Some(policy) = known(policy) {
        names.extend(policy.role_names().map(|(kind, name)| (kind, name.to_owned())));
    }
    names
}

fn identity_names(grant: &AccessGrant, policy: &PolicyFacts) -> Vec<String> {
    let resolved = grant.status.iter().filter_map(|status| status.resolved.as_ref());
    let held = resolved
        .flat_map(|access| &access.entitlements)
        .filter_map(|entitlement| entitlement.act_as.as_ref());
    let mut names: Vec<_> = held.map(|identity| identity.service_account.clone()).collect();
    if let Some(policy) = known(policy) {
        names.extend(policy.identities().map(str::to_owned));
    }
    names
}

fn known(policy: &PolicyFacts) -> Option<&Policy> {
    match policy {
        PolicyFacts::Ready(policy)
        | PolicyFacts::Unready {
            policy: Some(policy), ..
        } => Some(policy),
        PolicyFacts::Absent { .. } | PolicyFacts::Unready { policy: None, .. } => None,
    }
}

async fn found(edges: &Edges, grant: &AccessGrant, now: Timestamp) -> Result<Vec<Found>, Error> {
    let uid = grant.uid().unwrap_or_default();
    let status = grant.status.clone().unwrap_or_default();
    let known = edges.index.held_by(&uid);
    let mut found = Vec::new();
    let mut doubtful: Vec<ArtifactKey> = Vec::new();
    for (key, held) in known {
        if as_recorded(grant, &status, &held.found, now) {
            found.push(held.found);
        } else {
            doubtful.push(key);
        }
    }
    if Live::of(&status).is_some() {
        let there: Vec<_> = found.iter().map(Found::key).collect();
        let recorded = status.artifacts.iter().map(ArtifactKey::from);
        doubtful.extend(recorded.filter(|key| !there.contains(key)));
    }
    doubtful.sort();
    doubtful.dedup();
    for key in doubtful {
        found.extend(
            read_live(edges, &key)
                .await?
                .filter(|held| held.grant_uid == uid)
                .map(|held| held.found),
        );
    }
    Ok(found)
}

/// Whether what the watch delivered is just what is recorded of a live grant: then nothing will be done about it.
fn as_recorded(grant: &AccessGrant, status: &AccessGrantStatus, found: &Found, now: Timestamp) -> bool {
    let key = found.key();
    Live::of(status).is_some_and(|live| {
        live.is_held_as_recorded(found, grant.metadata.uid.as_deref().unwrap_or_default())
    }) && artifacts(grant, status, now)
        .iter()
        .find(|artifact| artifact.key() == key)
        .is_some_and(|artifact| artifact.compare(found).is_ok())
}

/// Reads one artifact from the API server itself. What is there without our label is not ours: it is not found.
pub async fn read_live(edges: &Edges, key: &ArtifactKey) -> Result<Option<Held>, Error> {
    let (client, namespace, name) = (edges.client.clone(), &key.namespace, &key.name);
    let held = match key.kind {
        ArtifactKind::Job => {
            let fuses = Api::<read::Fuse>::namespaced_with(client, namespace, &read::fuses());
            call("read fuse", fuses.get_opt(name))
                .await?
                .map(|fuse| read::fuse(&fuse))
        }
        ArtifactKind::Role => {
            let roles = Api::<Role>::namespaced(client, namespace);
            call("read Role", roles.get_opt(name))
                .await?
                .map(|role| read::own_role(&role))
        }
        ArtifactKind::RoleBinding => {
            let bindings = Api::<RoleBinding>::namespaced(client, namespace);
            call("read RoleBinding", bindings.get_opt(name))
                .await?
                .map(|binding| read::binding(&binding))
        }
    };
    Ok(held
        .map(|(_, held)| held)
        .filter(|held| !held.grant_uid.is_empty()))
}

/// 128 bits nobody can guess.
fn entropy() -> Result<u128, Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(Error::NoEntropy)?;
    Ok(u128::from_be_bytes(bytes))
}
