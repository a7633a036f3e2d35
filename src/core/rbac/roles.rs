//! A named role or account as it is now.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::{RoleKind, Rule};
use crate::core::digest::sha256;
use crate::core::rbac::rules::canonical;

/// Current state of an existing Role or ClusterRole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleFacts {
    /// Its uid.
    pub uid: String,
    rules: Vec<Rule>,
    hash: String,
}

impl RoleFacts {
    /// A role with these rules.
    pub fn new(uid: impl Into<String>, rules: &[Rule]) -> Self {
        let rules = canonical(rules);
        Self {
            uid: uid.into(),
            hash: sha256(&rules),
            rules,
        }
    }

    /// The rules in canonical form.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// SHA-256 of the canonical rules.
    pub fn rules_hash(&self) -> &str {
        &self.hash
    }
}

/// Kind and name of a role, as seen from one namespace.
pub type RoleName = (RoleKind, String);

/// Existing roles by kind and name. A missing entry means that the role does not exist.
pub type Roles = BTreeMap<RoleName, Arc<RoleFacts>>;

/// Uids of the act-as accounts, by name. A missing entry means that the account does not exist.
pub type ActAsAccounts = BTreeMap<String, String>;
