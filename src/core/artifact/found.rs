//! What stands in the cluster.

use crate::api::{ArtifactKind, Rule, Subject};
use crate::core::artifact::fuse::FuseState;
use crate::core::artifact::key::ArtifactKey;
use crate::core::rbac::roles::RoleName;

/// One artifact in the cluster that has the grant's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Whether it is being deleted. A binding gives access until it is gone from the API server.
    pub deleting: bool,
    /// Uid of the owner; `None` unless there is exactly one owner.
    pub owner: Option<String>,
    /// The fields that are compared with the intended artifact.
    pub content: Content,
}

/// The fields of a found artifact that are compared with the intended one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A fuse, with its state.
    Fuse(FuseState),
    /// A Role with these canonical rules.
    Role(Vec<Rule>),
    /// A RoleBinding.
    Binding {
        /// The bound role.
        role: RoleName,
        /// The subjects. `None` if one of them is neither a user nor a service account: Curfew never makes such a
        /// binding.
        subjects: Option<Vec<Subject>>,
    },
}

impl Found {
    /// Its kind.
    pub fn kind(&self) -> ArtifactKind {
        match self.content {
            Content::Fuse(_) => ArtifactKind::Job,
            Content::Role(_) => ArtifactKind::Role,
            Content::Binding { .. } => ArtifactKind::RoleBinding,
        }
    }

    /// Its key.
    pub fn key(&self) -> ArtifactKey {
        ArtifactKey {
            kind: self.kind(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}
