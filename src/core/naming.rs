//! Names of what is made, and what they say: a fuse has the name of what it holds, a marker that of its access and more.

use crate::api::{ArtifactKind, ArtifactRecord, MARKER_SUFFIX};

/// Names something made for a grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArtifactKey {
    /// Its kind.
    pub kind: ArtifactKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
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
    /// The key of the fuse that holds it; a fuse's own.
    #[must_use]
    pub fn of_fuse(&self) -> Self {
        Self {
            kind: ArtifactKind::Job,
            namespace: self.namespace.clone(),
            name: fuse_name(&self.name).to_owned(),
        }
    }
}

/// Name of the fuse that holds what has this name: the same, but for elevation markers.
pub fn fuse_name(name: &str) -> &str {
    name.strip_suffix(MARKER_SUFFIX).unwrap_or(name)
}

/// Whether a thing of this kind and name is an elevation marker: a second binding of a grant's subject, to
/// [`ELEVATED_ROLE`]. It comes before the access and goes after it.
pub fn is_marker(kind: ArtifactKind, name: &str) -> bool {
    kind == ArtifactKind::RoleBinding && name.ends_with(MARKER_SUFFIX)
}

/// The record of the fuse that holds, or is to hold, what this is the record of; a fuse's own.
pub(super) fn fuse_of<'a>(
    record: &ArtifactRecord,
    records: &'a [ArtifactRecord],
) -> Option<&'a ArtifactRecord> {
    let fuse = ArtifactKey::from(record).of_fuse();
    records.iter().find(|other| ArtifactKey::from(*other) == fuse)
}
