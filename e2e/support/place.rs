//! A namespace of a test's own.

use std::time::Duration;

use anyhow::Context as _;
use curfew::api::{AccessGrant, AccessPolicy, AccessPolicySpec, GRANT_UID_LABEL, conditions};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::support::{SOON, Suite, condition, merge};

/// A namespace of a test.
pub struct Place<'a> {
    /// The suite.
    pub suite: &'a Suite,
    /// Its name.
    pub name: String,
}

impl Place<'_> {
    /// A policy for this namespace alone: group devs, view by default, exec and reading on request, changed by `edit`
    /// (a merge patch of the spec). Waits until it is judged.
    pub async fn policy(&self, edit: Value) -> anyhow::Result<AccessPolicy> {
        let policy = self.policy_unjudged(edit).await?;
        self.judged(&policy.name_any()).await
    }

    /// Like [`Self::policy`], without waiting.
    pub async fn policy_unjudged(&self, edit: Value) -> anyhow::Result<AccessPolicy> {
        let mut spec = json!({
            "namespaceSelector": {"matchLabels": {"place": self.name}},
            "requesters": [{"kind": "Group", "name": "devs"}],
            "path": "Automatic",
            "duration": {"max": "1h"},
            "limits": {"activePerSubject": 10},
            "entitlements": [
                {"name": "look", "selection": "Default", "role": {"kind": "ClusterRole", "name": "view"}},
                {"name": "exec", "rules": {"narrowing": "Required", "items": [
                    {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]},
                    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
                ]}},
                {"name": "read", "rules": {"items": [
                    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
                ]}},
            ],
        });
        merge(&mut spec, edit);
        let spec: AccessPolicySpec = serde_json::from_value(spec)?;
        let policy = AccessPolicy::new(&self.suite.fresh("policy"), spec);
        let policies = Api::<AccessPolicy>::all(self.suite.admin.clone());
        Ok(policies.create(&PostParams::default(), &policy).await?)
    }

    /// A policy, once its present form is judged.
    pub async fn judged(&self, name: &str) -> anyhow::Result<AccessPolicy> {
        let policies = Api::<AccessPolicy>::all(self.suite.admin.clone());
        eventually("the policy is judged", SOON, async || {
            let policy = policies.get(name).await.map_err(|error| error.to_string())?;
            let seen = policy
                .status
                .as_ref()
                .and_then(|status| status.observed_generation);
            if seen.is_some() && seen == policy.metadata.generation {
                Ok(policy)
            } else {
                Err(format!(
                    "generation {:?}, observed {seen:?}",
                    policy.metadata.generation
                ))
            }
        })
        .await
    }

    /// Waits until grants may name a policy: what it hands out may be given to the operator after it.
    pub async fn ready(&self, name: &str) -> anyhow::Result<()> {
        let policies = Api::<AccessPolicy>::all(self.suite.admin.clone());
        eventually("the policy is ready", SOON, async || {
            let policy = policies.get(name).await.map_err(|error| error.to_string())?;
            let status = policy.status.unwrap_or_default();
            let ready = status
                .conditions
                .iter()
                .find(|condition| condition.type_ == conditions::READY);
            match ready {
                Some(ready) if ready.status == "True" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Edits a policy (a merge patch of its spec) and waits until that is judged.
    pub async fn edit_policy(&self, name: &str, edit: Value) -> anyhow::Result<AccessPolicy> {
        let policies = Api::<AccessPolicy>::all(self.suite.admin.clone());
        let patch = Patch::Merge(json!({"spec": edit}));
        policies.patch(name, &PatchParams::default(), &patch).await?;
        self.judged(name).await
    }

    /// The grants of this namespace, as a person (or `admin`).
    pub async fn grants_as(&self, person: &str) -> anyhow::Result<Api<AccessGrant>> {
        Ok(Api::namespaced(
            self.suite.plane.client_as(person).await?,
            &self.name,
        ))
    }

    /// The grants of this namespace, as administrator.
    pub fn grants(&self) -> Api<AccessGrant> {
        Api::namespaced(self.suite.admin.clone(), &self.name)
    }

    /// A person asks under a policy, with more fields of the spec as `more`.
    pub async fn ask(&self, person: &str, policy: &str, more: Value) -> anyhow::Result<AccessGrant> {
        let mut spec = json!({"policyRef": {"name": policy}, "reason": "DEV-123 to see what is going on"});
        merge(&mut spec, more);
        let client = self.suite.plane.client_as(person).await?;
        let grant = self.suite.grant_by(&client, spec).await?;
        let grants = Api::<AccessGrant>::namespaced(client, &self.name);
        grants
            .create(&PostParams::default(), &grant)
            .await
            .with_context(|| format!("{person} asks"))
    }

    /// A grant, once it is in that state.
    pub async fn in_state(&self, grant: &str, state: &str) -> anyhow::Result<AccessGrant> {
        self.in_state_within(grant, state, SOON).await
    }

    /// A grant, once it is in that state, with a deadline of its own.
    pub async fn in_state_within(
        &self,
        grant: &str,
        state: &str,
        deadline: Duration,
    ) -> anyhow::Result<AccessGrant> {
        let grants = self.grants();
        eventually(&format!("{grant} is {state}"), deadline, async || {
            let grant = grants.get(grant).await.map_err(|error| error.to_string())?;
            match condition(&grant, conditions::ACTIVE) {
                Some(active) if active.reason == state => Ok(grant),
                other => Err(format!(
                    "{:?}",
                    other.map(|active| (&active.reason, &active.message))
                )),
            }
        })
        .await
    }

    /// Asks and waits for the access.
    pub async fn active(&self, person: &str, policy: &str, more: Value) -> anyhow::Result<AccessGrant> {
        let grant = self.ask(person, policy, more).await?;
        self.in_state(&grant.name_any(), "Active").await
    }

    /// Asks and waits for the refusal.
    pub async fn denied(&self, person: &str, policy: &str, more: Value) -> anyhow::Result<Refused> {
        let grant = self.ask(person, policy, more).await?;
        let grant = self.in_state(&grant.name_any(), "Denied").await?;
        let accepted = condition(&grant, conditions::ACCEPTED).context("no condition Accepted")?;
        Ok(Refused {
            reason: accepted.reason.clone(),
            message: accepted.message.clone(),
            grant: grant.clone(),
        })
    }

    /// Whether a person may, here and now.
    pub async fn may(&self, person: &str, verb: &str, resource: &str) -> anyhow::Result<bool> {
        let resource = if let Some((resource, name)) = resource.split_once(' ') {
            format!("{resource}/{name}")
        } else {
            resource.to_owned()
        };
        let (resource, subresource) = match resource.split_once('/') {
            Some(("pods", "exec")) => ("pods", Some("--subresource=exec")),
            _ => (resource.as_str(), None),
        };
        let mut arguments = vec!["auth", "can-i", verb, resource, "-n", &self.name];
        arguments.extend(subresource);
        let output = self.suite.plane.kubectl_as(person, &arguments)?;
        let output = tokio::process::Command::from(output).output().await?;
        Ok(String::from_utf8_lossy(&output.stdout).trim() == "yes")
    }

    /// Everything here that carries our label: kind and name.
    pub async fn artifacts(&self) -> anyhow::Result<Vec<String>> {
        let ours = ListParams::default().labels(GRANT_UID_LABEL);
        let client = || self.suite.admin.clone();
        let jobs = Api::<Job>::namespaced(client(), &self.name).list(&ours).await?;
        let roles = Api::<Role>::namespaced(client(), &self.name).list(&ours).await?;
        let bindings = Api::<RoleBinding>::namespaced(client(), &self.name)
            .list(&ours)
            .await?;
        let mut names: Vec<String> = jobs.iter().map(|job| format!("Job/{}", job.name_any())).collect();
        names.extend(roles.iter().map(|role| format!("Role/{}", role.name_any())));
        names.extend(
            bindings
                .iter()
                .map(|binding| format!("RoleBinding/{}", binding.name_any())),
        );
        Ok(names)
    }

    /// Waits until nothing that carries our label is left here.
    pub async fn nothing_left(&self) -> anyhow::Result<()> {
        eventually("nothing made for grants is left", SOON, async || {
            let left = self.artifacts().await.map_err(|error| format!("{error:#}"))?;
            if left.is_empty() {
                Ok(())
            } else {
                Err(left.join(", "))
            }
        })
        .await
    }

    /// The bindings made for grants here.
    pub async fn bindings(&self) -> anyhow::Result<Vec<RoleBinding>> {
        let bindings = Api::<RoleBinding>::namespaced(self.suite.admin.clone(), &self.name);
        Ok(bindings
            .list(&ListParams::default().labels(GRANT_UID_LABEL))
            .await?
            .items)
    }

    /// Deletes an object of this namespace as administrator.
    pub async fn delete<K>(&self, name: &str) -> anyhow::Result<()>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = Api::<K>::namespaced(self.suite.admin.clone(), &self.name);
        api.delete(name, &DeleteParams::background()).await?;
        Ok(())
    }

    /// The Events about a grant or a decision, as `reason: note`.
    pub async fn events(&self, subject: &impl kube::Resource) -> anyhow::Result<Vec<String>> {
        let events = Api::<Event>::namespaced(self.suite.admin.clone(), &self.name);
        let about = |event: &Event| {
            event
                .regarding
                .as_ref()
                .and_then(|regarding| regarding.uid.clone())
                == subject.uid()
        };
        let mut events: Vec<Event> = events
            .list(&ListParams::default())
            .await?
            .items
            .into_iter()
            .filter(about)
            .collect();
        // Several can be of one instant, and none is ever edited.
        events.sort_by_key(|event| {
            event
                .resource_version()
                .and_then(|version| version.parse::<u64>().ok())
        });
        let text = |event: &Event| {
            format!(
                "{}: {}",
                event.reason.as_deref().unwrap_or_default(),
                event.note.as_deref().unwrap_or_default()
            )
        };
        Ok(events.iter().map(text).collect())
    }
}

/// A refusal as its grant tells it.
#[derive(Debug)]
pub struct Refused {
    /// Reason of condition `Accepted`.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// The grant.
    pub grant: AccessGrant,
}
