//! Conversion of Kubernetes objects to facts.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role, RoleBinding, Subject as RbacSubject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::ApiResource;
use kube::core::Object;
use serde::{Deserialize, Serialize};

use crate::api::{
    GRANT_NAME_ANNOTATION, GRANT_NAMESPACE_ANNOTATION, GRANT_UID_LABEL, RoleKind, Rule, Subject,
};
use crate::cluster::objects::keys::{GrantKey, OwnedArtifact};
use crate::core::artifact::found::{Content, Found};
use crate::core::artifact::fuse::FuseState;
use crate::core::artifact::key::ArtifactKey;
use crate::core::facts::NamespaceFacts;
use crate::core::rbac::roles::RoleFacts;
use crate::core::rbac::rules::canonical;

/// Whether an object carries the label of an artifact.
pub fn is_ours(meta: &ObjectMeta) -> bool {
    grant_uid(meta).is_some()
}

/// Uid of the grant that an object was created for, from its label.
pub fn grant_uid(meta: &ObjectMeta) -> Option<&String> {
    meta.labels.as_ref()?.get(GRANT_UID_LABEL)
}

/// Facts about a namespace.
pub fn namespace(meta: &ObjectMeta) -> NamespaceFacts {
    NamespaceFacts {
        uid: meta.uid.clone().unwrap_or_default(),
        labels: meta.labels.clone().unwrap_or_default(),
        terminating: meta.deletion_timestamp.is_some(),
    }
}

/// Facts about a ClusterRole.
pub fn cluster_role(role: &ClusterRole) -> RoleFacts {
    role_facts(&role.metadata, role.rules.as_deref().unwrap_or_default())
}

/// Facts about a Role.
pub fn role(role: &Role) -> RoleFacts {
    role_facts(&role.metadata, role.rules.as_deref().unwrap_or_default())
}

fn role_facts(meta: &ObjectMeta, rules: &[PolicyRule]) -> RoleFacts {
    RoleFacts::new(meta.uid.clone().unwrap_or_default(), &to_rules(rules))
}

/// RBAC rules in canonical form.
pub fn to_rules(rules: &[PolicyRule]) -> Vec<Rule> {
    let rules = rules.iter().map(|rule| Rule {
        api_groups: rule.api_groups.clone().unwrap_or_default(),
        resources: rule.resources.clone().unwrap_or_default(),
        verbs: rule.verbs.clone(),
        resource_names: rule.resource_names.clone().unwrap_or_default(),
        non_resource_urls: rule.non_resource_urls.clone().unwrap_or_default(),
    });
    canonical(&rules.collect::<Vec<_>>())
}

/// A fuse as it is read: only the fields of the Job that tell whether it is lit.
pub type Fuse = Object<FuseSpec, FuseStatus>;

/// The fields of `spec` that are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FuseSpec {
    #[serde(default)]
    suspend: bool,
}

/// The fields of `status` that are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FuseStatus {
    #[serde(default)]
    start_time: Option<Time>,
}

/// API resource of fuses.
pub fn fuses() -> ApiResource {
    ApiResource::erase::<Job>(&())
}

/// Facts about a fuse.
pub fn fuse(fuse: &Fuse) -> (ArtifactKey, OwnedArtifact) {
    let started = fuse.status.as_ref().and_then(|status| status.start_time.as_ref());
    fuse_state(&fuse.metadata, fuse.spec.suspend, started)
}

/// Facts about a fuse that was just created.
pub fn made_fuse(fuse: &Job) -> (ArtifactKey, OwnedArtifact) {
    let suspended = fuse
        .spec
        .as_ref()
        .and_then(|spec| spec.suspend)
        .unwrap_or_default();
    let started = fuse.status.as_ref().and_then(|status| status.start_time.as_ref());
    fuse_state(&fuse.metadata, suspended, started)
}

fn fuse_state(meta: &ObjectMeta, suspended: bool, started: Option<&Time>) -> (ArtifactKey, OwnedArtifact) {
    let time = |time: Option<&Time>| -> Option<Timestamp> { time.map(|time| time.0) };
    let fuse_state = FuseState::of(suspended, time(meta.creation_timestamp.as_ref()), time(started));
    held(meta, Content::Fuse(fuse_state))
}

/// Facts about a Role that was created for a grant.
pub fn own_role(role: &Role) -> (ArtifactKey, OwnedArtifact) {
    let rules = to_rules(role.rules.as_deref().unwrap_or_default());
    held(&role.metadata, Content::Role(rules))
}

/// Facts about a binding that was created for a grant.
pub fn binding(binding: &RoleBinding) -> (ArtifactKey, OwnedArtifact) {
    let kind = if binding.role_ref.kind == "ClusterRole" {
        RoleKind::ClusterRole
    } else {
        RoleKind::Role
    };
    let subjects = binding
        .subjects
        .iter()
        .flatten()
        .map(subject)
        .collect::<Option<Vec<_>>>();
    let content = Content::Binding {
        role: (kind, binding.role_ref.name.clone()),
        subjects,
    };
    held(&binding.metadata, content)
}

fn subject(subject: &RbacSubject) -> Option<Subject> {
    match subject.kind.as_str() {
        "User" => Some(Subject::user(subject.name.clone())),
        "ServiceAccount" => Some(Subject::service_account(
            subject.namespace.clone().unwrap_or_default(),
            subject.name.clone(),
        )),
        _ => None,
    }
}

fn held(meta: &ObjectMeta, content: Content) -> (ArtifactKey, OwnedArtifact) {
    let namespace = meta.namespace.clone().unwrap_or_default();
    let owner = match meta.owner_references.as_deref() {
        Some([owner]) => Some(owner.uid.clone()),
        _ => None,
    };
    let annotation = |key: &str| meta.annotations.as_ref()?.get(key).cloned();
    let grant = GrantKey {
        namespace: annotation(GRANT_NAMESPACE_ANNOTATION).unwrap_or_else(|| namespace.clone()),
        name: annotation(GRANT_NAME_ANNOTATION).unwrap_or_default(),
    };
    let found = Found {
        namespace,
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        owner,
        content,
    };
    let grant_uid = grant_uid(meta).cloned().unwrap_or_default();
    let held = OwnedArtifact {
        grant_uid,
        grant,
        found,
    };
    (held.found.key(), held)
}
