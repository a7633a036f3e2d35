//! Names of artifacts. A fuse has the name of the artifact that it owns; an elevation marker has a suffix.

use crate::api::{ArtifactKind, ArtifactRecord, MARKER_SUFFIX};

/// Kind, namespace and name of an artifact: an object that Curfew creates for a grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArtifactKey {
    /// Job (the fuse), Role or RoleBinding.
    pub kind: ArtifactKind,
    /// Namespace of the artifact. It differs from the grant's for access to act as a service account.
    pub namespace: String,
    /// Name of the artifact.
    pub name: String,
}

impl From<&ArtifactRecord> for ArtifactKey {
    fn from(record: &ArtifactRecord) -> Self {
        Self {
            kind: record.kind,
            namespace: record.namespace.clone(),
            name: record.name.clone(),
        }
    }
}

impl ArtifactKey {
    /// Key of the fuse that owns this artifact. For a fuse, its own key.
    #[must_use]
    pub fn of_fuse(&self) -> Self {
        Self {
            kind: ArtifactKind::Job,
            namespace: self.namespace.clone(),
            name: fuse_name(&self.name).to_owned(),
        }
    }
}

/// Name of the fuse that owns the artifact of this name: the same name, without the suffix of elevation
/// markers.
pub fn fuse_name(name: &str) -> &str {
    name.strip_suffix(MARKER_SUFFIX).unwrap_or(name)
}

/// Whether an artifact is an elevation marker: a second RoleBinding of the grant's subject, to
/// [`ELEVATED_ROLE`](crate::api::ELEVATED_ROLE). It is created before the access and deleted after it.
pub fn is_marker(kind: ArtifactKind, name: &str) -> bool {
    kind == ArtifactKind::RoleBinding && name.ends_with(MARKER_SUFFIX)
}

/// Record of the fuse that owns, or will own, the artifact of this record. For a fuse, its own record.
pub(crate) fn fuse_of<'a>(
    record: &ArtifactRecord,
    records: &'a [ArtifactRecord],
) -> Option<&'a ArtifactRecord> {
    let fuse = ArtifactKey::from(record).of_fuse();
    records.iter().find(|other| ArtifactKey::from(*other) == fuse)
}

/// Kind of an artifact, as Kubernetes spells it.
pub const fn kind_name(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::Job => "Job",
        ArtifactKind::Role => "Role",
        ArtifactKind::RoleBinding => "RoleBinding",
    }
}
