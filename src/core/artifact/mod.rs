//! Artifacts: the objects that Curfew makes for a grant.
//!
//! Each entitlement has a fuse and a RoleBinding of the same name. If the policy states the rules itself, there is a
//! Role too. If the access allows persistence, there is an elevation marker. Artifacts are in the grant's namespace.
//! Exception: artifacts of an act-as entitlement are in the namespace of the act-as account.

pub mod found;
pub mod fuse;
pub mod key;
pub mod target;

use jiff::Timestamp;

use crate::api::{
    AccessGrant, AccessGrantStatus, ArtifactKind, ArtifactRecord, ELEVATED_ROLE, RoleKind, Rule, Subject,
};
use crate::core::artifact::found::{Content, Found};
use crate::core::artifact::key::{ArtifactKey, fuse_of, is_marker, kind_name};
use crate::core::rbac::roles::RoleName;

/// Seconds between the end of the access and the deadline of its fuse, so that a running operator ends the access
/// first. The Job controller counts whole seconds from its own start time, which can be up to one second earlier.
const FUSE_GRACE: i64 = 1;

/// Identity of a grant, as its artifacts record it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrantIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl From<&AccessGrant> for GrantIdentity {
    fn from(grant: &AccessGrant) -> Self {
        Self {
            namespace: grant.metadata.namespace.clone().unwrap_or_default(),
            name: grant.metadata.name.clone().unwrap_or_default(),
            uid: grant.metadata.uid.clone().unwrap_or_default(),
        }
    }
}

/// One object to create for a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The grant that the artifact belongs to.
    pub grant: GrantIdentity,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Time (UTC) at which the artifact must be gone.
    pub not_after: Timestamp,
    /// The owner: Kubernetes deletes the artifact with its owner.
    pub holder: Holder,
    /// Kind and contents.
    pub body: Body,
}

/// Owner of an artifact. Kubernetes deletes an artifact together with its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// No owner: a fuse outside the grant's namespace, since owner references do not work across namespaces. The fuse
    /// ends by its own deadline.
    Nothing,
    /// The grant.
    Grant,
    /// The fuse with the same name.
    Fuse,
}

/// Kind and contents of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A Job that never runs a pod. It fails after these seconds; Kubernetes then deletes it and everything it owns.
    Fuse {
        /// Seconds from the start of the Job to its deadline, at least 1.
        seconds: i64,
    },
    /// A Role with these rules.
    Role(Vec<Rule>),
    /// A RoleBinding.
    Binding {
        /// The bound role.
        role: RoleName,
        /// The only subject.
        subject: Subject,
    },
}

impl Artifact {
    /// Whether the artifact must be gone at `now`. Checked again directly before the create request: the steps before,
    /// such as the write-ahead on a slow API server, can take long.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.not_after <= now
    }

    /// Its kind.
    pub fn kind(&self) -> ArtifactKind {
        match self.body {
            Body::Fuse { .. } => ArtifactKind::Job,
            Body::Role(_) => ArtifactKind::Role,
            Body::Binding { .. } => ArtifactKind::RoleBinding,
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

    /// Whether the artifact is in the grant's namespace. Only then can the grant own it.
    pub fn is_beside_its_grant(&self) -> bool {
        self.namespace == self.grant.namespace
    }

    /// Compares a found object with this artifact.
    ///
    /// # Errors
    /// The difference, for people.
    pub fn compare(&self, found: &Found) -> Result<(), String> {
        let differs = |what: &str| Err(format!("{} {}: {what}", self.kind_name(), self.name));
        match (&self.body, &found.content) {
            _ if found.deleting => differs("is being deleted by someone else"),
            (Body::Fuse { .. }, Content::Fuse(_)) => Ok(()),
            (Body::Role(rules), Content::Role(others)) if rules == others => Ok(()),
            (Body::Role(_), Content::Role(_)) => differs("its rules were changed"),
            (Body::Binding { role, .. }, Content::Binding { role: other, .. }) if role != other => {
                differs("its role was changed")
            }
            (Body::Binding { subject, .. }, Content::Binding { subjects, .. }) => {
                if subjects.as_deref() == Some(std::slice::from_ref(subject)) {
                    Ok(())
                } else {
                    differs("its subjects were changed")
                }
            }
            _ => differs("its kind is different"),
        }
    }

    fn kind_name(&self) -> &'static str {
        kind_name(self.kind())
    }
}

/// Whether a recorded artifact is outside the grant's namespace. The grant cannot own it and needs a finalizer.
pub fn reaches_beyond(grant: &GrantIdentity, records: &[ArtifactRecord]) -> bool {
    records.iter().any(|record| record.namespace != grant.namespace)
}

/// The artifacts that the status of a grant records, as they are created at `now`. An artifact is owned by its fuse if
/// that fuse is recorded too. A record whose entitlement is not resolved gives no artifact.
pub fn artifacts(grant: &AccessGrant, status: &AccessGrantStatus, now: Timestamp) -> Vec<Artifact> {
    let identity = GrantIdentity::from(grant);
    let (Some(not_after), Some(resolved), Some(subject)) =
        (status.expires_at.as_ref(), &status.resolved, &status.subject)
    else {
        return Vec::new();
    };
    let body = |record: &ArtifactRecord| {
        let entitlement = resolved
            .entitlements
            .iter()
            .find(|item| item.name == record.entitlement)?;
        Some(match record.kind {
            ArtifactKind::Job => Body::Fuse {
                seconds: fuse_seconds(not_after.0, now),
            },
            ArtifactKind::Role => Body::Role(entitlement.rules.clone()),
            ArtifactKind::RoleBinding => Body::Binding {
                role: match &entitlement.role {
                    _ if is_marker(record.kind, &record.name) => {
                        (RoleKind::ClusterRole, ELEVATED_ROLE.to_owned())
                    }
                    Some(role) => (role.kind, role.name.clone()),
                    None => (RoleKind::Role, record.name.clone()),
                },
                subject: subject.clone(),
            },
        })
    };
    status
        .artifacts
        .iter()
        .filter_map(|record| {
            Some(Artifact {
                grant: identity.clone(),
                namespace: record.namespace.clone(),
                name: record.name.clone(),
                not_after: not_after.0,
                holder: match record.kind {
                    ArtifactKind::Job if record.namespace != identity.namespace => Holder::Nothing,
                    ArtifactKind::Job => Holder::Grant,
                    ArtifactKind::Role | ArtifactKind::RoleBinding => {
                        fuse_of(record, &status.artifacts).map_or(Holder::Grant, |_| Holder::Fuse)
                    }
                },
                body: body(record)?,
            })
        })
        .collect()
}

/// Seconds from `now` to the deadline of the fuse: the time to `not_after`, rounded up, plus [`FUSE_GRACE`].
fn fuse_seconds(not_after: Timestamp, now: Timestamp) -> i64 {
    let remaining = not_after.duration_since(now);
    let whole = remaining
        .as_secs()
        .saturating_add(i64::from(remaining.subsec_nanos() > 0));
    whole.max(0).saturating_add(FUSE_GRACE)
}
