//! Contents of the index, and the lookups between them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::sync::Notify;

use crate::api::{AccessGrant, AccessPolicy, ArtifactKind, Blocks, GrantState, RoleKind, Subject};
use crate::cluster::index::multimap::MultiMap;
use crate::cluster::index::watch_cache::{Change, WatchCache};
use crate::cluster::objects::keys::{Affected, DecisionKey, GrantKey, Orphan, OwnedArtifact};
use crate::core::artifact::key::ArtifactKey;
use crate::core::decision::Decision;
use crate::core::facts::NamespaceFacts;
use crate::core::grant::enforcement::is_unfused;
use crate::core::grant::live::Live;
use crate::core::grant::status;
use crate::core::policy::Policy;
use crate::core::policy::problem::Problem;
use crate::core::rbac::roles::RoleFacts;

/// A grant, and the facts that lookups and counts need of the grant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Brief {
    /// The newest known version: from the watch, or as this process wrote it.
    pub(super) grant: Arc<AccessGrant>,
    /// Whether this process wrote this version and the watch has not delivered it yet.
    pub(super) written: bool,
    pub(super) uid: String,
    pub(super) version: u128,
    pub(super) policy: String,
    pub(super) state: GrantState,
    pub(super) live: Option<(Option<Subject>, Timestamp)>,
    /// Whether its access is in force and needs a fuse, but has no lit fuse.
    pub(super) unfused: bool,
    /// User name of the requester, while the grant waits for approval or for its start.
    pub(super) pending: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct PolicyEntry {
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) policy: Parsed,
    pub(super) object: Watched,
}

/// A policy as the watch delivered it last.
#[derive(Clone, Debug)]
pub(super) struct Watched(pub(super) Arc<AccessPolicy>);

impl PartialEq for Watched {
    /// A new status is no change for grants; uid and generation, which the entry compares, say the rest.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Clone, Debug)]
pub(super) struct Parsed(pub(super) Result<Arc<Policy>, Vec<Problem>>);

impl PartialEq for Parsed {
    /// The result of parsing depends only on uid and generation, which the entry compares.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) verdict: Result<(), String>,
    pub(super) since: Timestamp,
}

/// A decision and the request that it blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DecisionEntry {
    pub(super) decision: Decision,
    pub(super) against: Option<Blocks>,
    pub(super) kept: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) namespaces: WatchCache<String, NamespaceFacts>,
    pub(super) cluster_roles: WatchCache<String, Arc<RoleFacts>>,
    pub(super) roles: WatchCache<(String, String), Arc<RoleFacts>>,
    pub(super) identities: WatchCache<String, String>,
    pub(super) policies: WatchCache<String, PolicyEntry>,
    pub(super) judged: HashMap<String, Judged>,
    pub(super) policy_changed: HashMap<String, Timestamp>,
    pub(super) fuses: WatchCache<ArtifactKey, OwnedArtifact>,
    pub(super) own_roles: WatchCache<ArtifactKey, OwnedArtifact>,
    pub(super) bindings: WatchCache<ArtifactKey, OwnedArtifact>,
    pub(super) held_by_grant: MultiMap<String, ArtifactKey>,
    pub(super) grants: WatchCache<GrantKey, Brief>,
    pub(super) grant_keys: HashMap<String, GrantKey>,
    pub(super) live: MultiMap<(String, Subject), GrantKey>,
    pub(super) pending: MultiMap<(String, String), GrantKey>,
    pub(super) decisions: WatchCache<DecisionKey, DecisionEntry>,
    pub(super) decisions_by_grant: MultiMap<GrantKey, DecisionKey>,
    pub(super) live_by_policy: HashMap<String, u32>,
    pub(super) seen: HashMap<String, Timestamp>,
    /// Announced transitions, by the grant's uid: names of Events, until the grant is written.
    pub(super) told: MultiMap<String, String>,
    /// Waiters for the next change of a fuse.
    pub(super) awaited_fuses: HashMap<ArtifactKey, Arc<Notify>>,
    pub(super) sweep_lives: bool,
}

impl State {
    /// Wakes the waiters for this fuse.
    pub(super) fn tell_of_fuse(&mut self, key: &ArtifactKey) {
        if let Some(waiting) = self.awaited_fuses.remove(key) {
            waiting.notify_waiters();
        }
    }

    pub(super) fn artifact(&self, key: &ArtifactKey) -> Option<&OwnedArtifact> {
        match key.kind {
            ArtifactKind::Job => self.fuses.get(key),
            ArtifactKind::Role => self.own_roles.get(key),
            ArtifactKind::RoleBinding => self.bindings.get(key),
        }
    }

    pub(super) fn artifacts_changed(&mut self, changes: Vec<Change<ArtifactKey, OwnedArtifact>>) -> Affected {
        let mut touched = Affected::default();
        for change in changes {
            let (key, before, after) = match change {
                Change::Set(key, before) => {
                    let after = self.artifact(&key).cloned();
                    (key, before, after)
                }
                Change::Removed(key, before) => (key, Some(before), None),
            };
            if let Some(before) = before {
                self.held_by_grant.remove(&before.grant_uid, &key);
                touched
                    .grants
                    .extend(self.grant_keys.get(&before.grant_uid).cloned());
            }
            let Some(after) = after else { continue };
            self.held_by_grant.insert(after.grant_uid.clone(), key);
            if let Some(grant) = self.grant_keys.get(&after.grant_uid) {
                touched.grants.insert(grant.clone());
            } else {
                touched.orphans.push(Orphan {
                    uid: after.grant_uid,
                    key: after.grant,
                    last: None,
                });
            }
        }
        touched
    }

    pub(super) fn artifacts(&mut self, kind: ArtifactKind) -> &mut WatchCache<ArtifactKey, OwnedArtifact> {
        match kind {
            ArtifactKind::Job => &mut self.fuses,
            ArtifactKind::Role => &mut self.own_roles,
            ArtifactKind::RoleBinding => &mut self.bindings,
        }
    }

    pub(super) fn is_grant(&self, key: &GrantKey, uid: &str) -> bool {
        self.grants.get(key).is_some_and(|brief| brief.uid == uid)
    }

    /// The version that this process wrote, if it is newer than the one that the watch delivers now.
    pub(super) fn newer_written(&self, watched: &AccessGrant) -> Option<Brief> {
        let known = self.grants.get(&GrantKey::of(watched))?;
        let newer = known.grant.metadata.uid == watched.metadata.uid && known.version > version(watched);
        (known.written && newer).then(|| known.clone())
    }

    pub(super) fn grants_where(&self, wanted: impl Fn(&GrantKey, &Brief) -> bool) -> BTreeSet<GrantKey> {
        self.grants
            .iter()
            .filter(|(key, brief)| wanted(key, brief))
            .map(|(key, _)| key.clone())
            .collect()
    }

    pub(super) fn policies_naming(&self, kind: RoleKind, names: &BTreeSet<String>) -> BTreeSet<String> {
        self.policies_where(|policy| {
            policy
                .role_names()
                .any(|(named, name)| named == kind && names.contains(name))
        })
    }

    pub(super) fn policies_where(&self, wanted: impl Fn(&Policy) -> bool) -> BTreeSet<String> {
        let sound = |entry: &PolicyEntry| entry.policy.0.as_ref().is_ok_and(|policy| wanted(policy));
        self.policies
            .iter()
            .filter(|(_, entry)| sound(entry))
            .map(|(name, _)| name.clone())
            .collect()
    }

    pub(super) fn reindex(&mut self, key: &GrantKey, seen_at: Option<Timestamp>) {
        let Some(brief) = self.grants.get(key).cloned() else {
            return;
        };
        self.grant_keys.insert(brief.uid.clone(), key.clone());
        match brief.state {
            GrantState::Pending => {
                if let Some(seen_at) = seen_at {
                    self.seen.entry(brief.uid.clone()).or_insert(seen_at);
                }
            }
            GrantState::Activating => {}
            _ => {
                self.seen.remove(&brief.uid);
            }
        }
        if let Some(requester) = brief.pending {
            self.pending
                .insert((brief.policy.clone(), requester), key.clone());
        }
        let Some((subject, _)) = brief.live else { return };
        *self.live_by_policy.entry(brief.policy.clone()).or_default() += 1;
        if let Some(subject) = subject {
            self.live.insert((brief.policy, subject), key.clone());
        }
    }

    pub(super) fn unindex(&mut self, key: &GrantKey, brief: &Brief) {
        self.grant_keys.remove(&brief.uid);
        if let Some(requester) = &brief.pending {
            self.pending
                .remove(&(brief.policy.clone(), requester.clone()), key);
        }
        let Some((subject, _)) = &brief.live else { return };
        if let Some(count) = self.live_by_policy.get_mut(&brief.policy) {
            *count = count.saturating_sub(1);
        }
        let Some(subject) = subject else { return };
        self.live.remove(&(brief.policy.clone(), subject.clone()), key);
    }
}

impl Brief {
    pub(super) fn of(grant: Arc<AccessGrant>, written: bool) -> Self {
        let status = grant.status.as_ref();
        let live = status
            .and_then(Live::of)
            .map(|live| (live.status.subject.clone(), live.expires_at));
        let state = status::state(&grant);
        let admitted = status.is_some_and(|status| status.resolved.is_some());
        let waits = match state {
            GrantState::AwaitingApproval | GrantState::Scheduled => true,
            // Only until its changed policy has been checked.
            GrantState::Pending => admitted,
            _ => false,
        };
        let requester = grant
            .spec
            .requester
            .as_ref()
            .map(|requester| requester.username.clone());
        Self {
            uid: grant.uid().unwrap_or_default(),
            version: version(&grant),
            policy: grant.spec.policy_ref.name.clone(),
            pending: requester.filter(|_| waits),
            unfused: status.is_some_and(is_unfused),
            state,
            live,
            written,
            grant,
        }
    }
}

pub(super) fn changed_key<K, V>(change: Change<K, V>) -> K {
    match change {
        Change::Set(key, _) | Change::Removed(key, _) => key,
    }
}

/// A resourceVersion as a number. It grows with every write (KEP-5504).
pub(super) fn version(grant: &AccessGrant) -> u128 {
    grant
        .metadata
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}
