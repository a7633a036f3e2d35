//! What a stolen token of the operator, the sweeper or the canary is worth.

use curfew::core::CANARY;
use serde_json::{Value, json};

use super::attack::{Attack, Holds, Request, Who};
use super::scene::{Ground, anew};
use crate::support::json::{CURFEW, RBAC};
use crate::support::manifests::{binding, ordinary_job, pod, role};

const UNLABELLED: Holds = Holds::Guard(
    "curfew-own-hands",
    "Curfew's service accounts may only change objects with the label access.curfew.dev/grant-uid. Use your own account",
);
const LIMITS: Holds = Holds::Guard(
    "curfew-own-limits",
    "Curfew's service accounts may not request access",
);
const OPERATOR: Who = Who::Stolen("curfew");

/// The attacks.
pub fn attacks(ground: &Ground<'_>) -> Vec<Attack> {
    [
        of_what_is_not_ours(ground),
        beyond_its_job(ground),
        fuses(ground),
        roles(ground),
        bindings(ground),
        of_the_sweeper(ground),
        decisions(ground),
        of_the_canary(ground),
    ]
    .concat()
}

fn by_both(what: &str, request: &Request, holds: &Holds) -> Vec<Attack> {
    ["curfew", "curfew-sweep"]
        .into_iter()
        .map(|account| Attack {
            what: what.to_owned(),
            who: Who::Stolen(account),
            request: request.clone(),
            holds: holds.clone(),
        })
        .collect()
}

fn of_what_is_not_ours(ground: &Ground<'_>) -> Vec<Attack> {
    let bob = ground.at(RBAC, "rolebindings/bob");
    let mallory =
        json!({"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}]});
    let mut attacks = Vec::new();
    for (what, request) in [
        (
            "makes a Job",
            Request::create(ground.at("batch/v1", "jobs"), ordinary_job("mine")),
        ),
        (
            "makes a Role",
            Request::create(ground.at(RBAC, "roles"), role("mine")),
        ),
        (
            "makes a binding",
            Request::create(
                ground.at(RBAC, "rolebindings"),
                binding("mine", "view", "mallory"),
            ),
        ),
        (
            "applies a binding",
            Request::apply(
                ground.at(RBAC, "rolebindings/mine"),
                "helm",
                binding("mine", "view", "mallory"),
            ),
        ),
        ("edits a binding of others", Request::merge(bob.clone(), mallory)),
        ("deletes a binding of others", Request::delete(bob, json!({}))),
        (
            "deletes all bindings",
            Request::delete(ground.at(RBAC, "rolebindings"), json!({}))
                .selecting("!access.curfew.dev/grant-uid"),
        ),
        (
            "deletes a Role of others",
            Request::delete(ground.at(RBAC, "roles/more"), json!({})),
        ),
    ] {
        attacks.extend(by_both(what, &request, &UNLABELLED));
    }
    attacks
}

fn beyond_its_job(ground: &Ground<'_>) -> Vec<Attack> {
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}});
    let mut asked = ground.asking("alice", json!({}));
    // Where the name is right, what remains is that it asks at all.
    asked["spec"]["requester"] = itself("curfew");
    let token_of = |namespace: &str, account: &str| {
        let path = super::attack::at("v1", namespace, &format!("serviceaccounts/{account}/token"));
        Request::create(path, token.clone())
    };
    let almighty = |account: &str| Who::AlmightyAs(format!("system:serviceaccount:curfew-system:{account}"));
    let pod_at = |rest: &str| ground.at("v1", &format!("pods/a{rest}"));
    let mut attacks = vec![Attack {
        what: "asks for access for itself".to_owned(),
        who: OPERATOR,
        request: Request::create(ground.at(CURFEW, "accessgrants"), asked),
        holds: LIMITS,
    }];
    for (who, namespace, account) in [
        ("curfew", "curfew-system", "curfew"),
        ("curfew", "default", "default"),
        ("curfew-sweep", "curfew-system", CANARY),
        ("curfew-sweep", "curfew-system", "curfew"),
    ] {
        attacks.push(Attack {
            what: format!("makes a token of {namespace}/{account}"),
            who: almighty(who),
            request: token_of(namespace, account),
            holds: LIMITS,
        });
    }
    for (what, request) in [
        (
            "makes a token of an account here",
            token_of(&ground.place.name, "default"),
        ),
        (
            "makes a Secret",
            Request::create(ground.at("v1", "secrets"), secret.clone()),
        ),
        (
            "applies a Secret",
            Request::apply(ground.at("v1", "secrets/mine"), "helm", {
                let mut secret = secret;
                secret["type"] = json!("kubernetes.io/service-account-token");
                secret["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
                secret
            }),
        ),
        (
            "deletes a Secret",
            Request::delete(ground.at("v1", "secrets/theirs"), json!({})),
        ),
        (
            "makes a pod",
            Request::create(ground.at("v1", "pods"), pod("mine")),
        ),
        (
            "enters a pod",
            Request::connect(pod_at("/exec"), "command=sh&stdout=true"),
        ),
        (
            "attaches to a pod",
            Request::connect(pod_at("/attach"), "stdout=true"),
        ),
        (
            "forwards a port of a pod",
            Request::connect(pod_at("/portforward"), "ports=80"),
        ),
    ] {
        attacks.extend(by_both(what, &request, &LIMITS));
    }
    attacks
}

/// Where more than one guard refuses, so that neither is proved by it.
const NO_PERSON: Holds = Holds::EachOf(&["curfew-own-limits", "curfew-decider"]);

/// An account of Curfew's as it has to state itself.
fn itself(account: &str) -> Value {
    json!({
        "username": format!("system:serviceaccount:curfew-system:{account}"),
        "groups": ["system:serviceaccounts", "system:serviceaccounts:curfew-system", "system:authenticated"],
    })
}

/// What ends the access, as a decision of this account, who may say so like everybody.
fn revoking(ground: &Ground<'_>, account: &str) -> Value {
    let ending = json!({"decision": "Revoke", "accessHash": null});
    let mut decision = ground.approving("bob", json!({"spec": ending}));
    decision["spec"]["decider"] = itself(account);
    decision
}

fn decisions(ground: &Ground<'_>) -> Vec<Attack> {
    let (all, one) = (
        ground.at(CURFEW, "accessdecisions"),
        ground.at(CURFEW, "accessdecisions/tried"),
    );
    let mut attacks = Vec::new();
    for account in ["curfew", "curfew-sweep"] {
        let mut approving = ground.approving("bob", json!({}));
        approving["spec"]["decider"] = itself(account);
        for (what, body, holds) in [
            ("revokes", revoking(ground, account), LIMITS),
            ("approves", approving, NO_PERSON),
            ("approves as bob", ground.approving("bob", json!({})), NO_PERSON),
        ] {
            for (way, request) in [
                ("create", Request::create(all.clone(), body.clone())),
                ("apply", Request::apply(one.clone(), "curfew", body.clone())),
            ] {
                attacks.push(Attack {
                    what: format!("{what}, by {way}"),
                    who: Who::Stolen(account),
                    request,
                    holds: holds.clone(),
                });
            }
        }
    }
    attacks
}

/// Its dry runs are what it is for; they are held to the same guards as everybody's.
fn of_the_canary(ground: &Ground<'_>) -> Vec<Attack> {
    let path = ground.at(CURFEW, "accessdecisions");
    let create = |body: Value| Request::create(path.clone(), body);
    let mut approving = ground.approving("bob", json!({}));
    approving["spec"]["decider"] = itself(CANARY);
    [
        (
            "revokes",
            create(revoking(ground, CANARY)),
            Holds::Guard(CANARY, "may only make dry runs"),
        ),
        (
            "approves",
            create(approving.clone()),
            Holds::EachOf(&[CANARY, "curfew-decider"]),
        ),
        (
            "approves, as a dry run",
            create(approving).dry(),
            Holds::Guard("curfew-decider", "A service account cannot approve or deny"),
        ),
        (
            "approves as bob, as a dry run",
            create(ground.approving("bob", json!({}))).dry(),
            Holds::Guard("curfew-decider", "spec.decider.username must be you"),
        ),
    ]
    .into_iter()
    .map(|(what, request, holds)| Attack {
        what: what.to_owned(),
        who: Who::Stolen(CANARY),
        request,
        holds,
    })
    .collect()
}

fn far() -> Value {
    json!({"metadata": {"annotations": {"access.curfew.dev/not-after": "2036-01-01T00:00:00.000000Z"}}})
}

/// A fuse just like ours, that the operator might make; changed.
pub fn fuse(ground: &Ground<'_>, edit: Value) -> Value {
    let mut fuse = anew(&ground.fuse, &format!("curfew-{}1", "0".repeat(31)));
    crate::support::merge(&mut fuse, edit);
    fuse
}

fn fuses(ground: &Ground<'_>) -> Vec<Attack> {
    let shape = "This Job is not a valid fuse. A fuse runs no pod";
    let another = "8d7f9f4e-0000-4000-8000-000000000000";
    let mut attacks = Vec::new();
    for (what, edit, words) in [
        ("runs a pod as a fuse", json!({"spec": {"parallelism": 1}}), shape),
        (
            "runs pods by default",
            json!({"spec": {"parallelism": null}}),
            shape,
        ),
        (
            "makes a fuse that is suspended",
            json!({"spec": {"suspend": true}}),
            shape,
        ),
        (
            "makes a fuse that burns in three years",
            json!({"spec": {"activeDeadlineSeconds": 99_999_999}}),
            shape,
        ),
        (
            "makes a fuse that never burns",
            json!({"spec": {"activeDeadlineSeconds": null}}),
            shape,
        ),
        (
            "makes a fuse that stays",
            json!({"spec": {"ttlSecondsAfterFinished": 60}}),
            shape,
        ),
        (
            "makes a fuse that stays for ever",
            json!({"spec": {"ttlSecondsAfterFinished": null}}),
            shape,
        ),
        (
            "makes a fuse that somebody else minds",
            json!({"spec": {"managedBy": "example.com/nobody"}}),
            shape,
        ),
        ("makes a fuse of many", json!({"spec": {"completions": 5}}), shape),
        (
            "makes a fuse that pods may hold back",
            json!({"spec": {"manualSelector": null, "selector": null, "template": {"metadata": null}}}),
            shape,
        ),
        (
            "names a fuse as it likes",
            json!({"metadata": {"name": "curfew-short"}}),
            "32 hexadecimal digits",
        ),
        (
            "makes a fuse that no grant owns",
            json!({"metadata": {"ownerReferences": null}}),
            "owner of a fuse must be the grant",
        ),
        (
            "makes a fuse of another's grant",
            json!({
                "metadata": {"labels": {"access.curfew.dev/grant-uid": another}},
                "spec": {
                    "selector": {"matchLabels": {"access.curfew.dev/grant-uid": another}},
                    "template": {"metadata": {"labels": {"access.curfew.dev/grant-uid": another}}},
                },
            }),
            "owner of a fuse must be the grant in its label",
        ),
        (
            "makes a fuse that a finalizer holds",
            json!({"metadata": {"finalizers": ["example.com/mine"]}}),
            "must have no finalizer",
        ),
        ("promises an end beyond the cap", far(), "at most 12h ahead"),
        (
            "promises no end",
            json!({"metadata": {"annotations": {"access.curfew.dev/not-after": null}}}),
            "at most 12h ahead",
        ),
        (
            "promises an end that is none",
            json!({"metadata": {"annotations": {"access.curfew.dev/not-after": "tomorrow"}}}),
            "at most 12h ahead",
        ),
    ] {
        attacks.push(Attack {
            what: what.to_owned(),
            who: OPERATOR,
            request: Request::create(ground.at("batch/v1", "jobs"), fuse(ground, edit)),
            holds: Holds::Guard("curfew-fuse", words),
        });
    }
    for (what, edit) in [
        (
            "lengthens a fuse",
            json!({"spec": {"activeDeadlineSeconds": 43_000}}),
        ),
        ("suspends a fuse", json!({"spec": {"suspend": true}})),
    ] {
        attacks.push(Attack {
            what: what.to_owned(),
            who: OPERATOR,
            request: Request::merge(ground.fuse_at(""), edit),
            holds: Holds::Guard("curfew-fuse", "A fuse cannot be changed"),
        });
    }
    attacks.push(Attack {
        what: "deletes a fuse without what it holds".to_owned(),
        who: OPERATOR,
        request: Request::delete(ground.fuse_at(""), json!({"propagationPolicy": "Orphan"})),
        holds: Holds::Guard("curfew-fuse", "cannot be deleted without the access that it owns"),
    });
    attacks
}

fn roles(ground: &Ground<'_>) -> Vec<Attack> {
    // A name that is free, held by a fuse of that name: the API server does not ask whether it stands.
    let free = format!("curfew-{}2", "0".repeat(31));
    let rule = |verb: &str| json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}]});
    let mut attacks = Vec::new();
    for (what, edit, words) in [
        (
            "makes a Role that no fuse holds",
            json!({"metadata": {"ownerReferences": null}}),
            "exactly one owner",
        ),
        (
            "makes a Role that ends beyond the cap",
            far(),
            "at most 12h ahead",
        ),
        (
            "makes a Role that a finalizer holds",
            json!({"metadata": {"finalizers": ["example.com/mine"]}}),
            "must have no finalizer",
        ),
        (
            "makes a Role that impersonates",
            rule("impersonate"),
            "are never granted temporarily",
        ),
        (
            "makes a Role with every verb",
            rule("*"),
            "are never granted temporarily",
        ),
        (
            "makes a Role that escalates",
            rule("escalate"),
            "are never granted temporarily",
        ),
        (
            "makes a Role that binds",
            rule("bind"),
            "are never granted temporarily",
        ),
    ] {
        let mut made = anew(&ground.role, &free);
        made["metadata"]["ownerReferences"][0]["name"] = json!(free);
        crate::support::merge(&mut made, edit);
        attacks.push(Attack {
            what: what.to_owned(),
            // RBAC keeps most of these rules from it; the guard does not rest on that.
            who: Who::AlmightyAs("system:serviceaccount:curfew-system:curfew".to_owned()),
            request: Request::create(ground.at(RBAC, "roles"), made),
            holds: Holds::Guard("curfew-role", words),
        });
    }
    attacks
}

fn bindings(ground: &Ground<'_>) -> Vec<Attack> {
    let free = format!("curfew-{}3", "0".repeat(31));
    let held = "must have exactly one owner: the fuse of the same name";
    let given = "The subject must be one user or service account: no group";
    let subject = |kind: &str, name: &str| json!({"subjects": [{"kind": kind, "name": name}]});
    let account = |namespace: &str, name: &str| json!({"subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]});
    let to_role = |name: &str| json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}});
    let mut attacks = Vec::new();
    let mut marks_other = json!({"metadata": {"name": format!("{free}-elevated")}});
    crate::support::merge(&mut marks_other, to_role("view"));
    let owner = |kind: &str, name: &str| {
        json!({"metadata": {"ownerReferences": [{"apiVersion": "batch/v1", "kind": kind, "name": name,
            "uid": ground.fuse["metadata"]["uid"]}]}})
    };
    let uid = ground.grant["metadata"]["uid"].as_str().unwrap_or_default();
    let by_grant = |uid: &str| {
        json!({"metadata": {"ownerReferences": [{"apiVersion": "access.curfew.dev/v1alpha1",
            "kind": "AccessGrant", "name": ground.grant["metadata"]["name"], "uid": uid}]}})
    };
    let mut both_hold = by_grant(uid);
    let fuses = owner("Job", &free);
    if let Some(owners) = both_hold["metadata"]["ownerReferences"].as_array_mut() {
        owners.push(fuses["metadata"]["ownerReferences"][0].clone());
    }
    let mut own_name = by_grant(uid);
    own_name["metadata"]["name"] = json!("curfew-mine");
    for (what, edit, words) in [
        (
            "makes a binding that no fuse holds",
            json!({"metadata": {"ownerReferences": null}}),
            held,
        ),
        ("makes one that any Job holds", owner("Job", "mine"), held),
        ("makes one that a CronJob holds", owner("CronJob", &free), held),
        (
            "makes one that another's grant holds",
            by_grant("8d7f9f4e-0000-4000-8000-000000000000"),
            held,
        ),
        ("makes one that the grant and a fuse hold", both_hold, held),
        (
            "makes one of a name of its own that the grant holds",
            own_name,
            held,
        ),
        (
            "makes one of another name than its fuse",
            json!({"metadata": {"name": format!("curfew-{}4", "0".repeat(31))}}),
            held,
        ),
        ("makes a mark that gives something", marks_other, held),
        ("makes one that ends beyond the cap", far(), "at most 12h ahead"),
        (
            "makes one that a finalizer holds",
            json!({"metadata": {"finalizers": ["example.com/mine"]}}),
            "must have no finalizer",
        ),
        ("gives access to a group", subject("Group", "devs"), given),
        (
            "gives access to everybody",
            subject("Group", "system:authenticated"),
            given,
        ),
        (
            "gives access to a component",
            subject("User", "system:kube-scheduler"),
            given,
        ),
        ("gives access to nobody yet", json!({"subjects": []}), given),
        (
            "gives access to itself",
            account("curfew-system", "curfew"),
            given,
        ),
        (
            "gives access to an identity",
            account("curfew-identities", "node-reader"),
            given,
        ),
        (
            "hands out a role of the cluster itself",
            to_role("system:aggregate-to-view"),
            given,
        ),
    ] {
        let mut binding = anew(&ground.binding, &free);
        binding["metadata"]["ownerReferences"][0]["name"] = json!(free);
        crate::support::merge(&mut binding, to_role("view"));
        crate::support::merge(&mut binding, edit);
        attacks.push(Attack {
            what: what.to_owned(),
            who: OPERATOR,
            request: Request::create(ground.at(RBAC, "rolebindings"), binding),
            holds: Holds::Guard("curfew-binding", words),
        });
    }
    let mallory =
        json!({"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}]});
    attacks.push(Attack {
        what: "gives a binding to somebody else".to_owned(),
        who: OPERATOR,
        request: Request::merge(ground.binding_at(), mallory),
        holds: Holds::Guard("curfew-binding", "can only be removed"),
    });
    let mut other = owner("Job", &free);
    other["metadata"]["ownerReferences"][0]["uid"] = json!("8d7f9f4e-0000-4000-8000-000000000000");
    for (what, owners) in [
        ("takes a binding from its fuse, for the grant", by_grant(uid)),
        ("gives a binding to another fuse", other),
    ] {
        attacks.push(Attack {
            what: what.to_owned(),
            who: OPERATOR,
            request: Request::merge(ground.binding_at(), owners),
            holds: Holds::Guard("curfew-binding", "cannot be changed"),
        });
    }
    attacks.push(Attack {
        what: "widens a Role".to_owned(),
        who: OPERATOR,
        request: Request::merge(
            ground.role_at(),
            json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}),
        ),
        holds: Holds::Guard("curfew-role", "cannot be changed"),
    });
    attacks
}

fn of_the_sweeper(ground: &Ground<'_>) -> Vec<Attack> {
    let deletes = Holds::Guard(
        "curfew-own-hands",
        "The sweeper's service account may only delete, or remove finalizers from a RoleBinding that is being deleted. Use your own account",
    );
    let label = json!({"metadata": {"labels": {"team": "a"}}});
    [
        ("labels a fuse", Request::merge(ground.fuse_at(""), label.clone())),
        (
            "labels a Role of ours",
            Request::merge(ground.role_at(), label.clone()),
        ),
        (
            "labels a binding of ours",
            Request::merge(ground.binding_at(), label),
        ),
        (
            "empties a binding of ours",
            Request::merge(ground.binding_at(), json!({"subjects": []})),
        ),
    ]
    .into_iter()
    .map(|(what, request)| Attack {
        what: what.to_owned(),
        who: Who::Stolen("curfew-sweep"),
        request,
        holds: deletes.clone(),
    })
    .collect()
}
