//! Attacks on fuses: keep a fuse from expiring, detach what it owns, and forge a fuse.

use serde_json::{Value, json};

use super::attack::{Attack, Holds, Request, Who, every_way};
use super::scene::Ground;
use crate::support::manifests::{ordinary_job, pod};

/// All attacks of this family.
pub fn attacks(ground: &Ground<'_>) -> Vec<Attack> {
    [
        edits(ground),
        deletions(ground),
        status_edits(ground),
        forgeries(ground),
    ]
    .concat()
}

fn edits(ground: &Ground<'_>) -> Vec<Attack> {
    let uid = json!("8d7f9f4e-0000-4000-8000-000000000000");
    let mut owners = ground.fuse["metadata"]["ownerReferences"].clone();
    if let Some(owners) = owners.as_array_mut() {
        owners.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "mine", "uid": uid}));
    }
    let mut attacks = Vec::new();
    for (what, change) in [
        (
            "suspends a fuse, which resets its start time",
            json!({"spec": {"suspend": true}}),
        ),
        (
            "changes the deadline of a fuse",
            json!({"spec": {"activeDeadlineSeconds": 99_999_999}}),
        ),
        (
            "removes the deadline of a fuse",
            json!({"spec": {"activeDeadlineSeconds": null}}),
        ),
        (
            "keeps a fuse for three years after its end",
            json!({"spec": {"ttlSecondsAfterFinished": 99_999_999}}),
        ),
        (
            "keeps a fuse for ever after its end",
            json!({"spec": {"ttlSecondsAfterFinished": null}}),
        ),
        ("lets a fuse run a pod", json!({"spec": {"parallelism": 1}})),
        (
            "lets the pods of a fuse fail",
            json!({"spec": {"backoffLimit": 1000}}),
        ),
        (
            "adds a finalizer to a fuse",
            json!({"metadata": {"finalizers": ["example.com/mine"]}}),
        ),
        (
            "adds the finalizer orphan to a fuse",
            json!({"metadata": {"finalizers": ["orphan"]}}),
        ),
        (
            "removes the owner of a fuse",
            json!({"metadata": {"ownerReferences": null}}),
        ),
        (
            "adds a second owner to a fuse",
            json!({"metadata": {"ownerReferences": owners}}),
        ),
        (
            "removes the label of a fuse",
            json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": null}}}),
        ),
        (
            "changes the label of a fuse to another grant",
            json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": uid}}}),
        ),
        (
            "changes the annotated end of a fuse to a later time",
            json!({"metadata": {"annotations": {"access.curfew.dev/not-after": "2036-01-01T00:00:00.000000Z"}}}),
        ),
        (
            "removes the annotated end of a fuse",
            json!({"metadata": {"annotations": {"access.curfew.dev/not-after": null}}}),
        ),
        (
            "adds a reserved label to a fuse",
            json!({"metadata": {"labels": {"access.curfew.dev/mine": "yes"}}}),
        ),
    ] {
        for (way, request) in every_way(&ground.fuse_at(""), &ground.fuse, &change) {
            attacks.push(Attack {
                what: format!("{what}, by {way}"),
                who: Who::Person("eve"),
                request,
                holds: Holds::Guard(
                    "curfew-fuse",
                    "A fuse cannot be changed. To end the access, delete its AccessGrant",
                ),
            });
        }
    }
    attacks
}

fn deletions(ground: &Ground<'_>) -> Vec<Attack> {
    let options = |more: Value| {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        crate::support::merge(&mut options, more);
        options
    };
    let mut attacks = Vec::new();
    for (what, delete_options) in [
        ("and orphans what it owns", json!({"propagationPolicy": "Orphan"})),
        (
            "and orphans what it owns, by the old option",
            json!({"orphanDependents": true}),
        ),
        // Without options, the API server orphans the dependents of a Job.
        ("without a propagation policy", json!({})),
        (
            "at once, without a propagation policy",
            json!({"gracePeriodSeconds": 0}),
        ),
    ] {
        let holds = Holds::Guard("curfew-fuse", "use propagationPolicy Background or Foreground");
        attacks.push(Attack {
            what: format!("deletes a fuse {what}"),
            who: Who::Person("eve"),
            request: Request::delete(ground.fuse_at(""), options(delete_options.clone())),
            holds: holds.clone(),
        });
        attacks.push(Attack {
            what: format!("deletes all fuses {what}"),
            who: Who::Person("eve"),
            request: Request::delete(ground.at("batch/v1", "jobs"), options(delete_options))
                .selecting("access.curfew.dev/grant-uid"),
            holds,
        });
    }
    attacks
}

fn status_edits(ground: &Ground<'_>) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let only_job_controller = || {
        Holds::Guard(
            "curfew-fuse",
            "Only the Job controller writes the status of a fuse",
        )
    };
    for (what, change, holds) in [
        (
            "a later start time",
            json!({"startTime": "2036-01-01T00:00:00Z"}),
            Holds::Schema("status.startTime"),
        ),
        (
            "no start time",
            json!({"startTime": null}),
            Holds::Schema("status.startTime"),
        ),
        ("active pods", json!({"active": 1}), only_job_controller()),
        (
            "terminating pods",
            json!({"terminating": 1}),
            only_job_controller(),
        ),
    ] {
        for request in [
            Request::merge(ground.fuse_at("/status"), json!({"status": change})),
            Request::strategic(ground.fuse_at("/status"), json!({"status": change})),
        ] {
            attacks.push(Attack {
                what: format!("writes {what} into the status of a fuse"),
                who: Who::Person("eve"),
                request,
                holds: holds.clone(),
            });
        }
    }
    attacks
}

fn forgeries(ground: &Ground<'_>) -> Vec<Attack> {
    let jobs = ground.at("batch/v1", "jobs");
    let with = |mut object: Value, edit: Value| {
        crate::support::merge(&mut object, edit);
        object
    };
    let label =
        json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": ground.grant["metadata"]["uid"]}}});
    let reserved_name = format!("curfew-{}", "0".repeat(32));
    let mut twin = ground.fuse.clone();
    twin["metadata"]["name"] = json!(reserved_name);
    crate::support::merge(
        &mut twin,
        json!({"metadata": {"uid": null, "creationTimestamp": null}}),
    );
    let mut attacks = vec![
        (
            "creates a Job with the label of the grant",
            Request::create(jobs.clone(), with(ordinary_job("mine"), label.clone())),
            Holds::Guard(
                "curfew-fuse",
                "Only Curfew creates Jobs with the label access.curfew.dev/grant-uid. Leave the label out",
            ),
        ),
        (
            "creates a second fuse of the grant",
            Request::create(jobs.clone(), twin),
            Holds::Guard("curfew-fuse", "Only Curfew creates Jobs"),
        ),
        (
            "applies a Job with the label of the grant",
            Request::apply(
                ground.at("batch/v1", "jobs/mine"),
                "helm",
                with(ordinary_job("mine"), label),
            ),
            Holds::Guard("curfew-fuse", "Only Curfew creates Jobs"),
        ),
        (
            "creates a Job with a reserved name",
            Request::create(jobs.clone(), ordinary_job(&reserved_name)),
            Holds::Guard(
                "curfew-reserved-names",
                "are reserved for Curfew. Choose another name",
            ),
        ),
        (
            "applies a Job with a reserved name",
            Request::apply(
                ground.at("batch/v1", &format!("jobs/{reserved_name}")),
                "helm",
                ordinary_job(&reserved_name),
            ),
            Holds::Guard(
                "curfew-reserved-names",
                "are reserved for Curfew. Choose another name",
            ),
        ),
        (
            "creates a Job with a generated name that is reserved",
            Request::create(
                jobs,
                with(
                    ordinary_job("a"),
                    json!({"metadata": {"name": null, "generateName": "curfew-"}}),
                ),
            ),
            Holds::Guard(
                "curfew-reserved-names",
                "are reserved for Curfew. Choose another name",
            ),
        ),
    ];
    let pods = ground.at("v1", "pods");
    let pod_refused = Holds::Guard("curfew-pods", "would keep a fuse from ending access");
    let selected =
        json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": ground.grant["metadata"]["uid"]}}});
    let mut stubborn = with(pod("stubborn"), selected.clone());
    stubborn["spec"]["terminationGracePeriodSeconds"] = json!(99_999_999);
    let mut finalized = with(pod("finalized"), selected);
    finalized["metadata"]["finalizers"] = json!(["example.com/mine"]);
    attacks.push((
        "creates a pod for the fuse, with a grace period of three years",
        Request::create(pods.clone(), stubborn),
        pod_refused.clone(),
    ));
    attacks.push((
        "creates a pod for the fuse, with a finalizer",
        Request::create(pods, finalized.clone()),
        pod_refused.clone(),
    ));
    attacks.push((
        "applies a pod for the fuse, with a finalizer",
        Request::apply(ground.at("v1", "pods/finalized"), "helm", finalized),
        pod_refused,
    ));
    attacks
        .into_iter()
        .map(|(what, request, holds)| Attack {
            what: what.to_owned(),
            who: Who::Person("eve"),
            request,
            holds,
        })
        .collect()
}
