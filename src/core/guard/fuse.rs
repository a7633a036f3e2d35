//! Guard for fuses: nobody can prolong, suspend or disarm a fuse.

use k8s_openapi::api::admissionregistration::v1::Validation;

use crate::api::{GRANT_UID_LABEL, GROUP};
use crate::core::guard::cel::{
    ends_in_time, is_our_name, metadata, metadata_only_narrowed, on, only_curfew_creates, quoted, seconds,
};
use crate::core::guard::manifest::{Validating, demand, ours, requests};
use crate::core::guard::{Guard, GuardSettings};

/// CEL list of the users that may write the status of a Job. The Job controller uses its own `ServiceAccount`, or the
/// credential of kube-controller-manager if all controllers share one.
const JOB_CONTROLLER: &str =
    "['system:serviceaccount:kube-system:job-controller', 'system:kube-controller-manager']";

/// Guard for Jobs with Curfew's label. Such a Job is a fuse, never changes, and is never deleted without its
/// dependents.
pub(super) fn only_burns(settings: &GuardSettings) -> [Guard; 2] {
    let mut variables = metadata();
    variables.push((
        "subresource".to_owned(),
        "has(request.subResource) ? request.subResource : ''".to_owned(),
    ));
    Validating {
        name: "fuse",
        objects: ours(),
        rules: vec![requests(
            "batch",
            "v1",
            &["CREATE", "UPDATE", "DELETE"],
            &["jobs", "jobs/status"],
        )],
        variables,
        validations: [creation(settings), changes()].concat(),
        ..Validating::default()
    }
    .guards()
}

/// Validations of a new fuse.
fn creation(settings: &GuardSettings) -> Vec<Validation> {
    vec![
        only_curfew_creates(settings, "Jobs"),
        demand(
            on("CREATE", &is_our_name("object.metadata.name")),
            "The name of a fuse must be curfew- and 32 hexadecimal digits. Let Curfew create fuses.",
        ),
        demand(
            on("CREATE", &is_a_fuse(settings)),
            format!(
                "This Job is not a valid fuse. A fuse runs no pod, selects pods by its grant's label, is not \
                 suspended, and is deleted within {}. Check which webhook or policy changes new Jobs.",
                settings.cap
            ),
        ),
        ends_in_time(settings, "A fuse"),
        demand(
            on(
                "CREATE",
                &format!(
                    "request.namespace == {} ? size(variables.owners) == 0 : \
                     (size(variables.owners) == 1 && object.metadata.ownerReferences.all(owner, \
                     owner.kind == 'AccessGrant' && owner.apiVersion.startsWith('{GROUP}/') &&\n\
                     object.metadata.labels[{}] == owner.uid))",
                    quoted(&settings.identities),
                    quoted(GRANT_UID_LABEL)
                ),
            ),
            format!(
                "The only owner of a fuse must be the grant in its label. In namespace {} a fuse must have no owner. \
                 Let Curfew create fuses.",
                settings.identities
            ),
        ),
    ]
}

/// Validations of an update or deletion of a fuse.
fn changes() -> Vec<Validation> {
    vec![
        demand(
            on(
                "UPDATE",
                &format!(
                    "variables.subresource != '' || (object.spec == oldObject.spec && {})",
                    metadata_only_narrowed()
                ),
            ),
            "A fuse cannot be changed. To end the access, delete its AccessGrant. To get other access, create \
             another AccessGrant.",
        ),
        demand(
            format!("variables.subresource != 'status' || request.userInfo.username in {JOB_CONTROLLER}"),
            "Only the Job controller writes the status of a fuse. To end the access, delete its AccessGrant.",
        ),
        // Without options, a deletion of a Job through the API orphans its dependents.
        demand(
            on(
                "DELETE",
                "has(request.options.propagationPolicy) \
                 ? request.options.propagationPolicy in ['Background', 'Foreground'] \
                 : has(request.options.orphanDependents) && !request.options.orphanDependents",
            ),
            "This fuse cannot be deleted without the access that it owns (kubectl: --cascade=orphan). To end the \
             access, delete its AccessGrant, or use propagationPolicy Background or Foreground.",
        ),
    ]
}

/// CEL: the Job has the spec of a fuse. `ttlSecondsAfterFinished` 0 deletes the Job at its deadline, and the garbage
/// collector deletes what the Job owns.
fn is_a_fuse(settings: &GuardSettings) -> String {
    format!(
        "has(object.spec.parallelism) && object.spec.parallelism == 0 &&\n\
         has(object.spec.completions) && object.spec.completions == 1 &&\n\
         has(object.spec.ttlSecondsAfterFinished) && object.spec.ttlSecondsAfterFinished == 0 &&\n\
         has(object.spec.activeDeadlineSeconds) && object.spec.activeDeadlineSeconds <= {} &&\n\
         !(has(object.spec.suspend) && object.spec.suspend) && !has(object.spec.managedBy) &&\n\
         has(object.spec.manualSelector) && object.spec.manualSelector &&\n\
         !has(object.spec.selector.matchExpressions) &&\n\
         object.spec.selector.matchLabels == {{{label}: object.metadata.labels[{label}]}}",
        seconds(settings.cap),
        label = quoted(GRANT_UID_LABEL)
    )
}
