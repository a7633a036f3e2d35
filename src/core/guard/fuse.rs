//! A fuse burns at its time, whoever wishes otherwise.

use crate::api::{GRANT_UID_LABEL, GROUP};

use super::expression::{
    creator_asks, ends_within_cap, is_our_name, metadata, metadata_only_narrowed, on, quoted, seconds,
};
use super::manifest::{Validating, demand, ours, requests};
use super::{Guard, GuardSettings};

/// Who reports on Jobs: the Job controller, by its own ServiceAccount or, where the controller-manager has one
/// credential for all its controllers, by that.
const JOB_CONTROLLER: &str =
    "['system:serviceaccount:kube-system:job-controller', 'system:kube-controller-manager']";

/// Jobs with our label are fuses, are never changed, and never go without what they hold.
pub(super) fn only_burns(settings: &GuardSettings) -> [Guard; 2] {
    let identities = quoted(&settings.identities);
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
        validations: vec![
            demand(
                on("CREATE", &creator_asks(settings)),
                "only Curfew makes fuses: leave the label access.curfew.dev/grant-uid out, or ask for access with an \
                 AccessGrant",
            ),
            demand(
                on("CREATE", &is_our_name("object.metadata.name")),
                "a fuse is named curfew- and 32 hexadecimal digits: leave making fuses to Curfew",
            ),
            demand(
                on("CREATE", &shape(settings)),
                format!(
                    "not a fuse: a fuse runs no pod, selects none by other labels, is not suspended, burns within {} and is deleted then; look for a \
                     tool that changes Jobs when they are created",
                    settings.cap
                ),
            ),
            demand(
                on("CREATE", &format!("size(variables.finalizers) == 0 && {}", ends_within_cap(settings.cap))),
                format!(
                    "a fuse has no finalizer and states access.curfew.dev/not-after, at most {} ahead: leave making \
                     fuses to Curfew",
                    settings.cap
                ),
            ),
            demand(
                on(
                    "CREATE",
                    &format!(
                        "request.namespace == {identities} ? size(variables.owners) == 0 : \
                         (size(variables.owners) == 1 && object.metadata.ownerReferences.all(owner, \
                         owner.kind == 'AccessGrant' && owner.apiVersion.startsWith('{GROUP}/') &&\n\
                         object.metadata.labels[{}] == owner.uid))",
                        quoted(GRANT_UID_LABEL)
                    ),
                ),
                format!(
                    "a fuse is owned by the grant it is labelled with, and by nothing in namespace {}: leave making \
                     fuses to Curfew",
                    settings.identities
                ),
            ),
            demand(
                on(
                    "UPDATE",
                    &format!(
                        "variables.subresource != '' || (object.spec == oldObject.spec && {})",
                        metadata_only_narrowed()
                    ),
                ),
                "a fuse is never changed: delete its AccessGrant to end the access, make another one for more",
            ),
            demand(
                format!("variables.subresource != 'status' || request.userInfo.username in {JOB_CONTROLLER}"),
                "only the Job controller reports on a fuse: delete its AccessGrant to end the access",
            ),
            // A deletion of a Job that does not say what becomes of its dependents orphans them.
            demand(
                on(
                    "DELETE",
                    "has(request.options.propagationPolicy) \
                     ? request.options.propagationPolicy in ['Background', 'Foreground'] \
                     : has(request.options.orphanDependents) && !request.options.orphanDependents",
                ),
                "a fuse never goes without what it holds: delete it with propagationPolicy Background or Foreground",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}

fn shape(settings: &GuardSettings) -> String {
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
