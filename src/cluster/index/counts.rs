//! Counts of grants, for limits and metrics.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::api::{GrantState, Subject};
use crate::cluster::index::Index;
use crate::cluster::index::state::Brief;
use crate::cluster::objects::keys::GrantKey;

impl Index {
    /// The live grants of a policy and subject, without `except`, as `namespace/name`.
    pub fn rivals(&self, policy: &str, subject: &Subject, except: &GrantKey) -> Vec<String> {
        let state = self.read();
        let key = (policy.to_owned(), subject.clone());
        let others = state.live.get(&key).filter(|key| *key != except);
        others.map(ToString::to_string).collect()
    }

    /// The grants of a policy and requester that wait for approval or for their start, without `except`, as
    /// `namespace/name`.
    pub fn pending(&self, policy: &str, requester: &str, except: &GrantKey) -> Vec<String> {
        let state = self.read();
        let key = (policy.to_owned(), requester.to_owned());
        let others = state.pending.get(&key).filter(|key| *key != except);
        others.map(ToString::to_string).collect()
    }

    /// Number of live grants of a policy.
    pub fn live_grants(&self, policy: &str) -> u32 {
        self.read()
            .live_by_policy
            .get(policy)
            .copied()
            .unwrap_or_default()
    }

    /// Number of grants with access that needs a fuse and has no lit fuse.
    pub fn unfused(&self) -> usize {
        self.read()
            .grants
            .iter()
            .filter(|(_, brief)| brief.unfused)
            .count()
    }

    /// Number of live grants that have expired at `now`.
    pub fn overdue(&self, now: Timestamp) -> usize {
        let overdue = |brief: &Brief| brief.live.as_ref().is_some_and(|(_, end)| *end < now);
        self.read()
            .grants
            .iter()
            .filter(|(_, brief)| overdue(brief))
            .count()
    }

    /// Number of grants in each state.
    pub fn states(&self) -> HashMap<GrantState, usize> {
        self.read()
            .grants
            .iter()
            .fold(HashMap::new(), |mut states, (_, brief)| {
                *states.entry(brief.state).or_default() += 1;
                states
            })
    }
}
