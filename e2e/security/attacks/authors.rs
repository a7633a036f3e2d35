//! Handing out by a policy what one does not hold.

use serde_json::{Value, json};

use super::attack::{Attack, Callers, Holds, Request, Who, at, every_way};
use super::scene::{cluster_wide, policy};
use crate::harness::eventually;
use crate::support::json::CURFEW;
use crate::support::{SOON, Suite};

/// Erin writes policies, and may bind `view`.
pub struct Authors {
    /// A policy of others, which hands out more than she may.
    strong: Value,
    /// A name for hers.
    name: String,
}

impl Authors {
    /// Gives erin her rights.
    pub async fn prepare(suite: &Suite) -> anyhow::Result<Self> {
        let rules = json!([
            {"apiGroups": ["access.curfew.dev"], "resources": ["accesspolicies"], "verbs": ["*"]},
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["view"],
             "verbs": ["bind"]},
            {"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["hers"], "verbs": ["impersonate"]},
        ]);
        cluster_wide(suite, "erin", rules).await?;
        let strong = suite.fresh("strong");
        let spec = spec(&json!([named("admin", "ClusterRole", "admin")]));
        let strong = serde_json::to_value(policy(suite, &strong, spec).await?)?;
        let authors = Self {
            strong,
            name: suite.fresh("hers"),
        };
        let callers = Callers::new(suite);
        let sixteen: Vec<Value> = (0..16)
            .map(|number| named(&format!("e{number}"), "ClusterRole", "view"))
            .collect();
        let label = json!({"metadata": {"labels": {"team": "a"}}});
        for (what, request) in [
            ("sixteen that she may bind", authors.writing(&json!(sixteen))),
            (
                "an identity that she may impersonate",
                authors.writing(&json!([{"name": "acts", "actAs": {"serviceAccount": "hers"}}])),
            ),
            (
                "a label, which needs no rights",
                Request::merge(authors.strong_at(), label),
            ),
        ] {
            let deed = Attack {
                what: what.to_owned(),
                who: Who::Person("erin"),
                request,
                holds: Holds::Harmless,
            };
            eventually(what, SOON, async || callers.lets_through(&deed).await).await?;
        }
        Ok(authors)
    }

    fn strong_at(&self) -> String {
        let name = self.strong["metadata"]["name"].as_str().unwrap_or_default();
        at(CURFEW, "", &format!("accesspolicies/{name}"))
    }

    fn writing(&self, entitlements: &Value) -> Request {
        let policy = json!({"apiVersion": CURFEW, "kind": "AccessPolicy", "metadata": {"name": self.name},
            "spec": spec(entitlements)});
        Request::create(at(CURFEW, "", "accesspolicies"), policy)
    }

    /// The attacks.
    pub fn attacks(&self) -> Vec<Attack> {
        let view = named("view", "ClusterRole", "view");
        let rules = |resource: &str, verb: &str| {
            json!({"name": "own", "rules": {"items": [
                {"apiGroups": [""], "resources": [resource], "verbs": [verb]}]}})
        };
        let acting = |account: &str| json!({"name": "acts", "actAs": {"serviceAccount": account}});
        let last = |last: Value| -> Value {
            let views = (0..15).map(|number| named(&format!("e{number}"), "ClusterRole", "view"));
            views.chain([last]).collect()
        };
        let refused = Holds::Guard(
            "curfew-authors",
            "You can only offer access that you hold: bind on each role, escalate on clusterroles for rules",
        );
        let mut attacks: Vec<Attack> = [
            ("hands out admin", json!([named("admin", "ClusterRole", "admin")])),
            (
                "hands out a Role of whatever namespace",
                json!([named("view", "Role", "view")]),
            ),
            ("hands out rules of her own", json!([rules("secrets", "get")])),
            (
                "hands out rules that read nothing secret",
                json!([rules("configmaps", "get")]),
            ),
            (
                "hides rules behind a role",
                json!([view, rules("secrets", "get")]),
            ),
            (
                "hides a role behind fifteen others",
                last(named("e15", "ClusterRole", "cluster-admin")),
            ),
            ("hides rules behind fifteen roles", last(rules("secrets", "get"))),
            ("lets people act as an identity", json!([acting("theirs")])),
            ("hides an identity behind fifteen roles", last(acting("theirs"))),
        ]
        .into_iter()
        .map(|(what, entitlements)| Attack {
            what: what.to_owned(),
            who: Who::Person("erin"),
            request: self.writing(&entitlements),
            holds: refused.clone(),
        })
        .collect();
        for (what, change) in [
            (
                "lists herself in a policy of others",
                json!({"requesters": [{"kind": "User", "name": "erin"}]}),
            ),
            (
                "takes a policy of others everywhere",
                json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}),
            ),
            ("edits a policy of others", json!({"description": "hers"})),
        ] {
            for (way, request) in every_way(&self.strong_at(), &self.strong, &json!({"spec": change})) {
                attacks.push(Attack {
                    what: format!("{what}, by {way}"),
                    who: Who::Person("erin"),
                    request,
                    holds: refused.clone(),
                });
            }
        }
        attacks
    }

    /// Takes the policy away.
    pub async fn done(&self, suite: &Suite) -> anyhow::Result<()> {
        let policies = kube::Api::<curfew::api::AccessPolicy>::all(suite.admin.clone());
        let name = self.strong["metadata"]["name"].as_str().unwrap_or_default();
        policies.delete(name, &kube::api::DeleteParams::default()).await?;
        Ok(())
    }
}

fn named(name: &str, kind: &str, role: &str) -> Value {
    json!({"name": name, "role": {"kind": kind, "name": role}})
}

fn spec(entitlements: &Value) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"nobody": "here"}}, "requesters": [{"kind": "User", "name": "bob"}],
        "path": "Automatic", "duration": {"max": "1h"}, "entitlements": entitlements})
}
