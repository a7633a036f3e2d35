//! Policies and their readiness.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::AccessPolicy;
use crate::cluster::index::state::{Judged, PolicyEntry};
use crate::cluster::index::{Index, ParsedPolicy};
use crate::cluster::objects::keys::GrantKey;
use crate::core::facts::PolicyFacts;

impl Index {
    /// Stores the readiness of a policy. Returns the grants that it affects, if it has changed.
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
    pub fn get_policy(&self, name: &str) -> Option<(Arc<AccessPolicy>, ParsedPolicy)> {
        let state = self.read();
        let entry = state.policies.get(&name.to_owned())?;
        Some((Arc::clone(&entry.object.0), entry.policy.0.clone()))
    }

    /// All policies as the watch delivered them last, in no particular order.
    pub fn policies(&self) -> Vec<Arc<AccessPolicy>> {
        let state = self.read();
        let policies = state.policies.iter();
        policies.map(|(_, entry)| Arc::clone(&entry.object.0)).collect()
    }

    /// Whether the watch has delivered a policy of this name.
    pub fn has_policy(&self, name: &str) -> bool {
        self.read().policies.get(&name.to_owned()).is_some()
    }

    /// Whether requests under this policy can need approval.
    pub fn asks_people(&self, name: &str) -> bool {
        let state = self.read();
        let policy = state.policies.get(&name.to_owned()).map(|entry| &entry.policy.0);
        policy.is_some_and(|parsed| {
            parsed
                .as_ref()
                .is_ok_and(|policy| policy.approval.demands().is_some())
        })
    }

    /// Facts about a policy.
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
                why: "has not been checked yet".to_owned(),
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

    /// Names of all policies, in no particular order.
    pub fn policy_names(&self) -> Vec<String> {
        self.read()
            .policies
            .iter()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Number of policies that are ready, and that are not.
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
