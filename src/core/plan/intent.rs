//! Names and records before anything is made.

use sha2::{Digest as _, Sha256};

use crate::api::{ArtifactKind, ArtifactRecord, FuseDemand, MARKER_SUFFIX, NAME_PREFIX};
use crate::core::artifact::GrantIdentity;
use crate::core::evaluate::resolve::Resolved;

/// Records of all artifacts to create for the access.
///
/// # Guarantees
/// Names are derived from 128 random bits, so no one can create an object with such a name in advance. Only these
/// records say whether an entitlement is elevated.
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
