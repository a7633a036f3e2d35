//! The fuse Job.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements,
    SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::api::{CONTROLLER, GRANT_UID_LABEL};
use crate::cluster::objects::write::{NAME_LABEL, NO_IMAGE, NOBODY, meta};
use crate::core::artifact::{Artifact, GrantIdentity};

/// A fuse: a Job that never runs a pod, with a deadline in `seconds` after its start.
///
/// # Guarantees
/// At the deadline the Job controller fails the Job, the TTL controller deletes it, and the garbage collector deletes
/// what it owns. None of this needs Curfew.
pub fn fuse(artifact: &Artifact, seconds: i64) -> Job {
    let grant = &artifact.grant;
    Job {
        metadata: meta(artifact, ""),
        spec: Some(JobSpec {
            parallelism: Some(0),
            completions: Some(1),
            backoff_limit: Some(0),
            active_deadline_seconds: Some(seconds),
            ttl_seconds_after_finished: Some(0),
            // The guard `curfew-pods` allows no pod with this label. With the default selector, anyone could add a pod
            // that does not end, and a Job fails only after its pods have ended.
            manual_selector: Some(true),
            selector: Some(LabelSelector {
                match_labels: Some(of_the_grant(grant)),
                ..LabelSelector::default()
            }),
            template: never_run(of_the_grant(grant)),
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// Labels that select the pods of a fuse, if it had any.
fn of_the_grant(grant: &GrantIdentity) -> BTreeMap<String, String> {
    BTreeMap::from([(GRANT_UID_LABEL.to_owned(), grant.uid.clone())])
}

/// Template of a pod that never runs, but that admission tools still check.
///
/// It meets the Pod Security Standard `restricted`, in the pod and again in the container, because some tools check
/// only one of them. It requests very little, but not zero, because some tools take a limit of zero for no limit.
fn never_run(mut labels: BTreeMap<String, String>) -> PodTemplateSpec {
    labels.insert(NAME_LABEL.to_owned(), CONTROLLER.to_owned());
    let little = || {
        let amounts = [("cpu", "1m"), ("memory", "1Mi"), ("ephemeral-storage", "1Mi")];
        BTreeMap::from(amounts.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))))
    };
    let seccomp = || SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        ..SeccompProfile::default()
    };
    let container = Container {
        name: "never-run".to_owned(),
        image: Some(NO_IMAGE.to_owned()),
        resources: Some(ResourceRequirements {
            limits: Some(little()),
            requests: Some(little()),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            run_as_group: Some(NOBODY),
            run_as_user: Some(NOBODY),
            seccomp_profile: Some(seccomp()),
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            privileged: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            containers: vec![container],
            enable_service_links: Some(false),
            restart_policy: Some("Never".to_owned()),
            security_context: Some(PodSecurityContext {
                run_as_group: Some(NOBODY),
                run_as_non_root: Some(true),
                run_as_user: Some(NOBODY),
                seccomp_profile: Some(seccomp()),
                ..PodSecurityContext::default()
            }),
            ..PodSpec::default()
        }),
    }
}
