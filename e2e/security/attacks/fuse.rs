//! Keeping a fuse from burning, parting it from what it holds, and making one's own.

use serde_json::{Value, json};

use super::attack::{Attack, Holds, Request, Who, every_way};
use super::scene::Ground;
use crate::support::manifests::{ordinary_job, pod};

/// The attacks.
pub fn attacks(ground: &Ground<'_>) -> Vec<Attack> {
    [
        edits(ground),
        deletions(ground),
        of_its_status(ground),
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
            "suspends it, which empties its start time",
            json!({"spec": {"suspend": true}}),
        ),
        (
            "moves its deadline",
            json!({"spec": {"activeDeadlineSeconds": 99_999_999}}),
        ),
        (
            "takes its deadline away",
            json!({"spec": {"activeDeadlineSeconds": null}}),
        ),
        (
            "lets it stay when it has burnt",
            json!({"spec": {"ttlSecondsAfterFinished": 99_999_999}}),
        ),
        (
            "lets it stay for ever when it has burnt",
            json!({"spec": {"ttlSecondsAfterFinished": null}}),
        ),
        ("lets it run a pod", json!({"spec": {"parallelism": 1}})),
        ("lets its pods fail", json!({"spec": {"backoffLimit": 1000}})),
        (
            "holds it back by a finalizer",
            json!({"metadata": {"finalizers": ["example.com/mine"]}}),
        ),
        (
            "orphans what it holds by a finalizer",
            json!({"metadata": {"finalizers": ["orphan"]}}),
        ),
        (
            "takes its owner away",
            json!({"metadata": {"ownerReferences": null}}),
        ),
        (
            "gives it a second owner",
            json!({"metadata": {"ownerReferences": owners}}),
        ),
        (
            "takes its label",
            json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": null}}}),
        ),
        (
            "labels it as another's",
            json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": uid}}}),
        ),
        (
            "says that it ends later",
            json!({"metadata": {"annotations": {"access.curfew.dev/not-after": "2036-01-01T00:00:00.000000Z"}}}),
        ),
        (
            "says that it never ends",
            json!({"metadata": {"annotations": {"access.curfew.dev/not-after": null}}}),
        ),
        (
            "adds a label of Curfew's",
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
    for (what, how) in [
        ("without what it holds", json!({"propagationPolicy": "Orphan"})),
        (
            "without what it holds, as in old days",
            json!({"orphanDependents": true}),
        ),
        // Of a Job, a deletion that says nothing orphans.
        ("saying nothing of what it holds", json!({})),
        ("at once, saying nothing", json!({"gracePeriodSeconds": 0})),
    ] {
        let holds = Holds::Guard("curfew-fuse", "use propagationPolicy Background or Foreground");
        attacks.push(Attack {
            what: format!("deletes it {what}"),
            who: Who::Person("eve"),
            request: Request::delete(ground.fuse_at(""), options(how.clone())),
            holds: holds.clone(),
        });
        attacks.push(Attack {
            what: format!("deletes all fuses {what}"),
            who: Who::Person("eve"),
            request: Request::delete(ground.at("batch/v1", "jobs"), options(how))
                .selecting("access.curfew.dev/grant-uid"),
            holds,
        });
    }
    attacks
}

fn of_its_status(ground: &Ground<'_>) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let guarded = || {
        Holds::Guard(
            "curfew-fuse",
            "Only the Job controller writes the status of a fuse",
        )
    };
    for (what, change, holds) in [
        (
            "a later start",
            json!({"startTime": "2036-01-01T00:00:00Z"}),
            Holds::Schema("status.startTime"),
        ),
        (
            "no start",
            json!({"startTime": null}),
            Holds::Schema("status.startTime"),
        ),
        ("pods that run", json!({"active": 1}), guarded()),
        ("pods that still end", json!({"terminating": 1}), guarded()),
    ] {
        for request in [
            Request::merge(ground.fuse_at("/status"), json!({"status": change})),
            Request::strategic(ground.fuse_at("/status"), json!({"status": change})),
        ] {
            attacks.push(Attack {
                what: format!("reports {what}"),
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
    let guess = format!("curfew-{}", "0".repeat(32));
    let mut twin = ground.fuse.clone();
    twin["metadata"]["name"] = json!(guess);
    crate::support::merge(
        &mut twin,
        json!({"metadata": {"uid": null, "creationTimestamp": null}}),
    );
    let mut attacks = vec![
        (
            "makes a Job that looks like a fuse",
            Request::create(jobs.clone(), with(ordinary_job("mine"), label.clone())),
            Holds::Guard(
                "curfew-fuse",
                "Only Curfew creates Jobs with the label access.curfew.dev/grant-uid. Leave the label out",
            ),
        ),
        (
            "makes a second fuse of the grant",
            Request::create(jobs.clone(), twin),
            Holds::Guard("curfew-fuse", "Only Curfew creates Jobs"),
        ),
        (
            "labels a Job of her own as a fuse, by apply",
            Request::apply(
                ground.at("batch/v1", "jobs/mine"),
                "helm",
                with(ordinary_job("mine"), label),
            ),
            Holds::Guard("curfew-fuse", "Only Curfew creates Jobs"),
        ),
        (
            "has a Job ready under a name of ours",
            Request::create(jobs.clone(), ordinary_job(&guess)),
            Holds::Guard(
                "curfew-reserved-names",
                "are reserved for Curfew. Choose another name",
            ),
        ),
        (
            "applies a Job under a name of ours",
            Request::apply(
                ground.at("batch/v1", &format!("jobs/{guess}")),
                "helm",
                ordinary_job(&guess),
            ),
            Holds::Guard(
                "curfew-reserved-names",
                "are reserved for Curfew. Choose another name",
            ),
        ),
        (
            "has a Job generated under a name of ours",
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
    let held_back = Holds::Guard("curfew-pods", "would keep a fuse from ending access");
    let selected =
        json!({"metadata": {"labels": {"access.curfew.dev/grant-uid": ground.grant["metadata"]["uid"]}}});
    let mut stubborn = with(pod("stubborn"), selected.clone());
    stubborn["spec"]["terminationGracePeriodSeconds"] = json!(99_999_999);
    let mut held = with(pod("held"), selected);
    held["metadata"]["finalizers"] = json!(["example.com/mine"]);
    attacks.push((
        "puts a pod into the fuse that does not end",
        Request::create(pods.clone(), stubborn),
        held_back.clone(),
    ));
    attacks.push((
        "puts a pod into the fuse that a finalizer holds",
        Request::create(pods, held.clone()),
        held_back.clone(),
    ));
    attacks.push((
        "applies a pod into the fuse",
        Request::apply(ground.at("v1", "pods/held"), "helm", held),
        held_back,
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
