//! Decisions in the index, by grant.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

use crate::api::AccessDecision;
use crate::cluster::index::Index;
use crate::cluster::index::state::{DecisionEntry, State};
use crate::cluster::index::watch_cache::Change;
use crate::cluster::objects::keys::{Affected, DecisionKey, GrantKey};
use crate::core::decision::Decision;
use crate::core::decision::blocking::Block;
use crate::core::decision::verdict::DecisionVerdict;
use crate::core::grant::retention::managed_by;

impl Index {
    /// Applies an event about decisions. Returns what it affects.
    pub fn decision(&self, event: &Event<AccessDecision>) -> Affected {
        let mut state = self.write();
        let changes = state.decisions.take(event, |decision| {
            let key = DecisionKey {
                namespace: decision.namespace().unwrap_or_default(),
                name: decision.name_any(),
            };
            let entry = DecisionEntry {
                decision: Decision::from(decision),
                against: decision.status.as_ref().and_then(|status| status.blocks.clone()),
                kept: managed_by(&decision.metadata).is_some(),
            };
            (key, entry)
        });
        let mut touched = Affected::default();
        for change in changes {
            let (key, before) = match change {
                Change::Set(key, before) => (key, before),
                Change::Removed(key, before) => (key, Some(before)),
            };
            if let Some(before) = before {
                state.forget_decision(&key, &before);
            }
            let Some(entry) = state.decisions.get(&key).cloned() else {
                continue;
            };
            state.note_decision(&key, &entry);
            if !entry.decision.is_open() {
                continue;
            }
            match state.grant_keys.get(&entry.decision.grant_uid) {
                // A decision must not affect a grant in another namespace, whatever it says.
                Some(grant) if grant.namespace == key.namespace && grant.name == entry.decision.grant => {
                    // A decision that waits is evaluated again when another one counts.
                    if entry.decision.recorded.is_none() {
                        touched.grants.insert(grant.clone());
                    }
                }
                _ => {
                    touched.decisions.insert(key);
                }
            }
        }
        touched
    }

    /// The decisions about a grant, oldest first.
    pub fn decisions_about(&self, grant: &GrantKey, uid: &str) -> Vec<Decision> {
        let state = self.read();
        let mut decisions: Vec<_> = state
            .decisions_by_grant
            .get(grant)
            .filter_map(|key| state.decisions.get(key))
            .filter(|entry| entry.decision.grant_uid == uid)
            .map(|entry| entry.decision.clone())
            .collect();
        decisions.sort_by(|one, other| (one.made_at, &one.uid).cmp(&(other.made_at, &other.uid)));
        decisions
    }

    /// The Revokes of earlier grants of this name that still block a new request.
    pub fn objections(&self, grant: &GrantKey) -> Vec<Block> {
        let state = self.read();
        let keys = state.decisions_by_grant.get(grant);
        keys.filter_map(|key| state.decisions.get(key))
            .filter_map(|entry| {
                Some(Block {
                    decision: entry.decision.name.clone(),
                    decider: entry.decision.decider.username.clone(),
                    against: entry.against.clone()?,
                })
            })
            .collect()
    }

    /// A decision, if it has no final verdict.
    pub fn open_decision(&self, key: &DecisionKey) -> Option<Decision> {
        let state = self.read();
        let entry = state.decisions.get(key)?;
        entry.decision.is_open().then(|| entry.decision.clone())
    }

    /// The decisions without a final verdict, about unknown grants.
    pub fn unknown_decisions(&self) -> Vec<DecisionKey> {
        let state = self.read();
        let unknown = |entry: &DecisionEntry| {
            entry.decision.is_open() && !state.grant_keys.contains_key(&entry.decision.grant_uid)
        };
        state
            .decisions
            .iter()
            .filter(|(_, entry)| unknown(entry))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Stores a verdict that this process has just written, until the watch delivers it.
    pub fn judged(&self, namespace: &str, judged: &DecisionVerdict) {
        let mut state = self.write();
        let key = DecisionKey {
            namespace: namespace.to_owned(),
            name: judged.decision.name.clone(),
        };
        let Some(mut entry) = state.decisions.get(&key).cloned() else {
            return;
        };
        if entry.decision.uid != judged.decision.uid {
            return;
        }
        entry.decision.recorded = Some(judged.verdict.standing);
        entry.against.clone_from(&judged.verdict.blocks);
        state.decisions.put(key, entry);
    }

    /// Decisions that can be deleted: made before `made_before`, about deleted grants, and blocking nothing at `now`.
    /// Leaves out decisions that a tool (such as GitOps) manages and would recreate.
    pub fn stale_decisions(&self, made_before: Timestamp, now: Timestamp) -> Vec<(DecisionKey, String)> {
        let state = self.read();
        let is_over = |entry: &DecisionEntry| {
            entry.decision.made_at < made_before
                && !entry.kept
                && !state.grant_keys.contains_key(&entry.decision.grant_uid)
                && entry
                    .against
                    .as_ref()
                    .is_none_or(|against| against.until.0 <= now)
        };
        state
            .decisions
            .iter()
            .filter(|(_, entry)| is_over(entry))
            .map(|(key, entry)| (key.clone(), entry.decision.uid.clone()))
            .collect()
    }
}

impl State {
    /// The decisions about a grant without a final verdict.
    pub(super) fn open_decisions(&self, grant: &GrantKey, uid: &str) -> BTreeSet<DecisionKey> {
        let open = |key: &&DecisionKey| {
            self.decisions
                .get(key)
                .is_some_and(|entry| entry.decision.is_open() && entry.decision.grant_uid == uid)
        };
        let about = self.decisions_by_grant.get(grant);
        about.filter(open).cloned().collect()
    }

    fn note_decision(&mut self, key: &DecisionKey, entry: &DecisionEntry) {
        self.decisions_by_grant.insert(about(key, entry), key.clone());
    }

    fn forget_decision(&mut self, key: &DecisionKey, entry: &DecisionEntry) {
        self.decisions_by_grant.remove(&about(key, entry), key);
    }
}

fn about(key: &DecisionKey, entry: &DecisionEntry) -> GrantKey {
    GrantKey {
        namespace: key.namespace.clone(),
        name: entry.decision.grant.clone(),
    }
}
