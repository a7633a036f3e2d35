//! Getting at the identities that people act as.

use serde_json::json;

use super::attack::{Attack, Holds, Request, Who, at};
use crate::support::json::RBAC;
use crate::support::manifests::{binding, ordinary_job, pod, role};

const THERE: &str = "curfew-identities";

/// The attacks, by whoever may do everything.
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
            "runs a pod as an identity",
            Request::create(at("v1", "pods"), pod("a")),
        ),
        (
            "deploys",
            Request::create(at("apps/v1", "deployments"), workload("Deployment")),
        ),
        (
            "deploys on every node",
            Request::create(at("apps/v1", "daemonsets"), workload("DaemonSet")),
        ),
        (
            "runs a Job",
            Request::create(at("batch/v1", "jobs"), ordinary_job("a")),
        ),
        (
            "runs a Job every minute",
            Request::create(at("batch/v1", "cronjobs"), cron),
        ),
        ("keeps a token", Request::create(at("v1", "secrets"), secret)),
        (
            "makes a token",
            Request::create(at("v1", "serviceaccounts/default/token"), token),
        ),
        (
            "binds a role there",
            Request::create(at(RBAC, "rolebindings"), binding("a", "view", "alice")),
        ),
        (
            "makes a Role there",
            Request::create(at(RBAC, "roles"), role("a")),
        ),
        (
            "applies a binding there",
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
