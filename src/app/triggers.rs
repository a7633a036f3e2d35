//! What watches say they touch, and the queues that lead to whoever looks at it.

use std::collections::BTreeSet;

use tokio::sync::mpsc;

use crate::cluster::{DecisionKey, GrantKey, Orphan, Touched};

/// Where watches say what they touch.
#[derive(Clone, Debug)]
pub struct Triggers {
    grants: mpsc::UnboundedSender<GrantKey>,
    policies: mpsc::UnboundedSender<String>,
    orphans: mpsc::UnboundedSender<Orphan>,
    decisions: mpsc::UnboundedSender<DecisionKey>,
}

/// What is triggered.
#[derive(Debug)]
pub struct Triggered {
    /// Grants to look at.
    pub grants: mpsc::UnboundedReceiver<GrantKey>,
    /// Policies to judge.
    pub policies: mpsc::UnboundedReceiver<String>,
    /// Grants that are gone.
    pub orphans: mpsc::UnboundedReceiver<Orphan>,
    /// Decisions about grants that nobody knows.
    pub decisions: mpsc::UnboundedReceiver<DecisionKey>,
}

/// Triggers and what they trigger.
pub fn triggers() -> (Triggers, Triggered) {
    let (grants, triggered_grants) = mpsc::unbounded_channel();
    let (policies, triggered_policies) = mpsc::unbounded_channel();
    let (orphans, triggered_orphans) = mpsc::unbounded_channel();
    let (decisions, triggered_decisions) = mpsc::unbounded_channel();
    let triggered = Triggered {
        grants: triggered_grants,
        policies: triggered_policies,
        orphans: triggered_orphans,
        decisions: triggered_decisions,
    };
    (
        Triggers {
            grants,
            policies,
            orphans,
            decisions,
        },
        triggered,
    )
}

impl Triggers {
    /// Passes on what an event touched. At shutdown nobody listens any more, and nothing is lost: what is to be
    /// done is read from the cluster at the next start.
    pub fn fire(&self, touched: Touched) {
        self.fire_grants(touched.grants);
        for policy in touched.policies {
            self.policies.send(policy).unwrap_or_default();
        }
        for decision in touched.decisions {
            self.decisions.send(decision).unwrap_or_default();
        }
        for orphan in touched.orphans {
            self.orphans.send(orphan).unwrap_or_default();
        }
    }

    /// Grants to look at.
    pub fn fire_grants(&self, grants: BTreeSet<GrantKey>) {
        for grant in grants {
            self.grants.send(grant).unwrap_or_default();
        }
    }
}
