//! How the edges name grants and what is made for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt as _;

use crate::api::AccessGrant;
use crate::core::Found;

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

/// Names a decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DecisionKey {
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
    /// The grant on its annotations; a hint.
    pub grant: GrantKey,
    /// What it is.
    pub found: Found,
}

/// A deleted grant whose artifacts exist, or may exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Orphan {
    /// Uid of the grant.
    pub uid: String,
    /// Last known namespace and name of the grant.
    pub key: GrantKey,
    /// The last version of the grant, if this process saw the grant go; `None` if the cache never had the grant, or
    /// does not have it yet.
    pub last: Option<Arc<AccessGrant>>,
}

/// What concerns whom, after an event.
#[derive(Debug, Default, PartialEq)]
pub struct Touched {
    /// Grants to look at.
    pub grants: BTreeSet<GrantKey>,
    /// Policies to judge again.
    pub policies: BTreeSet<String>,
    /// Decisions that nobody has judged, about grants that nobody knows.
    pub decisions: BTreeSet<DecisionKey>,
    /// Deleted grants that leave artifacts, or were live.
    pub orphans: Vec<Orphan>,
}
