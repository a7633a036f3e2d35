//! Deciding what one may not decide, and what is written around a decision, into it later, or into what it came to.

use anyhow::Context as _;
use curfew::api::{AccessDecision, AccessGrant};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::attack::{Attack, Callers, Holds, Request, Who, every_way};
use super::scene::Ground;
use crate::harness::eventually;
use crate::support::json::CURFEW;
use crate::support::{SOON, Suite};

/// Access that waits for two stages of people, of whom bob has approved.
pub struct Deciding<'a> {
    ground: Ground<'a>,
    waiting: Value,
    decision: Value,
}

impl<'a> Deciding<'a> {
    /// Has alice ask, and bob approve.
    pub async fn prepare(suite: &'a Suite) -> anyhow::Result<Self> {
        let ground = Ground::prepare(suite).await?;
        let stages = json!([
            {"name": "leads", "approvers": [{"kind": "Group", "name": "leads"}]},
            {"name": "security", "approvers": [{"kind": "Group", "name": "security"}]},
        ]);
        let asking_people = json!({"path": "Manual", "approval": {"timeout": "1h", "stages": stages}});
        let policy = ground.place.policy(asking_people).await?.name_any();
        let asked = ground
            .place
            .ask("alice", &policy, json!({"duration": "10m"}))
            .await?;
        let asked = ground
            .place
            .in_state(&asked.name_any(), "AwaitingApproval")
            .await?;
        let mut decision = ground.approving("bob", json!({"metadata": {"name": "bobs-word"}}));
        decision["spec"]["grantRef"] = reference(&serde_json::to_value(&asked)?);
        decision["spec"]["accessHash"] = json!(hash(&asked)?);
        let callers = Callers::new(suite);
        let path = ground.at(CURFEW, "accessdecisions");
        callers
            .ask(&Who::Person("bob"), &Request::create(path, decision))
            .await??;
        let waiting = counted(&ground, &asked.name_any()).await?;
        let decision = settled(&ground).await?;
        Ok(Self {
            ground,
            waiting: serde_json::to_value(waiting)?,
            decision: serde_json::to_value(decision)?,
        })
    }

    /// The attacks.
    pub fn attacks(&self) -> Vec<Attack> {
        [
            by_service_accounts(&self.ground),
            malformed(&self.ground),
            self.at_creation(),
            self.later(),
            self.of_its_spec(),
            self.of_its_status(),
            self.of_what_it_came_to(),
            self.of_what_was_given(),
        ]
        .concat()
    }

    /// Ends the access, and waits until nothing of it is left.
    pub async fn done(self) -> anyhow::Result<()> {
        let waiting = self.waiting["metadata"]["name"].as_str().unwrap_or_default();
        self.ground
            .place
            .grants()
            .delete(waiting, &DeleteParams::default())
            .await?;
        self.ground.done().await
    }

    fn decision_at(&self, rest: &str) -> String {
        let name = self.decision["metadata"]["name"].as_str().unwrap_or_default();
        self.ground.at(CURFEW, &format!("accessdecisions/{name}{rest}"))
    }

    fn waiting_at(&self, rest: &str) -> String {
        let name = self.waiting["metadata"]["name"].as_str().unwrap_or_default();
        self.ground.at(CURFEW, &format!("accessgrants/{name}{rest}"))
    }

    fn around(&self) -> Vec<(&'static str, Value, &'static str)> {
        let grant = &self.waiting["metadata"];
        let gone = json!({"name": "gone", "uid": "8d7f9f4e-0000-4000-8000-000000000000"});
        vec![
            (
                "an owner that is gone",
                json!({"ownerReferences": owner(&gone)}),
                "A decision must have no owner",
            ),
            (
                "its grant as its owner",
                json!({"ownerReferences": owner(grant)}),
                "A decision must have no owner",
            ),
            (
                "a label of Curfew's",
                json!({"labels": {"access.curfew.dev/state": "counted"}}),
                "are reserved for Curfew",
            ),
            (
                "the label of an artifact",
                json!({"labels": {"access.curfew.dev/grant-uid": grant["uid"]}}),
                "are reserved for Curfew",
            ),
            (
                "an annotation of Curfew's",
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
                "the finalizer of a hook",
                json!({"finalizers": ["argocd.argoproj.io/hook-finalizer"]}),
                "Leave metadata.finalizers out",
            ),
            (
                "the finalizer that orphans",
                json!({"finalizers": ["orphan"]}),
                "Leave metadata.finalizers out",
            ),
        ]
    }

    fn at_creation(&self) -> Vec<Attack> {
        let ground = &self.ground;
        let mut attacks = Vec::new();
        for (what, metadata, words) in self.around() {
            let holds = Holds::Guard("curfew-decision", words);
            let body = |person: &str| ground.approving(person, json!({"metadata": metadata}));
            attacks.push(Attack {
                what: format!("approves with {what}"),
                who: Who::Person("alice"),
                request: Request::create(ground.at(CURFEW, "accessdecisions"), body("alice")),
                holds: holds.clone(),
            });
            attacks.push(Attack {
                what: format!("applies an approval with {what}"),
                who: Who::Person("bob"),
                request: Request::apply(
                    ground.at(CURFEW, "accessdecisions/tried"),
                    "argocd-controller",
                    body("bob"),
                ),
                holds,
            });
        }
        attacks
    }

    fn later(&self) -> Vec<Attack> {
        let mut attacks = Vec::new();
        for (what, metadata, words) in self.around() {
            for (way, request) in every_way(
                &self.decision_at(""),
                &self.decision,
                &json!({"metadata": metadata}),
            ) {
                attacks.push(Attack {
                    what: format!("gives a decision {what}, by {way}"),
                    who: Who::Person("eve"),
                    request,
                    holds: Holds::Guard("curfew-decision", words),
                });
            }
        }
        attacks
    }

    fn of_its_spec(&self) -> Vec<Attack> {
        let other = &self.ground.grant["metadata"];
        let changes = [
            (
                "moves it to another grant",
                json!({"grantRef": {"name": other["name"], "uid": other["uid"]}}),
            ),
            ("renames its grant", json!({"grantRef": {"name": other["name"]}})),
            (
                "gives its grant another uid",
                json!({"grantRef": {"uid": other["uid"]}}),
            ),
            (
                "makes it a denial",
                json!({"decision": "Deny", "accessHash": null, "reason": "not now"}),
            ),
            (
                "makes it a revocation",
                json!({"decision": "Revoke", "accessHash": null, "reason": "not now"}),
            ),
            (
                "approves other access by it",
                json!({"accessHash": format!("sha256:{:064}", 1)}),
            ),
            ("drops what was approved", json!({"accessHash": null})),
            ("rewrites who decided", json!({"decider": {"username": "erin"}})),
            (
                "adds a group of the decider",
                json!({"decider": {"groups": ["security"]}}),
            ),
            ("drops who decided", json!({"decider": null})),
            ("rewrites the reason", json!({"reason": "somebody told me to"})),
            ("drops the reason", json!({"reason": null})),
        ];
        let mut attacks = Vec::new();
        for (what, change) in changes {
            // Bob himself, and whoever may do everything.
            for who in ["bob", "admin"] {
                for (way, request) in
                    every_way(&self.decision_at(""), &self.decision, &json!({"spec": change}))
                {
                    attacks.push(Attack {
                        what: format!("{what}, by {way}"),
                        who: Who::Person(who),
                        request,
                        holds: Holds::Schema("a decision is never edited: make another one"),
                    });
                }
            }
        }
        attacks
    }

    fn of_its_status(&self) -> Vec<Attack> {
        let verdict = |status: &str, reason: &str| {
            json!({"conditions": [{"type": "Counted", "status": status, "reason": reason, "message": "so it is",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        };
        let changes = [
            ("that it does not count", verdict("False", "DeciderNotListed")),
            ("that it is open", verdict("Unknown", "StageNotReached")),
            ("no verdict", json!({"conditions": []})),
            ("a generation", json!({"observedGeneration": 7})),
            (
                "that it blocks a request",
                json!({"blocks": {"requester": "system:serviceaccount:ci:deployer",
                    "specHash": format!("sha256:{:064}", 1), "until": "2036-01-01T00:00:00.000000Z"}}),
            ),
        ];
        writing_status(&self.decision_at("/status"), &self.decision, &changes)
    }

    /// A grant that waits: who approved it, and what.
    fn of_what_it_came_to(&self) -> Vec<Attack> {
        let mut erin = self.waiting["status"]["approvals"][0].clone();
        crate::support::merge(
            &mut erin,
            json!({"stage": "security", "username": "erin", "approver": {"kind": "Group", "name": "security"}}),
        );
        let approvals = json!([self.waiting["status"]["approvals"][0], erin]);
        let approved = json!([{"type": "Approved", "status": "True", "reason": "Approved", "message": "by bob and erin",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let changes = [
            ("an approval by erin", json!({"approvals": approvals})),
            ("that nobody approved", json!({"approvals": null})),
            ("an empty list of approvals", json!({"approvals": []})),
            ("that it is approved", json!({"conditions": approved})),
            (
                "other access under the same approvals",
                json!({"resolved": other_access(&self.waiting)}),
            ),
            ("that nothing is asked for", json!({"resolved": null})),
            (
                "an end, as if it were given",
                json!({"expiresAt": "2036-01-01T00:00:00.000000Z"}),
            ),
        ];
        writing_status(&self.waiting_at("/status"), &self.waiting, &changes)
    }

    /// A grant in force, by whoever may do everything: the operator could not either.
    fn of_what_was_given(&self) -> Vec<Attack> {
        let ground = &self.ground;
        let approvals = &self.waiting["status"]["approvals"];
        let mut attacks = Vec::new();
        for (what, change, words) in [
            (
                "approvals of access that is given",
                json!({"approvals": approvals}),
                "status.approvals cannot change after expiresAt is set",
            ),
            (
                "other access than was given",
                json!({"resolved": other_access(&ground.grant)}),
                "status.resolved cannot change after expiresAt is set",
            ),
            (
                "that nothing was given",
                json!({"resolved": null}),
                "status.resolved cannot change after expiresAt is set",
            ),
        ] {
            let change = json!({"status": change});
            for (way, request) in every_way(&ground.grant_at("/status"), &ground.grant, &change) {
                for who in [Who::Person("admin"), Who::Stolen("curfew")] {
                    attacks.push(Attack {
                        what: format!("writes {what} into a status, by {way}"),
                        who,
                        request: request.clone(),
                        holds: Holds::Schema(words),
                    });
                }
            }
        }
        attacks
    }
}

/// Somebody else than Curfew writes these into a status.
fn writing_status(path: &str, object: &Value, changes: &[(&str, Value)]) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (what, change) in changes {
        // The namespace's administrator, who approved, and the cluster's.
        for who in ["bob", "admin"] {
            for (way, request) in every_way(path, object, &json!({"status": change})) {
                attacks.push(Attack {
                    what: format!("writes {what} into the status of {path}, by {way}"),
                    who: Who::Person(who),
                    request,
                    holds: Holds::Guard(
                        "curfew-status",
                        "Only Curfew writes the status. To end access, create a decision Revoke",
                    ),
                });
            }
        }
    }
    attacks
}

/// A service account approves or denies: one that eve may act as, since she may edit its namespace, and others with
/// every right there is.
fn by_service_accounts(ground: &Ground<'_>) -> Vec<Attack> {
    let holds = Holds::Guard(
        "curfew-decider",
        "A service account cannot approve or deny, because a person must be accountable. Ask a person to decide",
    );
    let here = ground.account();
    let its_groups = json!([
        "system:serviceaccounts",
        format!("system:serviceaccounts:{}", ground.place.name),
        "system:authenticated"
    ]);
    let almighty = json!(["system:masters", "system:authenticated"]);
    let mut deciders = vec![(Who::As("eve", here.clone()), here, its_groups)];
    for account in [
        "default:default",
        "kube-system:generic-garbage-collector",
        "curfew-identities:node-reader",
        "curfew-system:default",
    ] {
        let username = format!("system:serviceaccount:{account}");
        deciders.push((Who::AlmightyAs(username.clone()), username, almighty.clone()));
    }
    let denying = json!({"decision": "Deny", "accessHash": null, "reason": "not now"});
    let mut attacks = Vec::new();
    for (who, username, groups) in deciders {
        for (what, change) in [("approves", json!({})), ("denies", denying.clone())] {
            let mut body = ground.approving("alice", json!({"spec": change}));
            body["spec"]["decider"] = json!({"username": username, "groups": groups});
            for (way, request) in [
                (
                    "create",
                    Request::create(ground.at(CURFEW, "accessdecisions"), body.clone()),
                ),
                (
                    "apply",
                    Request::apply(ground.at(CURFEW, "accessdecisions/tried"), "helm", body),
                ),
            ] {
                attacks.push(Attack {
                    what: format!("{what} as a service account, by {way}"),
                    who: who.clone(),
                    request,
                    holds: holds.clone(),
                });
            }
        }
    }
    attacks
}

/// Decisions that would be no evidence.
fn malformed(ground: &Ground<'_>) -> Vec<Attack> {
    let hash_goes = "Approve requires accessHash";
    [
        (
            "approves without saying what",
            json!({"accessHash": null}),
            hash_goes,
        ),
        (
            "approves whatever it may be",
            json!({"accessHash": "sha256:*"}),
            "spec.accessHash",
        ),
        (
            "denies some access",
            json!({"decision": "Deny", "reason": "not now"}),
            hash_goes,
        ),
        (
            "denies without a reason",
            json!({"decision": "Deny", "accessHash": null, "reason": null}),
            "Deny and Revoke require a reason: say why in spec.reason",
        ),
        (
            "revokes without a reason",
            json!({"decision": "Revoke", "accessHash": null, "reason": null}),
            "Deny and Revoke require a reason: say why in spec.reason",
        ),
        (
            "approves for a reason that reads backwards",
            json!({"reason": "DEV-1 \u{202e}harmless"}),
            "spec.reason",
        ),
        (
            "approves for a reason with a line of its own",
            json!({"reason": "DEV-1\napproved by: bob"}),
            "spec.reason",
        ),
        (
            "approves every grant of a name",
            json!({"grantRef": {"uid": null}}),
            "spec.grantRef.uid",
        ),
        (
            "decides something else",
            json!({"decision": "Extend"}),
            "spec.decision",
        ),
    ]
    .into_iter()
    .map(|(what, change, words)| Attack {
        what: what.to_owned(),
        who: Who::Person("alice"),
        request: Request::create(
            ground.at(CURFEW, "accessdecisions"),
            ground.approving("alice", json!({"spec": change})),
        ),
        holds: Holds::Schema(words),
    })
    .collect()
}

/// A grant of this metadata, as an owner.
fn owner(grant: &Value) -> Value {
    json!([{"apiVersion": CURFEW, "kind": "AccessGrant", "name": grant["name"], "uid": grant["uid"]}])
}

fn other_access(grant: &Value) -> Value {
    let mut resolved = grant["status"]["resolved"].clone();
    resolved["hash"] = json!(format!("sha256:{:064}", 1));
    resolved
}

fn reference(grant: &Value) -> Value {
    json!({"name": grant["metadata"]["name"], "uid": grant["metadata"]["uid"]})
}

fn hash(grant: &AccessGrant) -> anyhow::Result<String> {
    let resolved = grant.status.as_ref().and_then(|status| status.resolved.as_ref());
    Ok(resolved.context("nothing is resolved")?.hash.clone())
}

/// A grant, once somebody's approval is recorded in it.
async fn counted(ground: &Ground<'_>, name: &str) -> anyhow::Result<AccessGrant> {
    let grants = ground.place.grants();
    eventually("bob's approval counts", SOON, async || {
        let grant = grants.get(name).await.map_err(|error| error.to_string())?;
        let approvals = grant.status.as_ref().map(|status| status.approvals.clone());
        if approvals.as_ref().is_some_and(|approvals| !approvals.is_empty()) {
            Ok(grant)
        } else {
            Err(format!("{:?}", grant.status))
        }
    })
    .await
}

/// Bob's decision, once its verdict is recorded.
async fn settled(ground: &Ground<'_>) -> anyhow::Result<AccessDecision> {
    let decisions = Api::<AccessDecision>::namespaced(ground.place.suite.admin.clone(), &ground.place.name);
    eventually("bob's decision has a verdict", SOON, async || {
        let decision = decisions
            .get("bobs-word")
            .await
            .map_err(|error| error.to_string())?;
        let status = decision.status.clone().unwrap_or_default();
        match status.conditions.as_slice() {
            [verdict] if verdict.status == "True" => Ok(decision),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}
