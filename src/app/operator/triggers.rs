//! Channels from the watches to the tasks.

use std::collections::BTreeSet;

use tokio::sync::mpsc;

use crate::cluster::objects::keys::{Affected, DecisionKey, GrantKey, Orphan};

/// Senders of work to the tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Triggers {
    grants: mpsc::UnboundedSender<GrantKey>,
    policies: mpsc::UnboundedSender<String>,
    orphans: mpsc::UnboundedSender<Orphan>,
    decisions: mpsc::UnboundedSender<DecisionKey>,
}

/// Receivers of the tasks.
#[derive(Debug)]
pub struct Triggered {
    /// Grants to reconcile, for the controller.
    pub grants: mpsc::UnboundedReceiver<GrantKey>,
    /// Policies to check, for the policy task.
    pub policies: mpsc::UnboundedReceiver<String>,
    /// Deleted grants with artifacts, for the orphan task.
    pub orphans: mpsc::UnboundedReceiver<Orphan>,
    /// Decisions about unknown grants, for the decision task.
    pub decisions: mpsc::UnboundedReceiver<DecisionKey>,
}

/// Senders and receivers.
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
    /// Sends everything that an event affects. At shutdown the receivers are gone and the work is dropped. The next start
    /// finds the same work in the cluster.
    pub fn fire(&self, touched: Affected) {
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

    /// Sends grants to reconcile.
    pub fn fire_grants(&self, grants: BTreeSet<GrantKey>) {
        for grant in grants {
            self.grants.send(grant).unwrap_or_default();
        }
    }
}
