//! Attacks on grants: forbidden metadata, and edits of spec and status.

use serde_json::{Value, json};

use super::attack::{Attack, Holds, Request, Who, every_way};
use super::scene::Ground;
use crate::support::json::CURFEW;

/// Owner that does not exist: the garbage collector would delete the grant within two seconds.
fn missing_owner() -> Value {
    json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "8d7f9f4e-0000-4000-8000-000000000000"}])
}

/// Owner that exists: deletion of the owner would delete the grant.
fn existing_owner(ground: &Ground<'_>) -> Value {
    json!([{"apiVersion": CURFEW, "kind": "AccessGrant", "name": ground.grant["metadata"]["name"],
        "uid": ground.grant["metadata"]["uid"]}])
}

/// All attacks of this family.
pub fn attacks(ground: &Ground<'_>) -> Vec<Attack> {
    [
        creations(ground),
        metadata_edits(ground),
        spec_edits(ground),
        status_edits(ground),
    ]
    .concat()
}

/// Forbidden metadata of a grant: its description, the metadata, and words of the refusal.
fn forbidden_metadata(ground: &Ground<'_>) -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "an owner that does not exist",
            json!({"ownerReferences": missing_owner()}),
            "A grant must have no owner",
        ),
        (
            "an owner that exists",
            json!({"ownerReferences": existing_owner(ground)}),
            "A grant must have no owner",
        ),
        (
            "a reserved label",
            json!({"labels": {"access.curfew.dev/state": "active"}}),
            "are reserved for Curfew",
        ),
        (
            "the label of an artifact",
            json!({"labels": {"access.curfew.dev/grant-uid": "another"}}),
            "are reserved for Curfew",
        ),
        (
            "an expiry time in a reserved annotation",
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
            "the finalizer orphan",
            json!({"finalizers": ["orphan"]}),
            "Leave metadata.finalizers out",
        ),
    ]
}

fn creations(ground: &Ground<'_>) -> Vec<Attack> {
    let grants = ground.at(CURFEW, "accessgrants");
    let mut attacks = Vec::new();
    for (what, metadata, words) in forbidden_metadata(ground) {
        let holds = Holds::Guard("curfew-grant", words);
        attacks.push(Attack {
            what: format!("requests access with {what}"),
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
            what: format!("requests access until {past}, which has passed"),
            who: Who::Person("alice"),
            request: Request::create(
                grants.clone(),
                ground.asking("alice", json!({"spec": {"notAfter": past}})),
            ),
            holds: Holds::Guard("curfew-grant", "spec.notAfter has passed. Set a later time"),
        });
    }
    for (what, reason) in [
        (
            "a right-to-left character in the reason",
            "DEV-1 \u{202e}harmless",
        ),
        ("a line break in the reason", "DEV-1\napproved by: bob"),
    ] {
        attacks.push(Attack {
            what: format!("requests access with {what}"),
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

fn metadata_edits(ground: &Ground<'_>) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (what, metadata, words) in forbidden_metadata(ground) {
        for (way, request) in every_way(
            &ground.grant_at(""),
            &ground.grant,
            &json!({"metadata": metadata}),
        ) {
            attacks.push(Attack {
                what: format!("edits a grant to have {what}, by {way}"),
                who: Who::Person("eve"),
                request,
                holds: Holds::Guard("curfew-grant", words),
            });
        }
    }
    attacks
}

fn spec_edits(ground: &Ground<'_>) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (what, change) in [
        (
            "adds a subject",
            json!({"subject": {"kind": "User", "name": "mallory"}}),
        ),
        (
            "adds notAfter ten years ahead",
            json!({"notAfter": "2036-01-01T00:00:00Z"}),
        ),
        ("changes the duration", json!({"duration": "12h"})),
        ("removes the duration", json!({"duration": null})),
        (
            "adds an entitlement",
            json!({"entitlements": [{"name": "read"}, {"name": "look"}]}),
        ),
        ("removes the entitlements", json!({"entitlements": null})),
        ("changes the policy", json!({"policyRef": {"name": "another"}})),
        (
            "changes the reason",
            json!({"reason": "DEV-2 something harmless"}),
        ),
        ("changes the requester", json!({"requester": {"username": "bob"}})),
        ("removes the requester", json!({"requester": null})),
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
                holds: Holds::Schema(
                    "a grant cannot be changed: create a new one; to end this one, delete it",
                ),
            });
        }
    }
    attacks
}

fn status_edits(ground: &Ground<'_>) -> Vec<Attack> {
    let only_curfew = || {
        Holds::Guard(
            "curfew-status",
            "Only Curfew writes the status. To end access, create a decision Revoke",
        )
    };
    let mut attacks = Vec::new();
    for (what, change, holds) in [
        (
            "a later expiry time",
            json!({"expiresAt": "2036-01-01T00:00:00.000000Z"}),
            Holds::Schema("expiresAt only moves earlier"),
        ),
        (
            "no expiry time",
            json!({"expiresAt": null}),
            Holds::Schema("expiresAt only moves earlier"),
        ),
        (
            "an expiry time in the past",
            json!({"expiresAt": "2026-01-01T00:00:00.000000Z"}),
            only_curfew(),
        ),
        (
            "another subject",
            json!({"subject": {"kind": "User", "name": "mallory"}}),
            only_curfew(),
        ),
        (
            "an end time",
            json!({"endedAt": "2026-01-01T00:00:00.000000Z"}),
            only_curfew(),
        ),
        ("no artifacts", json!({"artifacts": null}), only_curfew()),
        (
            "an observed generation",
            json!({"observedGeneration": 7}),
            only_curfew(),
        ),
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
        what: "writes the status of a policy".to_owned(),
        who: Who::Person("admin"),
        request: Request::merge(
            super::attack::at(CURFEW, "", &format!("accesspolicies/{}/status", ground.policy)),
            json!({"status": {"observedGeneration": 7}}),
        ),
        holds: Holds::Guard("curfew-status", "Only Curfew writes the status"),
    });
    attacks
}
