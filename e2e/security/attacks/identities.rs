//! Attacks on act-as accounts: tokens, pods and rights in their namespace.

use serde_json::json;

use super::attack::{Attack, Holds, Request, Who, at};
use crate::support::json::RBAC;
use crate::support::manifests::{binding, ordinary_job, pod, role};

/// Namespace of the act-as accounts.
const THERE: &str = "curfew-identities";

/// All attacks of this family. The attacker is the administrator, to whom RBAC allows everything.
pub fn attacks() -> Vec<Attack> {
    let at = |group_version: &str, rest: &str| at(group_version, THERE, rest);
    let workload = |kind: &str| {
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "a"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod("a")["spec"]}}})
    };
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a",
        "annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token"});
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a"}, "spec": {
        "schedule": "* * * * *", "jobTemplate": {"spec": ordinary_job("a")["spec"]}}});
    [
        (
            "runs a pod as an act-as account",
            Request::create(at("v1", "pods"), pod("a")),
        ),
        (
            "creates a Deployment",
            Request::create(at("apps/v1", "deployments"), workload("Deployment")),
        ),
        (
            "creates a DaemonSet",
            Request::create(at("apps/v1", "daemonsets"), workload("DaemonSet")),
        ),
        (
            "creates a Job",
            Request::create(at("batch/v1", "jobs"), ordinary_job("a")),
        ),
        (
            "creates a CronJob for every minute",
            Request::create(at("batch/v1", "cronjobs"), cron),
        ),
        (
            "creates a token Secret",
            Request::create(at("v1", "secrets"), secret),
        ),
        (
            "requests a token of an act-as account",
            Request::create(at("v1", "serviceaccounts/default/token"), token),
        ),
        (
            "binds a role",
            Request::create(at(RBAC, "rolebindings"), binding("a", "view", "alice")),
        ),
        ("creates a Role", Request::create(at(RBAC, "roles"), role("a"))),
        (
            "applies a binding",
            Request::apply(at(RBAC, "rolebindings/a"), "helm", binding("a", "view", "alice")),
        ),
    ]
    .into_iter()
    .map(|(what, request)| Attack {
        what: what.to_owned(),
        who: Who::Person("admin"),
        request,
        holds: Holds::Guard(
            "curfew-identities",
            "is only for service accounts to act as: no pods, tokens, Secrets or bindings",
        ),
    })
    .collect()
}
