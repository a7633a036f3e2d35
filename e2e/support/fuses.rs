//! Reads fuses and what is said of them; a quota and a tool that keep them from being lit.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::AccessGrant;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::json;

use crate::harness::{eventually, serves_mutation};
use crate::support::manifests::ordinary_job;
use crate::support::{Place, SOON, condition};

/// How soon a fuse that was refused is tried again, and what that takes.
pub const TRIED_AGAIN: Duration = Duration::from_secs(30 + 15);

/// What the API server says of the fuses of a grant.
pub fn fused(grant: &AccessGrant) -> Option<Condition> {
    condition(grant, "Fused").cloned()
}

/// Waits until a grant says that of its fuses: status and reason.
pub async fn says(
    place: &Place<'_>,
    name: &str,
    (status, reason): (&str, &str),
    deadline: Duration,
) -> anyhow::Result<AccessGrant> {
    let grants = place.grants();
    let what = format!("{name} says Fused={status} ({reason})");
    eventually(&what, deadline, async || {
        let grant = grants.get(name).await.map_err(|error| error.to_string())?;
        match fused(&grant) {
            Some(said) if said.status == status && said.reason == reason => Ok(grant),
            other => Err(format!("{:?}", other.map(|said| (said.reason, said.message)))),
        }
    })
    .await
}

/// Whatever owns the binding of a grant.
pub async fn owner(place: &Place<'_>) -> anyhow::Result<OwnerReference> {
    let binding = place.bindings().await?.pop().context("no binding")?;
    let owners = binding.metadata.owner_references.unwrap_or_default();
    ensure!(owners.len() == 1, "{owners:?}");
    owners.into_iter().next().context("no owner")
}

pub async fn fuse(place: &Place<'_>) -> anyhow::Result<Job> {
    let jobs = Api::<Job>::namespaced(place.suite.admin.clone(), &place.name);
    let ours = ListParams::default().labels(curfew::api::GRANT_UID_LABEL);
    jobs.list(&ours).await?.items.pop().context("no fuse")
}

/// How many Events about a grant tell that reason.
pub async fn told(place: &Place<'_>, grant: &AccessGrant, reason: &str) -> anyhow::Result<usize> {
    let events = place.events(grant).await?;
    let of_it = |event: &&String| event.starts_with(&format!("{reason}: "));
    Ok(events.iter().filter(of_it).count())
}

/// Lets nobody make Jobs here, and waits until the API server acts by that.
pub async fn no_jobs(place: &Place<'_>) -> anyhow::Result<Api<ResourceQuota>> {
    let quotas = Api::<ResourceQuota>::namespaced(place.suite.admin.clone(), &place.name);
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}});
    quotas
        .create(&PostParams::default(), &serde_json::from_value(quota)?)
        .await?;
    eventually("the quota is known", SOON, async || {
        let quota = quotas.get("none").await.map_err(|error| error.to_string())?;
        let known = quota.status.and_then(|status| status.hard);
        known
            .filter(|hard| !hard.is_empty())
            .map(drop)
            .ok_or("not yet".to_owned())
    })
    .await?;
    Ok(quotas)
}

/// A tool that suspends every Job of a namespace when it is made.
pub struct Suspender {
    name: String,
    client: Client,
}

impl Suspender {
    /// Installs it; `None` where the API server has no mutating policies.
    pub async fn install(place: &Place<'_>) -> anyhow::Result<Option<Self>> {
        let suite = place.suite;
        if !serves_mutation(&suite.plane).await? {
            return Ok(None);
        }
        let it = Self {
            name: suite.fresh("suspends"),
            client: suite.admin.clone(),
        };
        let policy = json!({
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [{"apiGroups": ["batch"], "apiVersions": ["v1"],
                "operations": ["CREATE"], "resources": ["jobs"]}]},
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {
                "expression": "Object{spec: Object.spec{suspend: true}}"}}],
        });
        let bound = json!({"policyName": it.name, "matchResources": {"namespaceSelector":
            {"matchLabels": {"place": place.name}}}});
        for (kind, spec) in [
            ("MutatingAdmissionPolicy", policy),
            ("MutatingAdmissionPolicyBinding", bound),
        ] {
            let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
                "metadata": {"name": it.name}, "spec": spec});
            it.objects(kind)
                .create(&PostParams::default(), &serde_json::from_value(object)?)
                .await?;
        }
        let jobs = Api::<Job>::namespaced(suite.admin.clone(), &place.name);
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let job: Job = serde_json::from_value(ordinary_job("work"))?;
        eventually("the tool suspends Jobs", SOON, async || {
            let made = jobs
                .create(&dry_run, &job)
                .await
                .map_err(|error| error.to_string())?;
            match made.spec.and_then(|spec| spec.suspend) {
                Some(true) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        Ok(Some(it))
    }

    /// Takes it away.
    pub async fn remove(self) -> anyhow::Result<()> {
        for kind in ["MutatingAdmissionPolicyBinding", "MutatingAdmissionPolicy"] {
            self.objects(kind)
                .delete(&self.name, &DeleteParams::default())
                .await?;
        }
        Ok(())
    }

    fn objects(&self, kind: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
        Api::all_with(self.client.clone(), &ApiResource::from_gvk(&kind))
    }
}

/// When a fuse burns: the Job controller counts from the start that it recorded.
pub fn burns_at(fuse: &Job) -> anyhow::Result<Timestamp> {
    let lit = fuse.status.as_ref().and_then(|status| status.start_time.as_ref());
    let seconds = fuse.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
    let seconds = seconds.context("the fuse has no deadline")?;
    Ok(lit.context("the fuse is not lit")?.0 + SignedDuration::from_secs(seconds))
}
