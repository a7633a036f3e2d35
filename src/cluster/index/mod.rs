//! The index: the objects that the watches delivered, reduced to facts, and newer writes of this process.

mod counts;
mod decisions;
mod events;
mod fuses;
pub mod multimap;
mod policies;
mod state;
pub mod watch_cache;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::api::{AccessGrant, ArtifactKind, GrantState, RoleKind};
use crate::cluster::index::state::{Brief, State};
use crate::cluster::objects::keys::{GrantKey, OwnedArtifact};
use crate::core::artifact::key::ArtifactKey;
use crate::core::facts::NamespaceFacts;
use crate::core::policy::Policy;
use crate::core::policy::problem::Problem;
use crate::core::rbac::roles::{ActAsAccounts, Roles};
use crate::core::settings::Settings;

/// The result of parsing a policy.
pub type ParsedPolicy = Result<Arc<Policy>, Vec<Problem>>;

/// The index. Cheap to share. Locks are held during lookups only, never during a request.
#[derive(Debug)]
pub struct Index {
    state: RwLock<State>,
    settings: Settings,
    started: Timestamp,
}

impl Index {
    /// An empty index. A missing policy counts as missing since `started`.
    pub fn new(settings: Settings, started: Timestamp) -> Self {
        Self {
            state: RwLock::default(),
            settings,
            started,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }

    /// Stores a grant that this process has just written, until the watch delivers it or a newer version.
    pub fn wrote(&self, grant: Arc<AccessGrant>) {
        let mut state = self.write();
        let key = GrantKey::of(&grant);
        let brief = Brief::of(grant, true);
        state.told.remove_all(&brief.uid);
        let older = |before: &Brief| before.uid == brief.uid && before.version < brief.version;
        let Some(before) = state.grants.get(&key).cloned().filter(older) else {
            return;
        };
        state.unindex(&key, &before);
        state.grants.put(key.clone(), brief);
        state.reindex(&key, None);
    }

    /// Whether a transition, named by its Event, is new for a grant; stores it as announced.
    ///
    /// It is not new if this process announced it and has not written the grant since. Then that write failed, or the
    /// reconcile was dropped before it. Every transition of a deleted grant is new.
    pub fn is_news(&self, uid: &str, event: &str) -> bool {
        let mut state = self.write();
        if !state.grant_keys.contains_key(uid) {
            return true;
        }
        state.told.insert(uid.to_owned(), event.to_owned())
    }

    /// Stores an artifact that this process has just created, as the API server returned it.
    ///
    /// The watch then delivers no change, so the grant is not reconciled again. If the watch was faster, its version
    /// stays: it is newer, and the watch would not deliver twice that a fuse is lit.
    pub fn made(&self, key: ArtifactKey, held: OwnedArtifact) {
        let mut state = self.write();
        let known = state
            .artifact(&key)
            .is_some_and(|known| known.found.uid == held.found.uid);
        if known {
            return;
        }
        state.held_by_grant.insert(held.grant_uid.clone(), key.clone());
        state.artifacts(key.kind).put(key, held);
    }

    /// Removes an artifact that this process has just deleted.
    pub fn unmade(&self, key: &ArtifactKey) {
        let mut state = self.write();
        if let Some(held) = state.artifacts(key.kind).remove(key) {
            state.held_by_grant.remove(&held.grant_uid, key);
        }
        state.tell_of_fuse(key);
    }

    /// The newest known version of a grant: from the watch, or as this process wrote it. An incomplete relist hides no
    /// grant.
    pub fn get_grant(&self, key: &GrantKey) -> Option<Arc<AccessGrant>> {
        self.read().grants.get(key).map(|brief| Arc::clone(&brief.grant))
    }

    /// Time at which this process first saw the request undecided; `None` if it never did.
    pub fn first_seen(&self, uid: &str) -> Option<Timestamp> {
        self.read().seen.get(uid).copied()
    }

    /// Facts about a namespace.
    pub fn namespace_facts(&self, name: &str) -> Option<NamespaceFacts> {
        self.read().namespaces.get(&name.to_owned()).cloned()
    }

    /// Facts about the named roles, for a grant in `namespace`. Missing roles are left out.
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

    /// The uids of the act-as accounts of these names. Missing accounts are left out.
    pub fn identities(&self, names: impl IntoIterator<Item = String>) -> ActAsAccounts {
        let state = self.read();
        names
            .into_iter()
            .filter_map(|name| {
                let uid = state.identities.get(&name)?.clone();
                Some((name, uid))
            })
            .collect()
    }

    /// Whether the watch has delivered a grant of this uid.
    pub fn has_grant(&self, uid: &str) -> bool {
        self.read().grant_keys.contains_key(uid)
    }

    /// The artifacts with the label of this grant.
    pub fn held_by(&self, grant_uid: &str) -> Vec<(ArtifactKey, OwnedArtifact)> {
        let state = self.read();
        state
            .held_by_grant
            .get(grant_uid)
            .filter_map(|key| state.artifact(key).map(|held| (key.clone(), held.clone())))
            .collect()
    }

    /// Keys of all grants.
    pub fn grants(&self) -> BTreeSet<GrantKey> {
        self.read().grants_where(|_, _| true)
    }

    /// Missing grants that have artifacts: uid and last known key.
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

    /// The grants of a namespace whose access has not been granted yet.
    pub fn to_be_given(&self, namespace: &str) -> BTreeSet<GrantKey> {
        let waits = |brief: &Brief| {
            brief.pending.is_some() || matches!(brief.state, GrantState::Pending | GrantState::Activating)
        };
        self.read()
            .grants_where(|key, brief| key.namespace == namespace && waits(brief))
    }

    /// The namespaces with a live or undecided grant, each with the name of one.
    pub fn open_namespaces(&self) -> BTreeMap<String, String> {
        let open = |brief: &Brief| {
            brief.live.is_some() || brief.pending.is_some() || brief.state == GrantState::Pending
        };
        self.read()
            .grants
            .iter()
            .filter(|(_, brief)| open(brief))
            .map(|(key, _)| (key.namespace.clone(), key.name.clone()))
            .collect()
    }

    /// Expiry of a live grant without a binding; `None` if it has a binding or is not live.
    ///
    /// Such a grant has no access: either its bindings were removed and the record is missing, or they were never
    /// created.
    pub fn end_without_access(&self, key: &GrantKey) -> Option<Timestamp> {
        let state = self.read();
        let brief = state.grants.get(key)?;
        let (_, end) = brief.live.as_ref()?;
        let mut artifacts = state.held_by_grant.get(&brief.uid);
        let stands = artifacts.any(|key| key.kind == ArtifactKind::RoleBinding);
        (!stands).then_some(*end)
    }
}

#[cfg(test)]
mod tests;
