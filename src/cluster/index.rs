//! Everything the watches have delivered, reduced to the facts decisions rest on, and what this process has
//! written since.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::ResourceExt as _;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;

use super::mirror::{Change, Mirror};
use super::read;
use crate::api::{AccessGrant, AccessPolicy, ArtifactKind, RoleKind, Subject, reasons};
use crate::core::{
    Found, Live, NamespaceFacts, Policy, PolicyFacts, Problem, RoleFacts, Roles, Settings, status,
};

/// Names a grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl GrantKey {
    /// The key of a grant.
    pub fn of(grant: &AccessGrant) -> Self {
        Self {
            namespace: grant.namespace().unwrap_or_default(),
            name: grant.name_any(),
        }
    }
}

/// Names something made for a grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArtifactKey {
    /// Its kind.
    pub kind: ArtifactKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Something made for a grant, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Uid of the grant on its label.
    pub grant_uid: String,
    /// Name of the grant on its annotation; a hint.
    pub grant_name: String,
    /// What it is.
    pub found: Found,
}

/// What a grant looks like to those who only count and find it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Brief {
    uid: String,
    version: u128,
    policy: String,
    state: &'static str,
    live: Option<(Option<Subject>, Timestamp)>,
}

#[derive(Clone, Debug, PartialEq)]
struct PolicyEntry {
    uid: String,
    generation: i64,
    policy: Parsed,
}

#[derive(Clone, Debug)]
struct Parsed(Result<Arc<Policy>, Vec<Problem>>);

impl PartialEq for Parsed {
    /// Parsing is a function of uid and generation, which the entry compares.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Clone, Debug)]
struct Judged {
    uid: String,
    generation: i64,
    verdict: Result<(), String>,
    since: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    namespaces: Mirror<String, NamespaceFacts>,
    cluster_roles: Mirror<String, Arc<RoleFacts>>,
    roles: Mirror<(String, String), Arc<RoleFacts>>,
    policies: Mirror<String, PolicyEntry>,
    judged: HashMap<String, Judged>,
    policy_changed: HashMap<String, Timestamp>,
    fuses: Mirror<ArtifactKey, Held>,
    own_roles: Mirror<ArtifactKey, Held>,
    bindings: Mirror<ArtifactKey, Held>,
    held_by_grant: HashMap<String, BTreeSet<ArtifactKey>>,
    grants: Mirror<GrantKey, Brief>,
    grant_keys: HashMap<String, GrantKey>,
    live: HashMap<(String, Subject), BTreeSet<GrantKey>>,
    live_by_policy: HashMap<String, u32>,
    written: HashMap<GrantKey, Arc<AccessGrant>>,
    seen: HashMap<String, Timestamp>,
}

/// What concerns whom, after an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Grants to look at.
    pub grants: BTreeSet<GrantKey>,
    /// Policies to judge again.
    pub policies: BTreeSet<String>,
    /// Grants that are gone though something made for them is there, or was: uid and last known key.
    pub orphans: BTreeSet<(String, GrantKey)>,
}

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

    /// Takes in an event about namespaces.
    pub fn namespace(&self, event: &Event<PartialObjectMeta<Namespace>>) -> Touched {
        let mut state = self.write();
        let changes = state.namespaces.take(event, |namespace| {
            (namespace.name_any(), read::namespace(&namespace.metadata))
        });
        let names: BTreeSet<_> = changes.into_iter().map(changed_key).collect();
        Touched {
            grants: state.grants_where(|key, _| names.contains(&key.namespace)),
            ..Touched::default()
        }
    }

    /// Takes in an event about cluster roles. The operator's own rights change with them, so every policy that is
    /// not ready is judged again.
    pub fn cluster_role(&self, event: &Event<ClusterRole>) -> Touched {
        let mut state = self.write();
        let changes = state.cluster_roles.take(event, |role| {
            (role.name_any(), Arc::new(read::cluster_role(role)))
        });
        let names: BTreeSet<_> = changes.into_iter().map(changed_key).collect();
        if names.is_empty() {
            return Touched::default();
        }
        let policies = state.policies_naming(RoleKind::ClusterRole, &names);
        let unready = state.judged.iter().filter(|(_, judged)| judged.verdict.is_err());
        let grants = state.grants_where(|_, brief| policies.contains(&brief.policy));
        let policies = unready
            .map(|(name, _)| name.clone())
            .chain(policies.iter().cloned())
            .collect();
        Touched {
            grants,
            policies,
            ..Touched::default()
        }
    }

    /// Takes in an event about Roles: named ones, and those made for grants.
    pub fn role(&self, event: &Event<Role>) -> Touched {
        let mut state = self.write();
        let ours = match event {
            Event::Apply(role) | Event::InitApply(role) | Event::Delete(role) => {
                read::is_ours(&role.metadata)
            }
            Event::Init | Event::InitDone => true,
        };
        let mut touched = Touched::default();
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

    /// Takes in an event about fuses.
    pub fn fuse(&self, event: &Event<PartialObjectMeta<Job>>) -> Touched {
        let mut state = self.write();
        let changes = state.fuses.take(event, |job| read::fuse(&job.metadata));
        state.artifacts_changed(changes)
    }

    /// Takes in an event about bindings made for grants.
    pub fn binding(&self, event: &Event<RoleBinding>) -> Touched {
        let mut state = self.write();
        let changes = state.bindings.take(event, read::binding);
        state.artifacts_changed(changes)
    }

    /// Takes in an event about policies.
    pub fn policy(&self, event: &Event<AccessPolicy>, now: Timestamp) -> Touched {
        let mut state = self.write();
        let changes = state.policies.take(event, |policy| {
            let entry = PolicyEntry {
                uid: policy.uid().unwrap_or_default(),
                generation: policy.metadata.generation.unwrap_or_default(),
                policy: Parsed(Policy::parse(policy, &self.settings).map(Arc::new)),
            };
            (policy.name_any(), entry)
        });
        let mut touched = Touched::default();
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

    /// Takes in an event about grants, which the store of grants holds already. Answers the orphans it leaves; a
    /// grant's own change is its own trigger.
    pub fn grant(&self, event: &Event<AccessGrant>, now: Timestamp) -> Touched {
        let mut state = self.write();
        let state = &mut *state;
        // The watch can deliver what was before our own write after it.
        let newer = match event {
            Event::Apply(grant) | Event::InitApply(grant) => {
                state.newer_written(grant).map(|grant| Brief::of(&grant))
            }
            Event::Delete(_) | Event::Init | Event::InitDone => None,
        };
        let changes = state.grants.take(event, |grant| {
            (GrantKey::of(grant), newer.unwrap_or_else(|| Brief::of(grant)))
        });
        let mut touched = Touched::default();
        for change in changes {
            match change {
                Change::Set(key, before) => {
                    if let Some(before) = before {
                        state.unindex(&key, &before);
                        if !state.is_grant(&key, &before.uid) && state.held_by_grant.contains_key(&before.uid)
                        {
                            touched.orphans.insert((before.uid, key.clone()));
                        }
                    }
                    state.reindex(&key, Some(now));
                }
                Change::Removed(key, brief) => {
                    state.written.remove(&key);
                    state.unindex(&key, &brief);
                    state.seen.remove(&brief.uid);
                    if brief.live.is_some() || state.held_by_grant.contains_key(&brief.uid) {
                        touched.orphans.insert((brief.uid, key));
                    }
                }
            }
        }
        // Not at a relist: its objects come into the store only when it is complete.
        if let Event::Apply(grant) = event {
            state.forget_written(&GrantKey::of(grant), grant);
        }
        touched
    }

    /// Notes what this process has just written, until the watch delivers it or something newer.
    pub fn wrote(&self, grant: Arc<AccessGrant>) {
        let mut state = self.write();
        let key = GrantKey::of(&grant);
        let brief = Brief::of(&grant);
        let older = |before: &Brief| before.uid == brief.uid && before.version < brief.version;
        let Some(before) = state.grants.get(&key).cloned().filter(older) else {
            return;
        };
        state.unindex(&key, &before);
        state.grants.put(key.clone(), brief);
        state.reindex(&key, None);
        state.written.insert(key, grant);
    }

    /// When this process first saw a request that nobody had decided; `None` if it never did.
    pub fn first_seen(&self, uid: &str) -> Option<Timestamp> {
        self.read().seen.get(uid).copied()
    }

    /// The newer of a copy from the watch and what this process wrote.
    pub fn newest(&self, watched: Arc<AccessGrant>) -> Arc<AccessGrant> {
        self.read().newer_written(&watched).unwrap_or(watched)
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

    /// A policy's parsed form and problems.
    pub fn parsed_policy(&self, name: &str) -> Option<Result<Arc<Policy>, Vec<Problem>>> {
        self.read()
            .policies
            .get(&name.to_owned())
            .map(|entry| entry.policy.0.clone())
    }

    /// The policy of that name, as decisions see it.
    pub fn policy_facts(&self, name: &str) -> PolicyFacts {
        let state = self.read();
        let since = state.policy_changed.get(name).copied().unwrap_or(self.started);
        let Some(entry) = state.policies.get(&name.to_owned()) else {
            return PolicyFacts::Absent {
                since,
                why: "does not exist".to_owned(),
            };
        };
        let judged = state
            .judged
            .get(name)
            .filter(|judged| judged.uid == entry.uid && judged.generation == entry.generation);
        match (judged, &entry.policy.0) {
            (None, _) => PolicyFacts::Absent {
                since,
                why: "has not been judged yet".to_owned(),
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

    /// What carries the label of that grant, in the grant's namespace.
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

    /// How many live grants a policy has.
    pub fn live_grants(&self, policy: &str) -> u32 {
        self.read()
            .live_by_policy
            .get(policy)
            .copied()
            .unwrap_or_default()
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

impl State {
    fn artifact(&self, key: &ArtifactKey) -> Option<&Held> {
        match key.kind {
            ArtifactKind::Job => self.fuses.get(key),
            ArtifactKind::Role => self.own_roles.get(key),
            ArtifactKind::RoleBinding => self.bindings.get(key),
        }
    }

    fn artifacts_changed(&mut self, changes: Vec<Change<ArtifactKey, Held>>) -> Touched {
        let mut touched = Touched::default();
        for change in changes {
            let (key, before, after) = match change {
                Change::Set(key, before) => {
                    let after = self.artifact(&key).cloned();
                    (key, before, after)
                }
                Change::Removed(key, before) => (key, Some(before), None),
            };
            if let Some(before) = before {
                self.let_go(&before.grant_uid, &key);
                touched
                    .grants
                    .extend(self.grant_keys.get(&before.grant_uid).cloned());
            }
            let Some(after) = after else { continue };
            self.held_by_grant
                .entry(after.grant_uid.clone())
                .or_default()
                .insert(key.clone());
            if let Some(grant) = self.grant_keys.get(&after.grant_uid) {
                touched.grants.insert(grant.clone());
            } else {
                let grant = GrantKey {
                    namespace: key.namespace,
                    name: after.grant_name,
                };
                touched.orphans.insert((after.grant_uid, grant));
            }
        }
        touched
    }

    fn let_go(&mut self, grant_uid: &str, key: &ArtifactKey) {
        if let Some(keys) = self.held_by_grant.get_mut(grant_uid) {
            keys.remove(key);
            if keys.is_empty() {
                self.held_by_grant.remove(grant_uid);
            }
        }
    }

    fn is_grant(&self, key: &GrantKey, uid: &str) -> bool {
        self.grants.get(key).is_some_and(|brief| brief.uid == uid)
    }

    fn newer_written(&self, watched: &AccessGrant) -> Option<Arc<AccessGrant>> {
        let written = self.written.get(&GrantKey::of(watched))?;
        (written.metadata.uid == watched.metadata.uid && version(written) > version(watched))
            .then(|| Arc::clone(written))
    }

    fn grants_where(&self, wanted: impl Fn(&GrantKey, &Brief) -> bool) -> BTreeSet<GrantKey> {
        self.grants
            .iter()
            .filter(|(key, brief)| wanted(key, brief))
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn policies_naming(&self, kind: RoleKind, names: &BTreeSet<String>) -> BTreeSet<String> {
        let names_one = |entry: &PolicyEntry| {
            entry.policy.0.as_ref().is_ok_and(|policy| {
                policy
                    .role_names()
                    .any(|(named, name)| named == kind && names.contains(name))
            })
        };
        self.policies
            .iter()
            .filter(|(_, entry)| names_one(entry))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn reindex(&mut self, key: &GrantKey, seen_at: Option<Timestamp>) {
        let Some(brief) = self.grants.get(key).cloned() else {
            return;
        };
        self.grant_keys.insert(brief.uid.clone(), key.clone());
        match brief.state {
            reasons::PENDING => {
                if let Some(seen_at) = seen_at {
                    self.seen.entry(brief.uid.clone()).or_insert(seen_at);
                }
            }
            reasons::ACTIVATING => {}
            _ => {
                self.seen.remove(&brief.uid);
            }
        }
        let Some((subject, _)) = brief.live else { return };
        *self.live_by_policy.entry(brief.policy.clone()).or_default() += 1;
        if let Some(subject) = subject {
            self.live
                .entry((brief.policy, subject))
                .or_default()
                .insert(key.clone());
        }
    }

    fn unindex(&mut self, key: &GrantKey, brief: &Brief) {
        self.grant_keys.remove(&brief.uid);
        let Some((subject, _)) = &brief.live else { return };
        if let Some(count) = self.live_by_policy.get_mut(&brief.policy) {
            *count = count.saturating_sub(1);
        }
        let Some(subject) = subject else { return };
        let place = (brief.policy.clone(), subject.clone());
        if let Some(keys) = self.live.get_mut(&place) {
            keys.remove(key);
            if keys.is_empty() {
                self.live.remove(&place);
            }
        }
    }

    fn forget_written(&mut self, key: &GrantKey, watched: &AccessGrant) {
        if self
            .written
            .get(key)
            .is_some_and(|written| version(written) <= version(watched))
        {
            self.written.remove(key);
        }
    }
}

impl Brief {
    fn of(grant: &AccessGrant) -> Self {
        let status = grant.status.as_ref();
        let live = status
            .and_then(Live::of)
            .map(|live| (live.status.subject.clone(), live.expires_at));
        Self {
            uid: grant.uid().unwrap_or_default(),
            version: version(grant),
            policy: grant.spec.policy_ref.name.clone(),
            state: status::state(grant),
            live,
        }
    }
}

fn changed_key<K, V>(change: Change<K, V>) -> K {
    match change {
        Change::Set(key, _) | Change::Removed(key, _) => key,
    }
}

/// A resourceVersion as a number: they grow with every write (KEP-5504).
fn version(grant: &AccessGrant) -> u128 {
    grant
        .metadata
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
