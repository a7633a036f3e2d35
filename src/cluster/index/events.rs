//! Events of each watch: how they change the index, and what they affect.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::ResourceExt as _;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;

use crate::api::{AccessGrant, AccessPolicy, RoleKind};
use crate::cluster::index::Index;
use crate::cluster::index::state::{Brief, Parsed, PolicyEntry, Watched, changed_key};
use crate::cluster::index::watch_cache::Change;
use crate::cluster::objects::keys::{Affected, GrantKey, Orphan};
use crate::cluster::objects::read;
use crate::cluster::objects::read::Fuse;
use crate::core::policy::Policy;

impl Index {
    /// Applies an event about namespaces.
    pub fn namespace(&self, event: &Event<PartialObjectMeta<Namespace>>) -> Affected {
        let mut state = self.write();
        let changes = state.namespaces.take(event, |namespace| {
            (namespace.name_any(), read::namespace(&namespace.metadata))
        });
        let names: BTreeSet<_> = changes.into_iter().map(changed_key).collect();
        Affected {
            grants: state.grants_where(|key, _| names.contains(&key.namespace)),
            ..Affected::default()
        }
    }

    /// Applies an event about cluster roles. The operator's rights are aggregated from them, so each change affects
    /// every policy. Cluster roles change rarely, and the checks of policies are coalesced.
    pub fn cluster_role(&self, event: &Event<ClusterRole>) -> Affected {
        let mut state = self.write();
        let changes = state.cluster_roles.take(event, |role| {
            (role.name_any(), Arc::new(read::cluster_role(role)))
        });
        let names: BTreeSet<_> = changes.into_iter().map(changed_key).collect();
        if names.is_empty() {
            return Affected::default();
        }
        let naming = state.policies_naming(RoleKind::ClusterRole, &names);
        let grants = state.grants_where(|_, brief| naming.contains(&brief.policy));
        let policies = state.policies.iter().map(|(name, _)| name.clone()).collect();
        Affected {
            grants,
            policies,
            ..Affected::default()
        }
    }

    /// Applies an event about act-as accounts.
    pub fn identity(&self, event: &Event<PartialObjectMeta<ServiceAccount>>) -> Affected {
        let mut state = self.write();
        let changes = state.identities.take(event, |account| {
            (account.name_any(), account.uid().unwrap_or_default())
        });
        let names: BTreeSet<_> = changes.into_iter().map(changed_key).collect();
        let policies = state.policies_where(|policy| policy.identities().any(|name| names.contains(name)));
        Affected {
            grants: state.grants_where(|_, brief| policies.contains(&brief.policy)),
            policies,
            ..Affected::default()
        }
    }

    /// Applies an event about Roles: those named by policies, and those created for grants.
    pub fn role(&self, event: &Event<Role>) -> Affected {
        let mut state = self.write();
        let ours = match event {
            Event::Apply(role) | Event::InitApply(role) | Event::Delete(role) => {
                read::is_ours(&role.metadata)
            }
            Event::Init | Event::InitDone => true,
        };
        let mut touched = Affected::default();
        if ours {
            let changes = state.own_roles.take(event, read::own_role);
            touched = state.artifacts_changed(changes);
        }
        if !ours || matches!(event, Event::Init | Event::InitDone) {
            let changes = state.roles.take(event, |role| {
                let key = (role.namespace().unwrap_or_default(), role.name_any());
                (key, Arc::new(read::role(role)))
            });
            for (namespace, name) in changes.into_iter().map(changed_key) {
                let policies = state.policies_naming(RoleKind::Role, &BTreeSet::from([name]));
                touched.grants.extend(state.grants_where(|key, brief| {
                    key.namespace == namespace && policies.contains(&brief.policy)
                }));
            }
        }
        touched
    }

    /// Applies an event about fuses.
    pub fn fuse(&self, event: &Event<Fuse>) -> Affected {
        let mut state = self.write();
        let changes = state.fuses.take(event, read::fuse);
        for change in &changes {
            let (Change::Set(key, _) | Change::Removed(key, _)) = change;
            state.tell_of_fuse(key);
        }
        state.artifacts_changed(changes)
    }

    /// Applies an event about bindings created for grants.
    pub fn binding(&self, event: &Event<RoleBinding>) -> Affected {
        let mut state = self.write();
        let changes = state.bindings.take(event, read::binding);
        state.artifacts_changed(changes)
    }

    /// Applies an event about policies.
    pub fn policy(&self, event: &Event<AccessPolicy>, now: Timestamp) -> Affected {
        let mut state = self.write();
        let changes = state.policies.take(event, |policy| {
            let entry = PolicyEntry {
                uid: policy.uid().unwrap_or_default(),
                generation: policy.metadata.generation.unwrap_or_default(),
                policy: Parsed(Policy::parse(policy, &self.settings).map(Arc::new)),
                object: Watched(Arc::new(policy.clone())),
            };
            (policy.name_any(), entry)
        });
        let mut touched = Affected::default();
        for change in changes {
            let name = changed_key(change);
            state.policy_changed.insert(name.clone(), now);
            touched
                .grants
                .extend(state.grants_where(|_, brief| brief.policy == name));
            touched.policies.insert(name);
        }
        touched
    }

    /// Applies an event about grants. Returns the orphans and decisions that it affects, and no grant: the watch itself
    /// triggers a reconcile of the grant that changed.
    pub fn grant(&self, event: &Event<AccessGrant>, now: Timestamp) -> Affected {
        let mut state = self.write();
        let state = &mut *state;
        // After our own write, the watch can still deliver an older version.
        let newer = match event {
            Event::Apply(grant) | Event::InitApply(grant) => state.newer_written(grant),
            Event::Delete(_) | Event::Init | Event::InitDone => None,
        };
        let changes = state.grants.take(event, |grant| {
            let watched = || Brief::of(Arc::new(grant.clone()), false);
            (GrantKey::of(grant), newer.unwrap_or_else(watched))
        });
        let mut touched = Affected::default();
        for change in changes {
            match change {
                Change::Set(key, before) => {
                    if let Some(before) = before {
                        state.unindex(&key, &before);
                        if !state.is_grant(&key, &before.uid) && state.held_by_grant.contains_key(&before.uid)
                        {
                            touched.orphans.push(Orphan {
                                uid: before.uid.clone(),
                                key: key.clone(),
                                last: Some(Arc::clone(&before.grant)),
                            });
                        }
                        if !state.is_grant(&key, &before.uid) {
                            state.told.remove_all(&before.uid);
                            touched.decisions.extend(state.open_decisions(&key, &before.uid));
                        }
                    }
                    state.reindex(&key, Some(now));
                }
                Change::Removed(key, brief) => {
                    state.unindex(&key, &brief);
                    state.seen.remove(&brief.uid);
                    state.told.remove_all(&brief.uid);
                    touched.decisions.extend(state.open_decisions(&key, &brief.uid));
                    if brief.live.is_some() || state.held_by_grant.contains_key(&brief.uid) {
                        touched.orphans.push(Orphan {
                            uid: brief.uid,
                            key,
                            last: Some(brief.grant),
                        });
                    }
                }
            }
        }
        touched
    }
}
