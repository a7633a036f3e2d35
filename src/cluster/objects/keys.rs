//! Keys of grants and decisions, and what the index knows of artifacts.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use kube::ResourceExt as _;

use crate::api::AccessGrant;
use crate::core::artifact::found::Found;

/// Namespace and name of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
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

impl fmt::Display for GrantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Namespace and name of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DecisionKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// An artifact as it was read, and its grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedArtifact {
    /// Uid of the grant, from the label; empty without the label.
    pub grant_uid: String,
    /// Key of the grant, from the annotations. A hint only: anyone may edit annotations.
    pub grant: GrantKey,
    /// The artifact.
    pub found: Found,
}

/// A deleted grant whose artifacts exist, or may exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Orphan {
    /// Uid of the grant.
    pub uid: String,
    /// Last known namespace and name of the grant.
    pub key: GrantKey,
    /// The last version of the grant, if this process saw the deletion; `None` if the cache never had the grant, or
    /// does not have it yet.
    pub last: Option<Arc<AccessGrant>>,
}

/// The objects that an event affects.
#[derive(Debug, Default, PartialEq)]
pub struct Affected {
    /// Grants to reconcile.
    pub grants: BTreeSet<GrantKey>,
    /// Policies to check again.
    pub policies: BTreeSet<String>,
    /// Decisions without a verdict, about unknown grants.
    pub decisions: BTreeSet<DecisionKey>,
    /// Deleted grants that have artifacts, or were live.
    pub orphans: Vec<Orphan>,
}
