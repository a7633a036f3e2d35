//! Attacks with a stolen token of Curfew's own accounts: operator, sweep or canary.

use curfew::core::guard::CANARY;
use serde_json::{Value, json};

use super::attack::{Attack, Holds, Request, Who};
use super::scene::{Ground, anew};
use crate::support::json::{CURFEW, RBAC};
use crate::support::manifests::{binding, ordinary_job, pod, role};

const UNLABELLED: Holds = Holds::Guard(
    "curfew-own-accounts",
    "Curfew's service accounts may only change objects with the label access.curfew.dev/grant-uid. Use your own account",
);
const LIMITS: Holds = Holds::Guard(
    "curfew-own-limits",
    "Curfew's service accounts may not request access",
);
const OPERATOR: Who = Who::Stolen("curfew");

/// All attacks of this family.
pub fn attacks(ground: &Ground<'_>) -> Vec<Attack> {
    [
        on_unlabelled_objects(ground),
        beyond_own_limits(ground),
        fuses(ground),
        roles(ground),
        bindings(ground),
        by_the_sweep(ground),
        decisions(ground),
        by_the_canary(ground),
    ]
    .concat()
}

/// The same attack by the operator's account and by the sweep's account.
fn by_operator_and_sweep(what: &str, request: &Request, holds: &Holds) -> Vec<Attack> {
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

fn on_unlabelled_objects(ground: &Ground<'_>) -> Vec<Attack> {
    let bob = ground.at(RBAC, "rolebindings/bob");
    let mallory =
        json!({"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}]});
    let mut attacks = Vec::new();
    for (what, request) in [
        (
            "creates a Job without the label",
            Request::create(ground.at("batch/v1", "jobs"), ordinary_job("mine")),
        ),
        (
            "creates a Role without the label",
            Request::create(ground.at(RBAC, "roles"), role("mine")),
        ),
        (
            "creates a binding without the label",
            Request::create(
                ground.at(RBAC, "rolebindings"),
                binding("mine", "view", "mallory"),
            ),
        ),
        (
            "applies a binding without the label",
            Request::apply(
                ground.at(RBAC, "rolebindings/mine"),
                "helm",
                binding("mine", "view", "mallory"),
            ),
        ),
        (
            "edits a binding that Curfew did not create",
            Request::merge(bob.clone(), mallory),
        ),
        (
            "deletes a binding that Curfew did not create",
            Request::delete(bob, json!({})),
        ),
        (
            "deletes all bindings that Curfew did not create",
            Request::delete(ground.at(RBAC, "rolebindings"), json!({}))
                .selecting("!access.curfew.dev/grant-uid"),
        ),
        (
            "deletes a Role that Curfew did not create",
            Request::delete(ground.at(RBAC, "roles/more"), json!({})),
        ),
    ] {
        attacks.extend(by_operator_and_sweep(what, &request, &UNLABELLED));
    }
    attacks
}

fn beyond_own_limits(ground: &Ground<'_>) -> Vec<Attack> {
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}});
    let mut grant = ground.asking("alice", json!({}));
    // The requester is true: only the limit on own accounts can refuse the request.
    grant["spec"]["requester"] = own_account("curfew");
    let token_of = |namespace: &str, account: &str| {
        let path = super::attack::at("v1", namespace, &format!("serviceaccounts/{account}/token"));
        Request::create(path, token.clone())
    };
    let as_account =
        |account: &str| Who::AlmightyAs(format!("system:serviceaccount:curfew-system:{account}"));
    let pod_path = |rest: &str| ground.at("v1", &format!("pods/a{rest}"));
    let mut attacks = vec![Attack {
        what: "requests access for itself".to_owned(),
        who: OPERATOR,
        request: Request::create(ground.at(CURFEW, "accessgrants"), grant),
        holds: LIMITS,
    }];
    for (who, namespace, account) in [
        ("curfew", "curfew-system", "curfew"),
        ("curfew", "default", "default"),
        ("curfew-sweep", "curfew-system", CANARY),
        ("curfew-sweep", "curfew-system", "curfew"),
    ] {
        attacks.push(Attack {
            what: format!("requests a token of {namespace}/{account}"),
            who: as_account(who),
            request: token_of(namespace, account),
            holds: LIMITS,
        });
    }
    for (what, request) in [
        (
            "requests a token of an account of the namespace",
            token_of(&ground.place.name, "default"),
        ),
        (
            "creates a Secret",
            Request::create(ground.at("v1", "secrets"), secret.clone()),
        ),
        (
            "applies a token Secret",
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
            "creates a pod",
            Request::create(ground.at("v1", "pods"), pod("mine")),
        ),
        (
            "executes a command in a pod",
            Request::connect(pod_path("/exec"), "command=sh&stdout=true"),
        ),
        (
            "attaches to a pod",
            Request::connect(pod_path("/attach"), "stdout=true"),
        ),
        (
            "forwards a port of a pod",
            Request::connect(pod_path("/portforward"), "ports=80"),
        ),
    ] {
        attacks.extend(by_operator_and_sweep(what, &request, &LIMITS));
    }
    attacks
}

/// Refusal by two guards. Each of them refuses alone, so these attacks prove neither of them.
const NOT_A_PERSON: Holds = Holds::EachOf(&["curfew-own-limits", "curfew-decider"]);

/// User name and groups of an own account, as the API server attests them.
fn own_account(account: &str) -> Value {
    json!({
        "username": format!("system:serviceaccount:curfew-system:{account}"),
        "groups": ["system:serviceaccounts", "system:serviceaccounts:curfew-system", "system:authenticated"],
    })
}

/// Revoke of the access by this account. By itself the decision is valid, and its decider is true.
fn revoking(ground: &Ground<'_>, account: &str) -> Value {
    let revoke = json!({"decision": "Revoke", "accessHash": null});
    let mut decision = ground.approving("bob", json!({"spec": revoke}));
    decision["spec"]["decider"] = own_account(account);
    decision
}

fn decisions(ground: &Ground<'_>) -> Vec<Attack> {
    let (collection, object) = (
        ground.at(CURFEW, "accessdecisions"),
        ground.at(CURFEW, "accessdecisions/tried"),
    );
    let mut attacks = Vec::new();
    for account in ["curfew", "curfew-sweep"] {
        let mut approving = ground.approving("bob", json!({}));
        approving["spec"]["decider"] = own_account(account);
        for (what, body, holds) in [
            ("revokes", revoking(ground, account), LIMITS),
            ("approves", approving, NOT_A_PERSON),
            (
                "approves as bob",
                ground.approving("bob", json!({})),
                NOT_A_PERSON,
            ),
        ] {
            for (way, request) in [
                ("create", Request::create(collection.clone(), body.clone())),
                ("apply", Request::apply(object.clone(), "curfew", body.clone())),
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

/// Attacks by the canary. It may make dry runs, and all guards apply to them as to every caller.
fn by_the_canary(ground: &Ground<'_>) -> Vec<Attack> {
    let path = ground.at(CURFEW, "accessdecisions");
    let create = |body: Value| Request::create(path.clone(), body);
    let mut approving = ground.approving("bob", json!({}));
    approving["spec"]["decider"] = own_account(CANARY);
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

/// Annotation of an end beyond every fuse cap.
fn far_future() -> Value {
    json!({"metadata": {"annotations": {"access.curfew.dev/not-after": "2036-01-01T00:00:00.000000Z"}}})
}

/// A valid fuse that the operator could create, then merged with `edit`.
pub fn fuse(ground: &Ground<'_>, edit: Value) -> Value {
    let mut fuse = anew(&ground.fuse, &format!("curfew-{}1", "0".repeat(31)));
    crate::support::merge(&mut fuse, edit);
    fuse
}

fn fuses(ground: &Ground<'_>) -> Vec<Attack> {
    let shape = "This Job is not a valid fuse. A fuse runs no pod";
    let other_uid = "8d7f9f4e-0000-4000-8000-000000000000";
    let mut attacks = Vec::new();
    for (what, edit, words) in [
        (
            "creates a fuse that runs a pod",
            json!({"spec": {"parallelism": 1}}),
            shape,
        ),
        (
            "creates a fuse with the default parallelism, which runs a pod",
            json!({"spec": {"parallelism": null}}),
            shape,
        ),
        (
            "creates a suspended fuse",
            json!({"spec": {"suspend": true}}),
            shape,
        ),
        (
            "creates a fuse that expires in three years",
            json!({"spec": {"activeDeadlineSeconds": 99_999_999}}),
            shape,
        ),
        (
            "creates a fuse that never expires",
            json!({"spec": {"activeDeadlineSeconds": null}}),
            shape,
        ),
        (
            "creates a fuse that stays 60 s after its end",
            json!({"spec": {"ttlSecondsAfterFinished": 60}}),
            shape,
        ),
        (
            "creates a fuse that stays for ever after its end",
            json!({"spec": {"ttlSecondsAfterFinished": null}}),
            shape,
        ),
        (
            "creates a fuse that another controller manages",
            json!({"spec": {"managedBy": "example.com/nobody"}}),
            shape,
        ),
        (
            "creates a fuse with five completions",
            json!({"spec": {"completions": 5}}),
            shape,
        ),
        (
            "creates a fuse with the default selector, which pods could match",
            json!({"spec": {"manualSelector": null, "selector": null, "template": {"metadata": null}}}),
            shape,
        ),
        (
            "creates a fuse with a name of its choice",
            json!({"metadata": {"name": "curfew-short"}}),
            "32 hexadecimal digits",
        ),
        (
            "creates a fuse without an owner",
            json!({"metadata": {"ownerReferences": null}}),
            "owner of a fuse must be the grant",
        ),
        (
            "creates a fuse with the label of another grant",
            json!({
                "metadata": {"labels": {"access.curfew.dev/grant-uid": other_uid}},
                "spec": {
                    "selector": {"matchLabels": {"access.curfew.dev/grant-uid": other_uid}},
                    "template": {"metadata": {"labels": {"access.curfew.dev/grant-uid": other_uid}}},
                },
            }),
            "owner of a fuse must be the grant in its label",
        ),
        (
            "creates a fuse with a finalizer",
            json!({"metadata": {"finalizers": ["example.com/mine"]}}),
            "must have no finalizer",
        ),
        (
            "creates a fuse with an end beyond the fuse cap",
            far_future(),
            "at most 12h ahead",
        ),
        (
            "creates a fuse without the annotation of its end",
            json!({"metadata": {"annotations": {"access.curfew.dev/not-after": null}}}),
            "at most 12h ahead",
        ),
        (
            "creates a fuse with an end that is not a time",
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
        what: "deletes a fuse and orphans what it owns".to_owned(),
        who: OPERATOR,
        request: Request::delete(ground.fuse_at(""), json!({"propagationPolicy": "Orphan"})),
        holds: Holds::Guard("curfew-fuse", "cannot be deleted without the access that it owns"),
    });
    attacks
}

fn roles(ground: &Ground<'_>) -> Vec<Attack> {
    // A free name. The owner is a fuse of that name, and the API server does not check that an owner exists.
    let free = format!("curfew-{}2", "0".repeat(31));
    let rule = |verb: &str| json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}]});
    let mut attacks = Vec::new();
    for (what, edit, words) in [
        (
            "creates a Role without an owner",
            json!({"metadata": {"ownerReferences": null}}),
            "exactly one owner",
        ),
        (
            "creates a Role with an end beyond the fuse cap",
            far_future(),
            "at most 12h ahead",
        ),
        (
            "creates a Role with a finalizer",
            json!({"metadata": {"finalizers": ["example.com/mine"]}}),
            "must have no finalizer",
        ),
        (
            "creates a Role with the verb impersonate",
            rule("impersonate"),
            "are never granted temporarily",
        ),
        (
            "creates a Role with every verb",
            rule("*"),
            "are never granted temporarily",
        ),
        (
            "creates a Role with the verb escalate",
            rule("escalate"),
            "are never granted temporarily",
        ),
        (
            "creates a Role with the verb bind",
            rule("bind"),
            "are never granted temporarily",
        ),
    ] {
        let mut forged = anew(&ground.role, &free);
        forged["metadata"]["ownerReferences"][0]["name"] = json!(free);
        crate::support::merge(&mut forged, edit);
        attacks.push(Attack {
            what: what.to_owned(),
            // RBAC refuses the operator most of these rules. The guard must refuse them without RBAC.
            who: Who::AlmightyAs("system:serviceaccount:curfew-system:curfew".to_owned()),
            request: Request::create(ground.at(RBAC, "roles"), forged),
            holds: Holds::Guard("curfew-role", words),
        });
    }
    attacks
}

fn bindings(ground: &Ground<'_>) -> Vec<Attack> {
    let free = format!("curfew-{}3", "0".repeat(31));
    let owner_words = "must have exactly one owner: the fuse of the same name";
    let subject_words = "The subject must be one user or service account: no group";
    let subject = |kind: &str, name: &str| json!({"subjects": [{"kind": kind, "name": name}]});
    let account = |namespace: &str, name: &str| json!({"subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]});
    let to_role = |name: &str| json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}});
    let mut attacks = Vec::new();
    let mut marker_with_access = json!({"metadata": {"name": format!("{free}-elevated")}});
    crate::support::merge(&mut marker_with_access, to_role("view"));
    let owner = |kind: &str, name: &str| {
        json!({"metadata": {"ownerReferences": [{"apiVersion": "batch/v1", "kind": kind, "name": name,
            "uid": ground.fuse["metadata"]["uid"]}]}})
    };
    let uid = ground.grant["metadata"]["uid"].as_str().unwrap_or_default();
    let by_grant = |uid: &str| {
        json!({"metadata": {"ownerReferences": [{"apiVersion": "access.curfew.dev/v1alpha1",
            "kind": "AccessGrant", "name": ground.grant["metadata"]["name"], "uid": uid}]}})
    };
    let mut by_both = by_grant(uid);
    let by_fuse = owner("Job", &free);
    if let Some(owners) = by_both["metadata"]["ownerReferences"].as_array_mut() {
        owners.push(by_fuse["metadata"]["ownerReferences"][0].clone());
    }
    let mut own_name = by_grant(uid);
    own_name["metadata"]["name"] = json!("curfew-mine");
    for (what, edit, words) in [
        (
            "creates a binding without an owner",
            json!({"metadata": {"ownerReferences": null}}),
            owner_words,
        ),
        (
            "creates a binding that an ordinary Job owns",
            owner("Job", "mine"),
            owner_words,
        ),
        (
            "creates a binding that a CronJob owns",
            owner("CronJob", &free),
            owner_words,
        ),
        (
            "creates a binding that another grant owns",
            by_grant("8d7f9f4e-0000-4000-8000-000000000000"),
            owner_words,
        ),
        (
            "creates a binding that the grant and a fuse own",
            by_both,
            owner_words,
        ),
        (
            "creates a binding that the grant owns, with a name of its choice",
            own_name,
            owner_words,
        ),
        (
            "creates a binding with another name than its fuse",
            json!({"metadata": {"name": format!("curfew-{}4", "0".repeat(31))}}),
            owner_words,
        ),
        (
            "creates an elevation marker that grants access",
            marker_with_access,
            owner_words,
        ),
        (
            "creates a binding with an end beyond the fuse cap",
            far_future(),
            "at most 12h ahead",
        ),
        (
            "creates a binding with a finalizer",
            json!({"metadata": {"finalizers": ["example.com/mine"]}}),
            "must have no finalizer",
        ),
        (
            "grants access to a group",
            subject("Group", "devs"),
            subject_words,
        ),
        (
            "grants access to all users",
            subject("Group", "system:authenticated"),
            subject_words,
        ),
        (
            "grants access to a component of Kubernetes",
            subject("User", "system:kube-scheduler"),
            subject_words,
        ),
        (
            "grants access without a subject",
            json!({"subjects": []}),
            subject_words,
        ),
        (
            "grants access to itself",
            account("curfew-system", "curfew"),
            subject_words,
        ),
        (
            "grants access to an act-as account",
            account("curfew-identities", "node-reader"),
            subject_words,
        ),
        (
            "grants a system role of Kubernetes",
            to_role("system:aggregate-to-view"),
            subject_words,
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
        what: "changes the subject of a binding".to_owned(),
        who: OPERATOR,
        request: Request::merge(ground.binding_at(), mallory),
        holds: Holds::Guard("curfew-binding", "can only be removed"),
    });
    let mut other = owner("Job", &free);
    other["metadata"]["ownerReferences"][0]["uid"] = json!("8d7f9f4e-0000-4000-8000-000000000000");
    for (what, owners) in [
        (
            "makes the grant the owner of a binding instead of the fuse",
            by_grant(uid),
        ),
        ("makes another fuse the owner of a binding", other),
    ] {
        attacks.push(Attack {
            what: what.to_owned(),
            who: OPERATOR,
            request: Request::merge(ground.binding_at(), owners),
            holds: Holds::Guard("curfew-binding", "cannot be changed"),
        });
    }
    attacks.push(Attack {
        what: "adds rules to a Role".to_owned(),
        who: OPERATOR,
        request: Request::merge(
            ground.role_at(),
            json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}),
        ),
        holds: Holds::Guard("curfew-role", "cannot be changed"),
    });
    attacks
}

fn by_the_sweep(ground: &Ground<'_>) -> Vec<Attack> {
    let only_deletes = Holds::Guard(
        "curfew-own-accounts",
        "The sweeper's service account may only delete, or remove finalizers from a RoleBinding that is being deleted. Use your own account",
    );
    let label = json!({"metadata": {"labels": {"team": "a"}}});
    [
        ("labels a fuse", Request::merge(ground.fuse_at(""), label.clone())),
        (
            "labels a Role of Curfew",
            Request::merge(ground.role_at(), label.clone()),
        ),
        (
            "labels a binding of Curfew",
            Request::merge(ground.binding_at(), label),
        ),
        (
            "removes the subject of a binding of Curfew",
            Request::merge(ground.binding_at(), json!({"subjects": []})),
        ),
    ]
    .into_iter()
    .map(|(what, request)| Attack {
        what: what.to_owned(),
        who: Who::Stolen("curfew-sweep"),
        request,
        holds: only_deletes.clone(),
    })
    .collect()
}
