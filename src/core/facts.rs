//! What a decision rests on, as plain data the edges have read.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::digest::sha256;
use super::flame::Flame;
use super::naming::ArtifactKey;
use super::rules::canonical;
use super::self_test::Standing;
use super::{Decision, Objection, Policy, Span};
use crate::api::{AccessGrant, ArtifactKind, RoleKind, Rule, Subject};

/// Everything a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The grant, as new as any copy of it seen.
    pub grant: &'a AccessGrant,
    /// Its namespace; `None` when it is gone.
    pub namespace: Option<&'a NamespaceFacts>,
    /// The policy it names.
    pub policy: &'a PolicyFacts,
    /// The roles that policy and grant name.
    pub roles: &'a Roles,
    /// The service accounts that policy and grant name as identities.
    pub identities: &'a Identities,
    /// Everything in the cluster that carries the grant's label.
    pub found: &'a [Found],
    /// Names of the other live grants of this policy and subject.
    pub rivals: &'a [String],
    /// Names of the other requests of this policy and requester that wait for people or for their time.
    pub pending: &'a [String],
    /// What people decided about this grant.
    pub decisions: &'a [Decision],
    /// What people decided about earlier grants of its name, and still stands.
    pub objections: &'a [Objection],
    /// Whether the admission guards stand in the grant's namespace.
    pub guards: &'a Standing,
    /// Why nothing may be given by the clocks, if so.
    pub skewed: Option<&'a str>,
    /// What this pass has come upon so far.
    pub tried: &'a Tried,
    /// Whether the sweep's heartbeat is heard.
    pub sweep_lives: bool,
    /// 128 random bits, fresh for each pass.
    pub entropy: u128,
    /// What the operator was told.
    pub settings: &'a Settings,
}

/// What a pass has come upon that no watch tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// What the API server refused to make, and its words.
    pub refused: BTreeMap<ArtifactKey, String>,
    /// Whether fuses were waited for.
    pub awaited_fuses: bool,
}

impl Tried {
    /// What it says of something that access cannot do without, if that was refused. Of a fuse it is for the policy to
    /// say.
    pub(super) fn refusal(&self) -> Option<&str> {
        let mut refused = self.refused.iter();
        let (_, words) = refused.find(|(key, _)| key.kind != ArtifactKind::Job)?;
        Some(words)
    }
}

/// What the operator was told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The longest any access may last in this cluster, whatever a policy says.
    pub cap: Span,
    /// The operator's own namespace; its service accounts never receive access.
    pub namespace: String,
    /// The namespace of the service accounts that grants allow to act as. They never receive access themselves.
    pub identities: String,
}

/// A namespace as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its uid.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is being deleted: nothing can be made in it any more.
    pub terminating: bool,
}

/// A named role as it is now.
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

    /// Its rules, canonical.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// SHA-256 over its canonical rules.
    pub fn rules_hash(&self) -> &str {
        &self.hash
    }
}

/// Names a role from inside one namespace.
pub type RoleName = (RoleKind, String);

/// The named roles a decision needs; an absent one does not exist.
pub type Roles = BTreeMap<RoleName, Arc<RoleFacts>>;

/// Uids of the service accounts to act as, by name; an absent one does not exist.
pub type Identities = BTreeMap<String, String>;

/// The policy a grant names, as it is now.
#[derive(Clone, Debug)]
pub enum PolicyFacts {
    /// There is none of that name, or it has not been judged in its present form.
    Absent {
        /// Since when, as far as is known.
        since: Timestamp,
        /// Why, for people.
        why: String,
        /// What it says, where only its verdict is still to come: nothing is given by it, but whom it lists may revoke.
        text: Option<Arc<Policy>>,
    },
    /// It has a problem of its own: nothing can be granted under it.
    Unready {
        /// Since when, as far as is known.
        since: Timestamp,
        /// What the problem is.
        why: String,
        /// The policy, where only the cluster lacks something and its text is sound.
        policy: Option<Arc<Policy>>,
    },
    /// Grants may name it.
    Ready(Arc<Policy>),
}

/// One thing in the cluster that carries the grant's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Whether it is being deleted. A binding gives access until it is gone.
    pub deleting: bool,
    /// Uid of the one object that owns it, if exactly one does.
    pub owner: Option<String>,
    /// What it says.
    pub content: Content,
}

/// What a found thing says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A fuse, lit or not.
    Fuse(Flame),
    /// A Role with these rules, canonical.
    Role(Vec<Rule>),
    /// A binding of a role to subjects. What is neither user nor service account makes `subjects` `None`: it
    /// equals nothing Curfew ever made.
    Binding {
        /// The role it binds.
        role: RoleName,
        /// Who it gives the role.
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
