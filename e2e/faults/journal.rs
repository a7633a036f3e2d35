//! What really happened, as the API server itself tells it: every version of every grant and every artifact, from
//! watches of its own that no proxy stands before.
//!
//! Resource versions are revisions of one etcd, so they order what different watches deliver: whether the
//! write-ahead came before the binding is a comparison of two numbers.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use curfew::api::{AccessGrant, ArtifactKind, GRANT_UID_LABEL, REVOKE_FINALIZER, conditions};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use tokio::task::JoinSet;

use crate::harness::eventually;
use crate::support::{SOON, condition};

/// How long a broken watch of the journal waits before it is opened again: what happens during an outage is dated by
/// when the journal hears of it.
const REOPEN: Duration = Duration::from_millis(50);

/// One version of a grant.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its revision.
    pub revision: u64,
    /// The state it prints.
    pub state: String,
    /// Whether it says that the access is in force.
    pub active: bool,
    /// Since when it is over.
    pub ended_at: Option<Timestamp>,
    /// When it is to end.
    pub expires_at: Option<Timestamp>,
    /// What it records as made or to be made.
    pub recorded: BTreeSet<(ArtifactKind, String)>,
    /// Whether our finalizer keeps it.
    pub kept: bool,
}

/// A grant and its versions.
#[derive(Debug, Clone, Default)]
pub struct Tale {
    /// `namespace/name`.
    pub called: String,
    /// Its versions, oldest first.
    pub versions: Vec<Version>,
    /// Whether it was deleted.
    pub gone: bool,
    /// The revision that removed it, unless that was missed.
    pub removed: Option<u64>,
}

impl Tale {
    /// Its last state.
    pub fn state(&self) -> &str {
        self.versions
            .last()
            .map_or("unknown", |version| version.state.as_str())
    }

    /// Its promised end.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.versions.iter().rev().find_map(|version| version.expires_at)
    }

    /// Whether its access was ever said to be in force.
    pub fn was_active(&self) -> bool {
        self.versions.iter().any(|version| version.active)
    }
}

/// Something that carries our label.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Its kind.
    pub kind: ArtifactKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The grant on its label.
    pub grant: String,
    /// The revision that made it, unless it was there when the journal first looked.
    pub made: Option<u64>,
    /// When the journal heard of it.
    pub seen_at: Timestamp,
    /// The revision that removed it, unless that was missed.
    pub removed: Option<u64>,
    /// When the journal heard that it is gone.
    pub gone_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct State {
    grants: BTreeMap<String, Tale>,
    pieces: BTreeMap<String, Piece>,
    relisted: BTreeMap<&'static str, HashSet<String>>,
    synced: BTreeSet<&'static str>,
}

/// A running journal; it ends when dropped.
#[derive(Debug)]
pub struct Journal {
    state: Arc<Mutex<State>>,
    _watches: JoinSet<()>,
}

impl Journal {
    /// Begins, and returns when every watch is open.
    pub async fn begin(client: Client) -> anyhow::Result<Self> {
        let state = Arc::<Mutex<State>>::default();
        let mut watches = JoinSet::new();
        let grants = Arc::clone(&state);
        let all = Api::<DeserializeGuard<AccessGrant>>::all(client.clone());
        watches.spawn(follow(all, Config::default(), move |event| {
            lock(&grants).grant(&event);
        }));
        watch::<Job>(&mut watches, &client, &state, ArtifactKind::Job, "jobs");
        watch::<Role>(&mut watches, &client, &state, ArtifactKind::Role, "roles");
        watch::<RoleBinding>(
            &mut watches,
            &client,
            &state,
            ArtifactKind::RoleBinding,
            "bindings",
        );
        let journal = Self {
            state,
            _watches: watches,
        };
        eventually("the journal is open", SOON, async || {
            let synced = lock(&journal.state).synced.clone();
            if synced.len() == 4 {
                Ok(())
            } else {
                Err(format!("{synced:?}"))
            }
        })
        .await?;
        Ok(journal)
    }

    /// What is known of a grant, by its uid.
    pub fn tale(&self, uid: &str) -> Tale {
        lock(&self.state).grants.get(uid).cloned().unwrap_or_default()
    }

    /// Everything that ever was made for a grant, by its uid.
    pub fn pieces(&self, uid: &str) -> Vec<Piece> {
        lock(&self.state)
            .pieces
            .values()
            .filter(|piece| piece.grant == uid)
            .cloned()
            .collect()
    }

    /// Everything with our label that ever stood in a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Piece> {
        lock(&self.state)
            .pieces
            .values()
            .filter(|piece| piece.namespace == namespace)
            .cloned()
            .collect()
    }
}

impl State {
    /// Of one that cannot be read nothing is known but that it is there.
    fn grant(&mut self, event: &Event<DeserializeGuard<AccessGrant>>) {
        match event {
            Event::Init => drop(self.relisted.insert("grants", HashSet::new())),
            Event::InitDone => {
                let there = self.relisted.remove("grants").unwrap_or_default();
                let gone = self.grants.iter_mut().filter(|(uid, _)| !there.contains(*uid));
                gone.for_each(|(_, tale)| tale.gone = true);
                self.synced.insert("grants");
            }
            Event::Apply(grant) | Event::InitApply(grant) => {
                let uid = grant.uid().unwrap_or_default();
                if let Some(there) = self.relisted.get_mut("grants") {
                    there.insert(uid.clone());
                }
                let DeserializeGuard(Ok(grant)) = grant else {
                    return;
                };
                let tale = self.grants.entry(uid).or_default();
                tale.called = format!("{}/{}", grant.namespace().unwrap_or_default(), grant.name_any());
                let version = version(grant);
                if tale
                    .versions
                    .last()
                    .is_none_or(|last| last.revision < version.revision)
                {
                    tale.versions.push(version);
                }
            }
            Event::Delete(grant) => {
                if let Some(tale) = self.grants.get_mut(&grant.uid().unwrap_or_default()) {
                    tale.gone = true;
                    tale.removed = Some(revision(grant));
                }
            }
        }
    }

    fn piece<K: Resource>(&mut self, kind: ArtifactKind, watch: &'static str, event: &Event<K>) {
        let now = Timestamp::now();
        match event {
            Event::Init => drop(self.relisted.insert(watch, HashSet::new())),
            Event::InitDone => {
                let there = self.relisted.remove(watch).unwrap_or_default();
                let missed =
                    |(uid, piece): &(&String, &mut Piece)| piece.kind == kind && !there.contains(*uid);
                for (_, piece) in self.pieces.iter_mut().filter(missed) {
                    piece.gone_at.get_or_insert(now);
                }
                self.synced.insert(watch);
            }
            Event::Apply(object) | Event::InitApply(object) => {
                let listed = matches!(event, Event::InitApply(_));
                let meta = object.meta();
                let uid = meta.uid.clone().unwrap_or_default();
                if let Some(there) = self.relisted.get_mut(watch) {
                    there.insert(uid.clone());
                }
                let label = meta
                    .labels
                    .as_ref()
                    .and_then(|labels| labels.get(GRANT_UID_LABEL));
                self.pieces.entry(uid).or_insert_with(|| Piece {
                    kind,
                    namespace: meta.namespace.clone().unwrap_or_default(),
                    name: meta.name.clone().unwrap_or_default(),
                    grant: label.cloned().unwrap_or_default(),
                    made: (!listed).then(|| revision(object)),
                    seen_at: now,
                    removed: None,
                    gone_at: None,
                });
            }
            Event::Delete(object) => {
                if let Some(piece) = self
                    .pieces
                    .get_mut(&object.meta().uid.clone().unwrap_or_default())
                {
                    piece.removed = Some(revision(object));
                    piece.gone_at.get_or_insert(now);
                }
            }
        }
    }
}

fn watch<K>(
    watches: &mut JoinSet<()>,
    client: &Client,
    state: &Arc<Mutex<State>>,
    kind: ArtifactKind,
    name: &'static str,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let state = Arc::clone(state);
    let ours = Config::default().labels(GRANT_UID_LABEL);
    let all = Api::<K>::all(client.clone());
    watches.spawn(follow(all, ours, move |event| {
        lock(&state).piece(kind, name, &event);
    }));
}

async fn follow<K>(api: Api<K>, config: Config, mut take: impl FnMut(Event<K>))
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = Box::pin(watcher(api, config));
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => take(event),
            Err(_) => tokio::time::sleep(REOPEN).await,
        }
    }
}

fn version(grant: &AccessGrant) -> Version {
    let status = grant.status.clone().unwrap_or_default();
    let active = condition(grant, conditions::ACTIVE);
    Version {
        revision: revision(grant),
        state: active.map_or_else(|| "Pending".to_owned(), |active| active.reason.clone()),
        active: active.is_some_and(|active| active.status == "True"),
        ended_at: status.ended_at.map(|at| at.0),
        expires_at: status.expires_at.map(|at| at.0),
        recorded: status
            .artifacts
            .into_iter()
            .map(|record| (record.kind, record.name))
            .collect(),
        kept: grant
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == REVOKE_FINALIZER),
    }
}

fn revision(object: &impl Resource) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
