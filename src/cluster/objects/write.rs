//! Kubernetes objects of artifacts.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject as RbacSubject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::{
    CONTROLLER, GRANT_NAME_ANNOTATION, GRANT_NAMESPACE_ANNOTATION, GRANT_UID_LABEL, GROUP, MANAGED_BY_LABEL,
    NOT_AFTER_ANNOTATION, RoleKind, Rule, Subject, SubjectKind, VERSION,
};
use crate::core::artifact::key::ArtifactKey;
use crate::core::artifact::{Artifact, Holder};
use crate::core::rbac::roles::RoleName;

const RBAC: &str = "rbac.authorization.k8s.io";

/// User and group `nobody`.
pub(crate) const NOBODY: i64 = 65534;

/// Label of the application that an object belongs to (Kubernetes recommended labels).
pub(crate) const NAME_LABEL: &str = "app.kubernetes.io/name";

/// An image name that resolves nowhere (RFC 2606). It has a tag and a digest, because some admission tools require one
/// or the other.
pub(crate) const NO_IMAGE: &str = "curfew.invalid/never-run:none@sha256:\
    0000000000000000000000000000000000000000000000000000000000000000";

/// A Role, owned by the fuse of this uid or by its grant.
pub fn role(artifact: &Artifact, rules: &[Rule], fuse_uid: &str) -> Role {
    Role {
        metadata: meta(artifact, fuse_uid),
        rules: Some(rules.iter().map(policy_rule).collect()),
    }
}

/// A binding, owned by the fuse of this uid or by its grant.
pub fn binding(
    artifact: &Artifact,
    (kind, name): &RoleName,
    subject: &Subject,
    fuse_uid: &str,
) -> RoleBinding {
    let subject = match subject.kind {
        SubjectKind::User => RbacSubject {
            api_group: Some(RBAC.to_owned()),
            kind: "User".to_owned(),
            name: subject.name.clone(),
            namespace: None,
        },
        SubjectKind::ServiceAccount => RbacSubject {
            api_group: None,
            kind: "ServiceAccount".to_owned(),
            name: subject.name.clone(),
            namespace: subject.namespace.clone(),
        },
    };
    RoleBinding {
        metadata: meta(artifact, fuse_uid),
        role_ref: RoleRef {
            api_group: RBAC.to_owned(),
            kind: match kind {
                RoleKind::ClusterRole => "ClusterRole",
                RoleKind::Role => "Role",
            }
            .to_owned(),
            name: name.clone(),
        },
        subjects: Some(vec![subject]),
    }
}

/// Owner reference to the fuse of this uid. The fuse owns the artifacts of its name, and their elevation marker.
pub fn held_by_fuse(key: &ArtifactKey, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: key.of_fuse().name,
        uid: uid.to_owned(),
        ..OwnerReference::default()
    }
}

/// Owner of an artifact. An artifact in another namespace than its grant has no owner: the garbage collector would take
/// the grant for deleted, and delete the artifact at once.
fn held_by(artifact: &Artifact, fuse_uid: &str) -> Option<OwnerReference> {
    let grant = &artifact.grant;
    match artifact.holder {
        Holder::Nothing => None,
        Holder::Grant => Some(OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "AccessGrant".to_owned(),
            name: grant.name.clone(),
            uid: grant.uid.clone(),
            ..OwnerReference::default()
        }),
        Holder::Fuse => Some(held_by_fuse(&artifact.key(), fuse_uid)),
    }
}

pub(crate) fn meta(artifact: &Artifact, fuse_uid: &str) -> ObjectMeta {
    let grant = &artifact.grant;
    let labels = [
        (GRANT_UID_LABEL, grant.uid.as_str()),
        (MANAGED_BY_LABEL, CONTROLLER),
    ];
    let not_after = rfc3339(artifact.not_after);
    let elsewhere = (!artifact.is_beside_its_grant()).then_some(grant.namespace.as_str());
    let annotations = [
        (GRANT_NAME_ANNOTATION, Some(grant.name.as_str())),
        (GRANT_NAMESPACE_ANNOTATION, elsewhere),
        (NOT_AFTER_ANNOTATION, Some(not_after.as_str())),
    ];
    let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let given = |(key, value): (&'static str, Option<&str>)| Some(pair((key, value?)));
    ObjectMeta {
        name: Some(artifact.name.clone()),
        namespace: Some(artifact.namespace.clone()),
        labels: Some(labels.into_iter().map(pair).collect()),
        annotations: Some(annotations.into_iter().filter_map(given).collect()),
        owner_references: held_by(artifact, fuse_uid).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// UTC with microseconds, always of the same length.
fn rfc3339(at: Timestamp) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
    PRINTER.timestamp_to_string(&at)
}

fn policy_rule(rule: &Rule) -> PolicyRule {
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    PolicyRule {
        api_groups: some(&rule.api_groups),
        resources: some(&rule.resources),
        verbs: rule.verbs.clone(),
        resource_names: some(&rule.resource_names),
        non_resource_urls: some(&rule.non_resource_urls),
    }
}
