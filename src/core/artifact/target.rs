//! One thing to delete.

use crate::api::ArtifactKind;
use crate::core::artifact::key::{ArtifactKey, is_marker};

/// An artifact to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Kind of the artifact.
    pub kind: ArtifactKind,
    /// Namespace of the artifact, which differs from that of the grant where people act as a service account.
    pub namespace: String,
    /// Name of the artifact, from the record of the grant or from the object that was found.
    pub name: String,
    /// Uid, if known: then nothing else of that name is deleted.
    pub uid: Option<String>,
}

impl Target {
    /// The artifact of that key. Without a uid, whatever has that name is deleted.
    pub fn new(key: ArtifactKey, uid: Option<String>) -> Self {
        let ArtifactKey {
            kind,
            namespace,
            name,
        } = key;
        Self {
            kind,
            namespace,
            name,
            uid,
        }
    }

    /// Key of the artifact: kind, namespace and name.
    pub fn key(&self) -> ArtifactKey {
        ArtifactKey {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    /// Whether deleting it ends access: a RoleBinding that is no elevation marker.
    pub fn gives_access(&self) -> bool {
        self.kind == ArtifactKind::RoleBinding && !is_marker(self.kind, &self.name)
    }
}
