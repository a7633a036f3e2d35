//! All reads of one reconcile.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::{AccessGrant, AccessGrantStatus};
use crate::cluster::authorizer;
use crate::cluster::client::error::Error;
use crate::cluster::context::Cluster;
use crate::cluster::grant::live_read::{namespace_live, read_live};
use crate::cluster::grant::references::{identity_names, role_names};
use crate::cluster::objects::keys::GrantKey;
use crate::core::artifact::artifacts;
use crate::core::artifact::found::Found;
use crate::core::artifact::key::ArtifactKey;
use crate::core::decision::Decision;
use crate::core::decision::blocking::Block;
use crate::core::facts::{Input, NamespaceFacts, PolicyFacts, Tried};
use crate::core::grant::live::Live;
use crate::core::guard::state::GuardState;
use crate::core::rbac::roles::{ActAsAccounts, Roles};
use crate::core::request::Request;
use crate::core::settings::Settings;

/// Everything that one reconcile has read.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The newest known copy of the grant.
    pub grant: Arc<AccessGrant>,
    pub(crate) namespace: Option<NamespaceFacts>,
    pub(crate) policy: PolicyFacts,
    pub(crate) roles: Roles,
    pub(crate) identities: ActAsAccounts,
    found: Vec<Found>,
    rivals: Vec<String>,
    pending: Vec<String>,
    decisions: Vec<Decision>,
    objections: Vec<Block>,
    sweep_lives: bool,
    entropy: u128,
}

impl Observation {
    /// The artifacts of the grant that exist.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// The input of a plan.
    pub fn input<'a>(
        &'a self,
        settings: &'a Settings,
        guards: &'a GuardState,
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

/// Observes one grant.
///
/// Reads the index. An artifact that differs from the record is read again from the API server, because a watch can lag
/// behind the writes of this process. `undecided` is the request, if it has no answer yet.
///
/// # Errors
/// A live read failed, or the operating system returned no random bytes. An access review that fails is no error: its
/// decision waits.
pub async fn observe(
    edges: &Cluster,
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
        // Often a namespace and its first grant are created together, and their watches are not synchronized.
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

/// Most concurrent access reviews of one reconcile.
const REVIEWS: usize = 8;

/// The decisions about a grant, oldest first. The API server is asked whether a revoker has the verb `revoke`. A failed
/// review stops nothing else.
async fn decisions(edges: &Cluster, grant: &AccessGrant, key: &GrantKey) -> Vec<Decision> {
    let decisions = edges.index.decisions_about(key, &grant.uid().unwrap_or_default());
    if decisions.is_empty() {
        return decisions;
    }
    let Ok(request) = Request::parse(grant) else {
        return decisions;
    };
    let reviewed = decisions
        .into_iter()
        .map(|decision| review(edges, key, &request, decision));
    stream::iter(reviewed).buffered(REVIEWS).collect().await
}

async fn review(edges: &Cluster, key: &GrantKey, request: &Request, mut decision: Decision) -> Decision {
    if decision.needs_authority(request) {
        decision.authority = authorizer::authority(edges, key, &decision.decider).await;
    }
    decision
}

async fn found(edges: &Cluster, grant: &AccessGrant, now: Timestamp) -> Result<Vec<Found>, Error> {
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

/// Whether an artifact from a watch equals the record of a live grant. If so, the plan will not change it.
fn as_recorded(grant: &AccessGrant, status: &AccessGrantStatus, found: &Found, now: Timestamp) -> bool {
    let key = found.key();
    Live::of(status).is_some_and(|live| {
        live.is_held_as_recorded(found, grant.metadata.uid.as_deref().unwrap_or_default())
    }) && artifacts(grant, status, now)
        .iter()
        .find(|artifact| artifact.key() == key)
        .is_some_and(|artifact| artifact.compare(found).is_ok())
}

/// 128 random bits, for names that nobody can guess.
fn entropy() -> Result<u128, Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(Error::NoEntropy)?;
    Ok(u128::from_be_bytes(bytes))
}
