//! What is made for a grant: for each entitlement a fuse and a binding of the same name, a Role between them where
//! the rules are the policy's own, and an elevation marker where the access could make something that outlasts it.
//! All of it lives in the grant's namespace, but for the right to act as a service account, which lives in the namespace
//! of that.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::facts::{Content, Found, RoleName};
use super::naming::{ArtifactKey, fuse_of, is_marker};
use super::resolve::Resolved;
use crate::api::{
    AccessGrant, AccessGrantStatus, ArtifactKind, ArtifactRecord, ELEVATED_ROLE, FuseDemand, MARKER_SUFFIX,
    NAME_PREFIX, RoleKind, Rule, Subject,
};

/// Seconds a fuse burns longer than the access lasts, so that an operator that lives is first: the Job
/// controller counts in whole seconds from its own start time, which can lie up to a second before.
const FUSE_GRACE: i64 = 1;

/// Identifies a grant to everything made for it.
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

/// One thing to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The grant it is made for.
    pub grant: GrantIdentity,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When it must be gone.
    pub not_after: Timestamp,
    /// What takes it along when it goes.
    pub holder: Holder,
    /// What it is.
    pub body: Body,
}

/// What owns an artifact, so that Kubernetes removes it with that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nothing: a fuse in another namespace than the grant's, which no ownership reaches. It burns by itself.
    Nothing,
    /// The grant.
    Grant,
    /// The fuse of its name.
    Fuse,
}

/// What an artifact is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A Job that never runs a pod. It fails after so many seconds and takes along what it owns.
    Fuse {
        /// Seconds until it burns, at least 1.
        seconds: i64,
    },
    /// A Role with these rules.
    Role(Vec<Rule>),
    /// A binding.
    Binding {
        /// The role it binds.
        role: RoleName,
        /// Who gets it.
        subject: Subject,
    },
}

impl Artifact {
    /// Whether it must be gone by now. It is looked at again right before the request that makes it: what goes before that
    /// may have taken long, as a write-ahead on a slow API server does.
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

    /// Whether it lives where the grant lives. What does not, the grant cannot own.
    pub fn is_beside_its_grant(&self) -> bool {
        self.namespace == self.grant.namespace
    }

    /// Whether what was found is this artifact, unchanged. Says what differs.
    pub fn compare(&self, found: &Found) -> Result<(), String> {
        let differs = |what: &str| Err(format!("{} {}: {what}", self.kind_name(), self.name));
        match (&self.body, &found.content) {
            _ if found.deleting => differs("is being deleted by somebody else"),
            (Body::Fuse { .. }, Content::Fuse(_)) => Ok(()),
            (Body::Role(rules), Content::Role(others)) if rules == others => Ok(()),
            (Body::Role(_), Content::Role(_)) => differs("its rules were changed"),
            (Body::Binding { role, .. }, Content::Binding { role: other, .. }) if role != other => {
                differs("it binds another role")
            }
            (Body::Binding { subject, .. }, Content::Binding { subjects, .. }) => {
                if subjects.as_deref() == Some(std::slice::from_ref(subject)) {
                    Ok(())
                } else {
                    differs("its subjects were changed")
                }
            }
            _ => differs("it is another kind of thing"),
        }
    }

    fn kind_name(&self) -> &'static str {
        kind_name(self.kind())
    }
}

/// A kind as Kubernetes writes it.
pub const fn kind_name(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::Job => "Job",
        ArtifactKind::Role => "Role",
        ArtifactKind::RoleBinding => "RoleBinding",
    }
}

/// Whether something recorded for the grant lives in another namespace, where the grant's ownership does not reach:
/// then the grant needs a finalizer.
pub fn reaches_beyond(grant: &GrantIdentity, records: &[ArtifactRecord]) -> bool {
    records.iter().any(|record| record.namespace != grant.namespace)
}

/// The records of everything that will be made for the access. Names are derived from 128 random bits, so that
/// nobody can prepare an object of that name. Whether an entitlement is elevated stands in these records alone.
pub fn intended(grant: &GrantIdentity, resolved: &Resolved, entropy: u128) -> Vec<ArtifactRecord> {
    let mut records = Vec::new();
    for entitlement in &resolved.access.entitlements {
        let name = artifact_name(entropy, &entitlement.name);
        let identity = entitlement.act_as.as_ref();
        let namespace = identity.map_or(&grant.namespace, |identity| &identity.namespace);
        let mut record = |kind, name: &str| {
            records.push(ArtifactRecord {
                kind,
                namespace: namespace.clone(),
                name: name.to_owned(),
                entitlement: entitlement.name.clone(),
                uid: None,
                enforced_by: Vec::new(),
            });
        };
        if resolved.access.fuse != FuseDemand::None {
            record(ArtifactKind::Job, &name);
        }
        if entitlement.role.is_none() {
            record(ArtifactKind::Role, &name);
        }
        if resolved.elevated.contains(&entitlement.name) {
            record(ArtifactKind::RoleBinding, &format!("{name}{MARKER_SUFFIX}"));
        }
        record(ArtifactKind::RoleBinding, &name);
    }
    records
}

fn artifact_name(entropy: u128, entitlement: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(entropy.to_be_bytes());
    hasher.update(entitlement.as_bytes());
    let bits = hasher
        .finalize()
        .iter()
        .take(16)
        .fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    format!("{NAME_PREFIX}{bits:032x}")
}

/// What the records of a grant's status stand for, to be made at `now`: held by their fuses, where these are recorded
/// as well. A record whose entitlement is not resolved stands for nothing.
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

/// Seconds from `now` until a fuse for that end burns: rounded up, and the grace on top.
fn fuse_seconds(not_after: Timestamp, now: Timestamp) -> i64 {
    let remaining = not_after.duration_since(now);
    let whole = remaining
        .as_secs()
        .saturating_add(i64::from(remaining.subsec_nanos() > 0));
    whole.max(0).saturating_add(FUSE_GRACE)
}
