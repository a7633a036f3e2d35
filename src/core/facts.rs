//! Facts: everything that a plan depends on, as plain data read from the cluster beforehand.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::{AccessGrant, ArtifactKind};
use crate::core::artifact::found::Found;
use crate::core::artifact::key::ArtifactKey;
use crate::core::decision::Decision;
use crate::core::decision::blocking::Block;
use crate::core::guard::state::GuardState;
use crate::core::policy::Policy;
use crate::core::rbac::roles::{ActAsAccounts, Roles};
use crate::core::settings::Settings;

/// Everything that the plan of one grant depends on. The plan asks nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The newest known version of the grant.
    pub grant: &'a AccessGrant,
    /// The grant's namespace; `None` if it does not exist any more.
    pub namespace: Option<&'a NamespaceFacts>,
    /// The policy that the grant names.
    pub policy: &'a PolicyFacts,
    /// The existing roles that the policy or the grant names.
    pub roles: &'a Roles,
    /// The act-as accounts that the policy or the grant names.
    pub identities: &'a ActAsAccounts,
    /// All artifacts in the cluster that have the grant's label.
    pub found: &'a [Found],
    /// Names of the other live grants of the same policy and subject.
    pub rivals: &'a [String],
    /// Names of the other requests of the same policy and requester that await approval or are scheduled.
    pub pending: &'a [String],
    /// The decisions about this grant.
    pub decisions: &'a [Decision],
    /// The blocks on this request: Revokes of earlier grants with the same name.
    pub objections: &'a [Block],
    /// Guard state in the grant's namespace.
    pub guards: &'a GuardState,
    /// Why the clocks forbid granting access; `None` if they do not.
    pub skewed: Option<&'a str>,
    /// What this reconcile has learned from its own writes.
    pub tried: &'a Tried,
    /// Whether the sweep renews its heartbeat Lease.
    pub sweep_lives: bool,
    /// 128 random bits, new for each reconcile.
    pub entropy: u128,
    /// Settings of the operator.
    pub settings: &'a Settings,
}

/// What a reconcile learned from its own writes: refused creations, fuses already waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Artifacts that the API server refused to create, with the API server's message.
    pub refused: BTreeMap<ArtifactKey, String>,
    /// Whether this reconcile has already waited for fuses.
    pub awaited_fuses: bool,
}

impl Tried {
    /// The API server's message about a refused Role or RoleBinding, which access cannot do without. Fuses do not
    /// count: whether access needs its fuse is for the policy to say.
    pub(super) fn refusal(&self) -> Option<&str> {
        let mut refused = self.refused.iter();
        let (_, words) = refused.find(|(key, _)| key.kind != ArtifactKind::Job)?;
        Some(words)
    }
}

/// Current state of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its uid.
    pub uid: String,
    /// The labels that a policy's selector is matched against.
    pub labels: BTreeMap<String, String>,
    /// Whether the namespace is being deleted. The API server then creates nothing in it.
    pub terminating: bool,
}

/// Current state of the policy that a grant names.
#[derive(Clone, Debug)]
pub enum PolicyFacts {
    /// The policy does not exist, or its current version has not been checked yet.
    Absent {
        /// Earliest time (UTC) from which this is known.
        since: Timestamp,
        /// Why, for people.
        why: String,
        /// The parsed policy, if only its check is outstanding. It grants nothing, but its approvers may revoke.
        text: Option<Arc<Policy>>,
    },
    /// The policy has a problem. It grants nothing.
    Unready {
        /// Earliest time (UTC) from which this is known.
        since: Timestamp,
        /// The problem, for people.
        why: String,
        /// The parsed policy, if its text is valid and only something in the cluster is missing.
        policy: Option<Arc<Policy>>,
    },
    /// Requests can use the policy.
    Ready(Arc<Policy>),
}

impl PolicyFacts {
    /// The policy that live access is compared with: also a policy that grants nothing now because something in the
    /// cluster is missing. `None` if the policy is missing, unchecked or invalid.
    pub(super) fn last_known(&self) -> Option<&Arc<Policy>> {
        match self {
            Self::Ready(policy)
            | Self::Unready {
                policy: Some(policy), ..
            } => Some(policy),
            Self::Absent { .. } | Self::Unready { policy: None, .. } => None,
        }
    }
}
