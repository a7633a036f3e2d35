//! What is written around a grant, into it later, or into its status.

use serde_json::{Value, json};

use super::attack::{Attack, Holds, Request, Who, every_way};
use super::scene::Ground;
use crate::support::json::CURFEW;

/// An owner that does not exist: the garbage collector would take the grant away within two seconds.
fn dead_owner() -> Value {
    json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "8d7f9f4e-0000-4000-8000-000000000000"}])
}

/// An owner that does: whoever deletes it would delete the grant.
fn owner(ground: &Ground<'_>) -> Value {
    json!([{"apiVersion": CURFEW, "kind": "AccessGrant", "name": ground.grant["metadata"]["name"],
        "uid": ground.grant["metadata"]["uid"]}])
}

/// The attacks.
pub fn attacks(ground: &Ground<'_>) -> Vec<Attack> {
    [
        at_creation(ground),
        later(ground),
        of_its_spec(ground),
        of_its_status(ground),
    ]
    .concat()
}

fn around(ground: &Ground<'_>) -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "an owner that is gone",
            json!({"ownerReferences": dead_owner()}),
            "A grant must have no owner",
        ),
        (
            "an owner that stands",
            json!({"ownerReferences": owner(ground)}),
            "A grant must have no owner",
        ),
        (
            "a label of Curfew's",
            json!({"labels": {"access.curfew.dev/state": "active"}}),
            "are reserved for Curfew",
        ),
        (
            "the label of an artifact",
            json!({"labels": {"access.curfew.dev/grant-uid": "another"}}),
            "are reserved for Curfew",
        ),
        (
            "an end in an annotation",
            json!({"annotations": {"access.curfew.dev/not-after": "2036-01-01T00:00:00.000000Z"}}),
            "are reserved for Curfew",
        ),
        (
            "a foreign finalizer",
            json!({"finalizers": ["example.com/mine"]}),
            "Leave metadata.finalizers out",
        ),
        (
            "Curfew's own finalizer",
            json!({"finalizers": ["access.curfew.dev/revoke"]}),
            "Leave metadata.finalizers out",
        ),
        (
            "the finalizer that orphans",
            json!({"finalizers": ["orphan"]}),
            "Leave metadata.finalizers out",
        ),
    ]
}

fn at_creation(ground: &Ground<'_>) -> Vec<Attack> {
    let grants = ground.at(CURFEW, "accessgrants");
    let mut attacks = Vec::new();
    for (what, metadata, words) in around(ground) {
        let holds = Holds::Guard("curfew-grant", words);
        attacks.push(Attack {
            what: format!("asks with {what}"),
            who: Who::Person("alice"),
            request: Request::create(
                grants.clone(),
                ground.asking("alice", json!({"metadata": metadata})),
            ),
            holds: holds.clone(),
        });
        attacks.push(Attack {
            what: format!("applies a request with {what}"),
            who: Who::Person("bob"),
            request: Request::apply(
                ground.at(CURFEW, "accessgrants/tried"),
                "argocd-controller",
                ground.asking("bob", json!({"metadata": metadata})),
            ),
            holds,
        });
    }
    for past in [
        "2020-01-01T00:00:00Z",
        "2024-01-31T00:00:00.5+05:00",
        "1970-01-01T00:00:00Z",
    ] {
        attacks.push(Attack {
            what: format!("asks for access that ended at {past}"),
            who: Who::Person("alice"),
            request: Request::create(
                grants.clone(),
                ground.asking("alice", json!({"spec": {"notAfter": past}})),
            ),
            holds: Holds::Guard("curfew-grant", "spec.notAfter has passed. Set a later time"),
        });
    }
    for (what, reason) in [
        ("a reason that reads backwards", "DEV-1 \u{202e}harmless"),
        ("a reason with a line of its own", "DEV-1\napproved by: bob"),
    ] {
        attacks.push(Attack {
            what: format!("asks with {what}"),
            who: Who::Person("alice"),
            request: Request::create(
                grants.clone(),
                ground.asking("alice", json!({"spec": {"reason": reason}})),
            ),
            holds: Holds::Schema("spec.reason"),
        });
    }
    attacks
}

fn later(ground: &Ground<'_>) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (what, metadata, words) in around(ground) {
        for (way, request) in every_way(
            &ground.grant_at(""),
            &ground.grant,
            &json!({"metadata": metadata}),
        ) {
            attacks.push(Attack {
                what: format!("gives a grant {what}, by {way}"),
                who: Who::Person("eve"),
                request,
                holds: Holds::Guard("curfew-grant", words),
            });
        }
    }
    attacks
}

fn of_its_spec(ground: &Ground<'_>) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (what, change) in [
        (
            "adds a subject",
            json!({"subject": {"kind": "User", "name": "mallory"}}),
        ),
        (
            "adds an end far ahead",
            json!({"notAfter": "2036-01-01T00:00:00Z"}),
        ),
        ("replaces the duration", json!({"duration": "12h"})),
        ("drops the duration", json!({"duration": null})),
        (
            "asks for more",
            json!({"entitlements": [{"name": "read"}, {"name": "look"}]}),
        ),
        ("drops what is asked for", json!({"entitlements": null})),
        (
            "goes under another policy",
            json!({"policyRef": {"name": "another"}}),
        ),
        (
            "rewrites the reason",
            json!({"reason": "DEV-2 something harmless"}),
        ),
        ("rewrites who asked", json!({"requester": {"username": "bob"}})),
        ("drops who asked", json!({"requester": null})),
        (
            "adds a reference",
            json!({"references": [{"type": "Ticket", "id": "DEV-2"}]}),
        ),
    ] {
        for (way, request) in every_way(&ground.grant_at(""), &ground.grant, &json!({"spec": change})) {
            attacks.push(Attack {
                what: format!("{what}, by {way}"),
                who: Who::Person("bob"),
                request,
                holds: Holds::Schema("a grant is never edited: make a new one"),
            });
        }
    }
    attacks
}

fn of_its_status(ground: &Ground<'_>) -> Vec<Attack> {
    let guarded = || {
        Holds::Guard(
            "curfew-status",
            "Only Curfew writes the status. To end access, create a decision Revoke",
        )
    };
    let mut attacks = Vec::new();
    for (what, change, holds) in [
        (
            "an end far ahead",
            json!({"expiresAt": "2036-01-01T00:00:00.000000Z"}),
            Holds::Schema("expiresAt only moves earlier"),
        ),
        (
            "no end",
            json!({"expiresAt": null}),
            Holds::Schema("expiresAt only moves earlier"),
        ),
        (
            "an end right now",
            json!({"expiresAt": "2026-01-01T00:00:00.000000Z"}),
            guarded(),
        ),
        (
            "another subject",
            json!({"subject": {"kind": "User", "name": "mallory"}}),
            guarded(),
        ),
        (
            "that it has ended",
            json!({"endedAt": "2026-01-01T00:00:00.000000Z"}),
            guarded(),
        ),
        ("artifacts to forget", json!({"artifacts": null}), guarded()),
        ("a generation", json!({"observedGeneration": 7}), guarded()),
    ] {
        for (way, request) in every_way(
            &ground.grant_at("/status"),
            &ground.grant,
            &json!({"status": change}),
        ) {
            attacks.push(Attack {
                what: format!("writes {what} into a status, by {way}"),
                who: Who::Person("bob"),
                request,
                holds: holds.clone(),
            });
        }
    }
    attacks.push(Attack {
        what: "declares a policy ready".to_owned(),
        who: Who::Person("admin"),
        request: Request::merge(
            super::attack::at(CURFEW, "", &format!("accesspolicies/{}/status", ground.policy)),
            json!({"status": {"observedGeneration": 7}}),
        ),
        holds: Holds::Guard("curfew-status", "Only Curfew writes the status"),
    });
    attacks
}
