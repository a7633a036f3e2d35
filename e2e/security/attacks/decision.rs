//! Attacks on decisions: by service accounts, malformed, and with forbidden metadata.
//!
//! Also edits of a decision, of its verdict, and of the approvals that a grant records.

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

/// Scene with a grant that waits for two stages. Bob has approved in the first stage.
pub struct Deciding<'a> {
    ground: Ground<'a>,
    waiting: Value,
    decision: Value,
}

impl<'a> Deciding<'a> {
    /// Creates the scene: alice requests access, bob approves, and his approval is recorded.
    pub async fn prepare(suite: &'a Suite) -> anyhow::Result<Self> {
        let ground = Ground::prepare(suite).await?;
        let stages = json!([
            {"name": "leads", "approvers": [{"kind": "Group", "name": "leads"}]},
            {"name": "security", "approvers": [{"kind": "Group", "name": "security"}]},
        ]);
        let two_stages = json!({"path": "Manual", "approval": {"timeout": "1h", "stages": stages}});
        let policy = ground.place.policy(two_stages).await?.name_any();
        let grant = ground
            .place
            .ask("alice", &policy, json!({"duration": "10m"}))
            .await?;
        let grant = ground
            .place
            .in_state(&grant.name_any(), "AwaitingApproval")
            .await?;
        let mut decision = ground.approving("bob", json!({"metadata": {"name": "bobs-decision"}}));
        decision["spec"]["grantRef"] = reference(&serde_json::to_value(&grant)?);
        decision["spec"]["accessHash"] = json!(access_hash(&grant)?);
        let callers = Callers::new(suite);
        let path = ground.at(CURFEW, "accessdecisions");
        callers
            .ask(&Who::Person("bob"), &Request::create(path, decision))
            .await??;
        let waiting = wait_for_approval(&ground, &grant.name_any()).await?;
        let decision = wait_for_verdict(&ground).await?;
        Ok(Self {
            ground,
            waiting: serde_json::to_value(waiting)?,
            decision: serde_json::to_value(decision)?,
        })
    }

    /// All attacks of this family.
    pub fn attacks(&self) -> Vec<Attack> {
        [
            by_service_accounts(&self.ground),
            malformed(&self.ground),
            self.creations_with_metadata(),
            self.metadata_edits(),
            self.spec_edits(),
            self.status_edits(),
            self.waiting_grant_edits(),
            self.active_grant_edits(),
        ]
        .concat()
    }

    /// Deletes both grants and waits until all artifacts are gone.
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

    /// Forbidden metadata of a decision: its description, the metadata, and words of the refusal.
    fn forbidden_metadata(&self) -> Vec<(&'static str, Value, &'static str)> {
        let grant = &self.waiting["metadata"];
        let missing = json!({"name": "gone", "uid": "8d7f9f4e-0000-4000-8000-000000000000"});
        vec![
            (
                "an owner that does not exist",
                json!({"ownerReferences": owner(&missing)}),
                "A decision must have no owner",
            ),
            (
                "its grant as its owner",
                json!({"ownerReferences": owner(grant)}),
                "A decision must have no owner",
            ),
            (
                "a reserved label",
                json!({"labels": {"access.curfew.dev/state": "counted"}}),
                "are reserved for Curfew",
            ),
            (
                "the label of an artifact",
                json!({"labels": {"access.curfew.dev/grant-uid": grant["uid"]}}),
                "are reserved for Curfew",
            ),
            (
                "a reserved annotation",
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
                "the finalizer of an Argo CD hook",
                json!({"finalizers": ["argocd.argoproj.io/hook-finalizer"]}),
                "Leave metadata.finalizers out",
            ),
            (
                "the finalizer orphan",
                json!({"finalizers": ["orphan"]}),
                "Leave metadata.finalizers out",
            ),
        ]
    }

    fn creations_with_metadata(&self) -> Vec<Attack> {
        let ground = &self.ground;
        let mut attacks = Vec::new();
        for (what, metadata, words) in self.forbidden_metadata() {
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

    fn metadata_edits(&self) -> Vec<Attack> {
        let mut attacks = Vec::new();
        for (what, metadata, words) in self.forbidden_metadata() {
            for (way, request) in every_way(
                &self.decision_at(""),
                &self.decision,
                &json!({"metadata": metadata}),
            ) {
                attacks.push(Attack {
                    what: format!("edits a decision to have {what}, by {way}"),
                    who: Who::Person("eve"),
                    request,
                    holds: Holds::Guard("curfew-decision", words),
                });
            }
        }
        attacks
    }

    fn spec_edits(&self) -> Vec<Attack> {
        let other = &self.ground.grant["metadata"];
        let changes = [
            (
                "changes the grant of a decision",
                json!({"grantRef": {"name": other["name"], "uid": other["uid"]}}),
            ),
            (
                "changes the name of its grant",
                json!({"grantRef": {"name": other["name"]}}),
            ),
            (
                "changes the uid of its grant",
                json!({"grantRef": {"uid": other["uid"]}}),
            ),
            (
                "changes an approval to a denial",
                json!({"decision": "Deny", "accessHash": null, "reason": "not now"}),
            ),
            (
                "changes an approval to a revocation",
                json!({"decision": "Revoke", "accessHash": null, "reason": "not now"}),
            ),
            (
                "changes the approved access",
                json!({"accessHash": format!("sha256:{:064}", 1)}),
            ),
            ("removes the approved access", json!({"accessHash": null})),
            ("changes the decider", json!({"decider": {"username": "erin"}})),
            (
                "adds a group to the decider",
                json!({"decider": {"groups": ["security"]}}),
            ),
            ("removes the decider", json!({"decider": null})),
            ("changes the reason", json!({"reason": "someone told me to"})),
            ("removes the reason", json!({"reason": null})),
        ];
        let mut attacks = Vec::new();
        for (what, change) in changes {
            // Bob made the decision; RBAC allows the administrator everything.
            for who in ["bob", "admin"] {
                for (way, request) in
                    every_way(&self.decision_at(""), &self.decision, &json!({"spec": change}))
                {
                    attacks.push(Attack {
                        what: format!("{what}, by {way}"),
                        who: Who::Person(who),
                        request,
                        holds: Holds::Schema(
                            "a decision cannot be changed: create another one, such as Revoke",
                        ),
                    });
                }
            }
        }
        attacks
    }

    fn status_edits(&self) -> Vec<Attack> {
        let verdict = |status: &str, reason: &str| {
            json!({"conditions": [{"type": "Counted", "status": status, "reason": reason, "message": "forged",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        };
        let changes = [
            (
                "the verdict that it does not count",
                verdict("False", "DeciderNotListed"),
            ),
            (
                "the verdict that it is open",
                verdict("Unknown", "StageNotReached"),
            ),
            ("no verdict", json!({"conditions": []})),
            ("an observed generation", json!({"observedGeneration": 7})),
            (
                "a block of a request",
                json!({"blocks": {"requester": "system:serviceaccount:ci:deployer",
                    "specHash": format!("sha256:{:064}", 1), "until": "2036-01-01T00:00:00.000000Z"}}),
            ),
        ];
        writing_status(&self.decision_at("/status"), &self.decision, &changes)
    }

    /// Edits of a waiting grant: its approvals, its state and the access to approve.
    fn waiting_grant_edits(&self) -> Vec<Attack> {
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
            ("no approvals", json!({"approvals": null})),
            ("an empty list of approvals", json!({"approvals": []})),
            ("the condition Approved", json!({"conditions": approved})),
            (
                "other access with the same approvals",
                json!({"resolved": other_access(&self.waiting)}),
            ),
            ("no resolved access", json!({"resolved": null})),
            (
                "an expiry time, as if it were granted",
                json!({"expiresAt": "2036-01-01T00:00:00.000000Z"}),
            ),
        ];
        writing_status(&self.waiting_at("/status"), &self.waiting, &changes)
    }

    /// Edits of an active grant. RBAC allows them to both callers, and the schema refuses even the operator.
    fn active_grant_edits(&self) -> Vec<Attack> {
        let ground = &self.ground;
        let approvals = &self.waiting["status"]["approvals"];
        let mut attacks = Vec::new();
        for (what, change, words) in [
            (
                "approvals of active access",
                json!({"approvals": approvals}),
                "status.approvals cannot change after expiresAt is set",
            ),
            (
                "other access than was granted",
                json!({"resolved": other_access(&ground.grant)}),
                "status.resolved cannot change after expiresAt is set",
            ),
            (
                "no resolved access",
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

/// Writes of a status by callers other than Curfew: each change by each kind of request.
fn writing_status(path: &str, object: &Value, changes: &[(&str, Value)]) -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (what, change) in changes {
        // Bob is administrator of the namespace and approved; `admin` is administrator of the cluster.
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

/// Approvals and denials by service accounts.
///
/// Eve impersonates one account, because she holds `edit` in its namespace. RBAC allows the others everything.
fn by_service_accounts(ground: &Ground<'_>) -> Vec<Attack> {
    let holds = Holds::Guard(
        "curfew-decider",
        "A service account cannot approve or deny, because a person must be accountable. Ask a person to decide",
    );
    let local_account = ground.account();
    let local_groups = json!([
        "system:serviceaccounts",
        format!("system:serviceaccounts:{}", ground.place.name),
        "system:authenticated"
    ]);
    let masters = json!(["system:masters", "system:authenticated"]);
    let mut deciders = vec![(Who::As("eve", local_account.clone()), local_account, local_groups)];
    for account in [
        "default:default",
        "kube-system:generic-garbage-collector",
        "curfew-identities:node-reader",
        "curfew-system:default",
    ] {
        let username = format!("system:serviceaccount:{account}");
        deciders.push((Who::AlmightyAs(username.clone()), username, masters.clone()));
    }
    let deny = json!({"decision": "Deny", "accessHash": null, "reason": "not now"});
    let mut attacks = Vec::new();
    for (who, username, groups) in deciders {
        for (what, change) in [("approves", json!({})), ("denies", deny.clone())] {
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

/// Decisions that do not say clearly who decided what, and why.
fn malformed(ground: &Ground<'_>) -> Vec<Attack> {
    let hash_words = "Approve requires accessHash";
    [
        (
            "approves without an access hash",
            json!({"accessHash": null}),
            hash_words,
        ),
        (
            "approves with a wildcard as access hash",
            json!({"accessHash": "sha256:*"}),
            "spec.accessHash",
        ),
        (
            "denies with an access hash",
            json!({"decision": "Deny", "reason": "not now"}),
            hash_words,
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
            "approves with a right-to-left character in the reason",
            json!({"reason": "DEV-1 \u{202e}harmless"}),
            "spec.reason",
        ),
        (
            "approves with a line break in the reason",
            json!({"reason": "DEV-1\napproved by: bob"}),
            "spec.reason",
        ),
        (
            "approves a grant without its uid",
            json!({"grantRef": {"uid": null}}),
            "spec.grantRef.uid",
        ),
        (
            "decides with an unknown verb",
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

/// Owner reference to the grant with this metadata.
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

fn access_hash(grant: &AccessGrant) -> anyhow::Result<String> {
    let resolved = grant.status.as_ref().and_then(|status| status.resolved.as_ref());
    Ok(resolved.context("the grant has no resolved access")?.hash.clone())
}

/// Waits until the grant records an approval, and returns the grant.
async fn wait_for_approval(ground: &Ground<'_>, name: &str) -> anyhow::Result<AccessGrant> {
    let grants = ground.place.grants();
    eventually("the grant records bob's approval", SOON, async || {
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

/// Waits until bob's decision has the verdict that it counts, and returns the decision.
async fn wait_for_verdict(ground: &Ground<'_>) -> anyhow::Result<AccessDecision> {
    let decisions = Api::<AccessDecision>::namespaced(ground.place.suite.admin.clone(), &ground.place.name);
    eventually("bob's decision is counted", SOON, async || {
        let decision = decisions
            .get("bobs-decision")
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
