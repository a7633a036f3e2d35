//! Everything the watches have delivered, reduced to the facts decisions rest on, and what this process has
//! written since.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use super::keys::{GrantKey, Held};
use crate::api::{AccessGrant, AccessPolicy, ArtifactKind, RoleKind, Subject, reasons};
use crate::core::{ArtifactKey, Identities, NamespaceFacts, Policy, PolicyFacts, Problem, Roles, Settings};
use state::{Brief, Judged, PolicyEntry, State};

mod decisions;
mod events;
mod fuses;
mod state;

/// The index. Cheap to share; locks are held for lookups only, never across a call.
#[derive(Debug)]
pub struct Index {
    state: RwLock<State>,
    settings: Settings,
    started: Timestamp,
}

impl Index {
    /// An empty index; what is missing counts as missing since `started`.
    pub fn new(settings: Settings, started: Timestamp) -> Self {
        Self {
            state: RwLock::default(),
            settings,
            started,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what this process has just written, until the watch delivers it or something newer.
    pub fn wrote(&self, grant: Arc<AccessGrant>) {
        let mut state = self.write();
        let key = GrantKey::of(&grant);
        let brief = Brief::of(grant, true);
        state.told.remove(&brief.uid);
        let older = |before: &Brief| before.uid == brief.uid && before.version < brief.version;
        let Some(before) = state.grants.get(&key).cloned().filter(older) else {
            return;
        };
        state.unindex(&key, &before);
        state.grants.put(key.clone(), brief);
        state.reindex(&key, None);
    }

    /// Whether what the Event of that name tells of a grant is news, and notes that it is told. It is none where this
    /// process has told it and what says so in the grant's record has not been written since: that write failed, or the
    /// pass was dropped before it. Of a grant that is gone everything is news.
    pub fn is_news(&self, uid: &str, event: &str) -> bool {
        let mut state = self.write();
        if !state.grant_keys.contains_key(uid) {
            return true;
        }
        state
            .told
            .entry(uid.to_owned())
            .or_default()
            .insert(event.to_owned())
    }

    /// Notes what this process has just made, as the API server answered. When the watch delivers the same it is no
    /// news, and nobody looks at the grant again for it. What the watch has delivered of it already is newer: that its
    /// fuse is lit would not be delivered twice.
    pub fn made(&self, key: ArtifactKey, held: Held) {
        let mut state = self.write();
        let known = state
            .artifact(&key)
            .is_some_and(|known| known.found.uid == held.found.uid);
        if known {
            return;
        }
        state
            .held_by_grant
            .entry(held.grant_uid.clone())
            .or_default()
            .insert(key.clone());
        state.artifacts(key.kind).put(key, held);
    }

    /// Notes what this process has just removed.
    pub fn unmade(&self, key: &ArtifactKey) {
        let mut state = self.write();
        if let Some(held) = state.artifacts(key.kind).remove(key) {
            state.let_go(&held.grant_uid, key);
        }
        state.tell_of_fuse(key);
    }

    /// The newest known version of a grant: from the watch, or as this process wrote it. A relist that is not complete
    /// hides no grant.
    pub fn get_grant(&self, key: &GrantKey) -> Option<Arc<AccessGrant>> {
        self.read().grants.get(key).map(|brief| Arc::clone(&brief.grant))
    }

    /// When this process first saw a request that nobody had decided; `None` if it never did.
    pub fn first_seen(&self, uid: &str) -> Option<Timestamp> {
        self.read().seen.get(uid).copied()
    }

    /// Notes the verdict on a policy. Answers the grants it concerns, if it is news.
    pub fn judge(
        &self,
        name: &str,
        uid: &str,
        generation: i64,
        verdict: Result<(), String>,
        now: Timestamp,
    ) -> BTreeSet<GrantKey> {
        let mut state = self.write();
        let known = state.judged.get(name).is_some_and(|judged| {
            judged.uid == uid && judged.generation == generation && judged.verdict == verdict
        });
        if known {
            return BTreeSet::new();
        }
        let judged = Judged {
            uid: uid.to_owned(),
            generation,
            verdict,
            since: now,
        };
        state.judged.insert(name.to_owned(), judged);
        state.grants_where(|_, brief| brief.policy == name)
    }

    /// A policy as the watch delivered it last, and the result of parsing that version.
    pub fn get_policy(&self, name: &str) -> Option<(Arc<AccessPolicy>, Result<Arc<Policy>, Vec<Problem>>)> {
        let state = self.read();
        let entry = state.policies.get(&name.to_owned())?;
        Some((Arc::clone(&entry.object.0), entry.policy.0.clone()))
    }

    /// All policies as the watch delivered them last, in no order.
    pub fn policies(&self) -> Vec<Arc<AccessPolicy>> {
        let state = self.read();
        let policies = state.policies.iter();
        policies.map(|(_, entry)| Arc::clone(&entry.object.0)).collect()
    }

    /// Whether people may be asked about requests under that policy.
    pub fn asks_people(&self, name: &str) -> bool {
        let state = self.read();
        let policy = state.policies.get(&name.to_owned()).map(|entry| &entry.policy.0);
        policy.is_some_and(|parsed| {
            parsed
                .as_ref()
                .is_ok_and(|policy| policy.approval.demands().is_some())
        })
    }

    /// The policy of that name, as decisions see it.
    pub fn policy_facts(&self, name: &str) -> PolicyFacts {
        let state = self.read();
        let since = state.policy_changed.get(name).copied().unwrap_or(self.started);
        let Some(entry) = state.policies.get(&name.to_owned()) else {
            return PolicyFacts::Absent {
                since,
                why: "does not exist".to_owned(),
                text: None,
            };
        };
        let judged = state
            .judged
            .get(name)
            .filter(|judged| judged.uid == entry.uid && judged.generation == entry.generation);
        match (judged, &entry.policy.0) {
            (None, parsed) => PolicyFacts::Absent {
                since,
                why: "has not been judged yet".to_owned(),
                text: parsed.as_ref().ok().cloned(),
            },
            (Some(Judged { verdict: Ok(()), .. }), Ok(policy)) => PolicyFacts::Ready(Arc::clone(policy)),
            (Some(Judged { verdict, since, .. }), parsed) => PolicyFacts::Unready {
                since: *since,
                why: verdict
                    .clone()
                    .err()
                    .unwrap_or_else(|| "it is invalid".to_owned()),
                policy: parsed.as_ref().ok().cloned(),
            },
        }
    }

    /// The namespace of that name.
    pub fn namespace_facts(&self, name: &str) -> Option<NamespaceFacts> {
        self.read().namespaces.get(&name.to_owned()).cloned()
    }

    /// The named roles, as they are for a grant in `namespace`.
    pub fn roles(&self, namespace: &str, names: impl IntoIterator<Item = (RoleKind, String)>) -> Roles {
        let state = self.read();
        let mut roles = BTreeMap::new();
        for (kind, name) in names {
            let role = match kind {
                RoleKind::ClusterRole => state.cluster_roles.get(&name),
                RoleKind::Role => state.roles.get(&(namespace.to_owned(), name.clone())),
            };
            if let Some(role) = role {
                roles.insert((kind, name), Arc::clone(role));
            }
        }
        roles
    }

    /// The service accounts of these names that exist among the identities.
    pub fn identities(&self, names: impl IntoIterator<Item = String>) -> Identities {
        let state = self.read();
        names
            .into_iter()
            .filter_map(|name| {
                let uid = state.identities.get(&name)?.clone();
                Some((name, uid))
            })
            .collect()
    }

    /// Whether the watch has delivered a grant of that uid.
    pub fn has_grant(&self, uid: &str) -> bool {
        self.read().grant_keys.contains_key(uid)
    }

    /// What carries the label of that grant.
    pub fn held_by(&self, grant_uid: &str) -> Vec<(ArtifactKey, Held)> {
        let state = self.read();
        state
            .held_by_grant
            .get(grant_uid)
            .into_iter()
            .flatten()
            .filter_map(|key| state.artifact(key).map(|held| (key.clone(), held.clone())))
            .collect()
    }

    /// The live grants of a policy and subject, other than `except`, as `namespace/name`.
    pub fn rivals(&self, policy: &str, subject: &Subject, except: &GrantKey) -> Vec<String> {
        let state = self.read();
        let key = (policy.to_owned(), subject.clone());
        let keys = state
            .live
            .get(&key)
            .into_iter()
            .flatten()
            .filter(|key| *key != except);
        keys.map(|key| format!("{}/{}", key.namespace, key.name))
            .collect()
    }

    /// The grants of a policy and requester that wait for people or for their time, other than `except`, as
    /// `namespace/name`.
    pub fn pending(&self, policy: &str, requester: &str, except: &GrantKey) -> Vec<String> {
        let state = self.read();
        let key = (policy.to_owned(), requester.to_owned());
        let keys = state.pending.get(&key).into_iter().flatten();
        keys.filter(|key| *key != except)
            .map(|key| format!("{}/{}", key.namespace, key.name))
            .collect()
    }

    /// How many live grants a policy has.
    pub fn live_grants(&self, policy: &str) -> u32 {
        self.read()
            .live_by_policy
            .get(policy)
            .copied()
            .unwrap_or_default()
    }

    /// All grants.
    pub fn grants(&self) -> BTreeSet<GrantKey> {
        self.read().grants_where(|_, _| true)
    }

    /// What carries the label of a grant that is not there, each by the grant's uid and key.
    pub fn orphans(&self) -> BTreeSet<(String, GrantKey)> {
        let state = self.read();
        let gone = state
            .held_by_grant
            .iter()
            .filter(|(uid, _)| !state.grant_keys.contains_key(*uid));
        gone.filter_map(|(uid, keys)| {
            let held = keys.iter().find_map(|key| state.artifact(key))?;
            Some((uid.clone(), held.grant.clone()))
        })
        .collect()
    }

    /// The grants of a namespace whose access is yet to be given.
    pub fn to_be_given(&self, namespace: &str) -> BTreeSet<GrantKey> {
        let waits = |brief: &Brief| {
            brief.pending.is_some() || matches!(brief.state, reasons::PENDING | reasons::ACTIVATING)
        };
        self.read()
            .grants_where(|key, brief| key.namespace == namespace && waits(brief))
    }

    /// The namespaces that have a grant which is live or undecided, each with one of them.
    pub fn open_namespaces(&self) -> BTreeMap<String, String> {
        let open = |brief: &Brief| {
            brief.live.is_some() || brief.pending.is_some() || brief.state == reasons::PENDING
        };
        self.read()
            .grants
            .iter()
            .filter(|(_, brief)| open(brief))
            .map(|(key, _)| (key.namespace.clone(), key.name.clone()))
            .collect()
    }

    /// The end of a live grant of which no binding stands, as far as the watches have delivered: it is past, and
    /// somebody has taken the access and not recorded that yet; or nothing was made of it.
    pub fn end_without_access(&self, key: &GrantKey) -> Option<Timestamp> {
        let state = self.read();
        let brief = state.grants.get(key)?;
        let (_, end) = brief.live.as_ref()?;
        let held = state.held_by_grant.get(&brief.uid);
        let stands = held.is_some_and(|keys| keys.iter().any(|key| key.kind == ArtifactKind::RoleBinding));
        (!stands).then_some(*end)
    }

    /// How many grants have access that wants a fuse and is not held by one that is lit.
    pub fn unfused(&self) -> usize {
        self.read()
            .grants
            .iter()
            .filter(|(_, brief)| brief.unfused)
            .count()
    }

    /// How many live grants are past their end at `now`.
    pub fn overdue(&self, now: Timestamp) -> usize {
        let overdue = |brief: &Brief| brief.live.as_ref().is_some_and(|(_, end)| *end < now);
        self.read()
            .grants
            .iter()
            .filter(|(_, brief)| overdue(brief))
            .count()
    }

    /// Names of all policies.
    pub fn policy_names(&self) -> Vec<String> {
        self.read()
            .policies
            .iter()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// How many grants there are in each state.
    pub fn states(&self) -> HashMap<&'static str, usize> {
        self.read()
            .grants
            .iter()
            .fold(HashMap::new(), |mut states, (_, brief)| {
                *states.entry(brief.state).or_default() += 1;
                states
            })
    }

    /// How many policies are ready, and how many are not.
    pub fn policy_readiness(&self) -> (usize, usize) {
        let state = self.read();
        let ready = |(name, _): &(&String, &PolicyEntry)| {
            state
                .judged
                .get(*name)
                .is_some_and(|judged| judged.verdict.is_ok())
        };
        let (ready, unready): (Vec<_>, Vec<_>) = state.policies.iter().partition(ready);
        (ready.len(), unready.len())
    }
}

#[cfg(test)]
mod tests;
