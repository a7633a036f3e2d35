//! Attacks by the author of a policy: the policy offers access that the author does not hold.

use serde_json::{Value, json};

use super::attack::{Attack, Callers, Holds, Request, Who, at, every_way};
use super::scene::{cluster_wide, policy};
use crate::harness::eventually;
use crate::support::json::CURFEW;
use crate::support::{SOON, Suite};

/// Scene with erin, who may write policies, bind `view` and impersonate the service account `hers`.
pub struct Authors {
    /// Policy of another author that offers `admin`, which erin may not bind.
    strong: Value,
    /// Name for erin's own policy.
    name: String,
}

impl Authors {
    /// Creates the scene and waits until erin may do what her rights allow.
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
            (
                "a policy with sixteen roles that erin may bind is accepted",
                authors.writing(&json!(sixteen)),
            ),
            (
                "a policy with a service account that erin may impersonate is accepted",
                authors.writing(&json!([{"name": "acts", "actAs": {"serviceAccount": "hers"}}])),
            ),
            (
                "a label on a policy needs no further rights",
                Request::merge(authors.strong_at(), label),
            ),
        ] {
            let attempt = Attack {
                what: what.to_owned(),
                who: Who::Person("erin"),
                request,
                holds: Holds::Harmless,
            };
            eventually(what, SOON, async || callers.lets_through(&attempt).await).await?;
        }
        Ok(authors)
    }

    fn strong_at(&self) -> String {
        let name = self.strong["metadata"]["name"].as_str().unwrap_or_default();
        at(CURFEW, "", &format!("accesspolicies/{name}"))
    }

    /// Creation of erin's policy with these entitlements.
    fn writing(&self, entitlements: &Value) -> Request {
        let policy = json!({"apiVersion": CURFEW, "kind": "AccessPolicy", "metadata": {"name": self.name},
            "spec": spec(entitlements)});
        Request::create(at(CURFEW, "", "accesspolicies"), policy)
    }

    /// All attacks of this family.
    pub fn attacks(&self) -> Vec<Attack> {
        let view = named("view", "ClusterRole", "view");
        let rules = |resource: &str, verb: &str| {
            json!({"name": "own", "rules": {"items": [
                {"apiGroups": [""], "resources": [resource], "verbs": [verb]}]}})
        };
        let acting = |account: &str| json!({"name": "acts", "actAs": {"serviceAccount": account}});
        let after_fifteen = |last: Value| -> Value {
            let views = (0..15).map(|number| named(&format!("e{number}"), "ClusterRole", "view"));
            views.chain([last]).collect()
        };
        let refused = Holds::Guard(
            "curfew-policy-authors",
            "You can only offer access that you hold: bind on each role, escalate on clusterroles for rules",
        );
        let mut attacks: Vec<Attack> = [
            (
                "offers the ClusterRole admin",
                json!([named("admin", "ClusterRole", "admin")]),
            ),
            (
                "offers a Role that each namespace defines",
                json!([named("view", "Role", "view")]),
            ),
            ("offers rules that read Secrets", json!([rules("secrets", "get")])),
            (
                "offers rules that read ConfigMaps",
                json!([rules("configmaps", "get")]),
            ),
            (
                "offers rules after an allowed role",
                json!([view, rules("secrets", "get")]),
            ),
            (
                "offers cluster-admin after fifteen allowed roles",
                after_fifteen(named("e15", "ClusterRole", "cluster-admin")),
            ),
            (
                "offers rules after fifteen allowed roles",
                after_fifteen(rules("secrets", "get")),
            ),
            ("offers an act-as account", json!([acting("theirs")])),
            (
                "offers an act-as account after fifteen allowed roles",
                after_fifteen(acting("theirs")),
            ),
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
                "adds herself to a policy of another author",
                json!({"requesters": [{"kind": "User", "name": "erin"}]}),
            ),
            (
                "changes the namespaces of a policy of another author",
                json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}),
            ),
            ("edits a policy of another author", json!({"description": "hers"})),
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

    /// Deletes the policy of the other author.
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
