//! Load on the cluster: people who ask for access. Each grant has a requester of its own, as in reality.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use curfew::api::{AccessDecision, AccessGrant, AccessGrantStatus, GROUP, VERSION};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{NamespaceResourceScope, Request};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::harness::eventually;

/// Namespace of all grants.
pub const NAMESPACE: &str = "bench";
/// Policy without approval, in `policy.yaml`.
pub const POLICY: &str = "bench";
/// Policy with one approval, in `policy.yaml`.
const MANUAL_POLICY: &str = "bench-manual";
/// Limit of requests for access that are created in parallel.
pub const CREATORS: usize = 50;
/// Deadline for the namespace to be empty after a cleanup.
const EMPTY: Duration = Duration::from_mins(3);

/// Kinds of access to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// An existing role, without approval.
    Role,
    /// Rules in the policy; Curfew creates a Role from them. Without approval.
    Rules,
    /// An existing role, after one approval.
    Approval,
}

/// A grant that was created.
#[derive(Clone, Debug)]
pub struct Made {
    /// Name of the grant and of its requester.
    pub name: String,
    /// Uid of the grant.
    pub uid: String,
    /// Time just before the request that created the grant.
    pub asked: Timestamp,
    /// Time of the answer to that request.
    pub answered: Timestamp,
    /// `spec.notAfter` of the grant.
    pub end: Timestamp,
}

/// User name of the operator.
const OPERATOR: &str = "system:serviceaccount:curfew-system:curfew";

/// Creates grants and decisions, and cleans up.
pub struct Load {
    client: Client,
    people: AtomicUsize,
}

impl Load {
    /// A load that uses `client`, which must have the right to impersonate every user.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            people: AtomicUsize::new(0),
        }
    }

    /// Creates a grant with a new requester, for access until `end`.
    pub async fn one(&self, wish: Wish, end: Timestamp) -> anyhow::Result<Made> {
        let person = format!("bench-{}", self.people.fetch_add(1, Ordering::Relaxed));
        let mut spec = json!({
            "policyRef": {"name": if wish == Wish::Approval { MANUAL_POLICY } else { POLICY }},
            "reason": "BENCH-1 how fast does access start and end",
            "notAfter": end.to_string(),
        });
        if let (Wish::Rules, Some(spec)) = (wish, spec.as_object_mut()) {
            spec.insert("entitlements".to_owned(), json!([{"name": "exec"}]));
        }
        let grant = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "AccessGrant",
            "metadata": {"name": person},
            "spec": spec,
        });
        let path = AccessGrant::url_path(&(), Some(NAMESPACE));
        let mut request = Request::new(path).create(&PostParams::default(), serde_json::to_vec(&grant)?)?;
        let headers = request.headers_mut();
        headers.insert("Impersonate-User", person.parse()?);
        headers.insert("Impersonate-Group", "bench".parse()?);
        let asked = Timestamp::now();
        let answer: Value = self.client.request(request).await?;
        let answered = Timestamp::now();
        let uid = answer.pointer("/metadata/uid").and_then(Value::as_str);
        Ok(Made {
            uid: uid.context("the created grant has no uid")?.to_owned(),
            name: person,
            asked,
            answered,
            end,
        })
    }

    /// Creates `number` grants in parallel, all with the same end.
    pub async fn burst(&self, number: usize, wish: Wish, end: Timestamp) -> anyhow::Result<Vec<Made>> {
        let requests = (0..number).map(|_| self.one(wish, end));
        stream::iter(requests)
            .buffer_unordered(CREATORS)
            .try_collect()
            .await
    }

    /// Creates ended grants: new grants whose status is a copy of `model`, the status of a grant that has really ended.
    pub async fn ended(&self, number: usize, model: &AccessGrantStatus) -> anyhow::Result<()> {
        let far_end = Timestamp::now().saturating_add(Duration::from_hours(2))?;
        let create_one = async || {
            let made = self.one(Wish::Role, far_end).await?;
            let mut status = model.clone();
            if let Some(subject) = &mut status.subject {
                subject.name.clone_from(&made.name);
            }
            // Each name is as random as the uid of its grant, as in reality.
            for artifact in &mut status.artifacts {
                artifact.name = format!("curfew-{}", made.uid.replace('-', ""));
                artifact.uid = Some(made.uid.clone());
            }
            let ended = Patch::Merge(json!({"status": status}));
            let params = PatchParams::default();
            let path = AccessGrant::url_path(&(), Some(NAMESPACE));
            let mut request = Request::new(path).patch_subresource("status", &made.name, &params, &ended)?;
            // The guards allow status writes only by the operator; RBAC allows the verb patch only to an administrator.
            let headers = request.headers_mut();
            headers.insert("Impersonate-User", OPERATOR.parse()?);
            headers.insert("Impersonate-Group", "system:masters".parse()?);
            self.client.request::<Value>(request).await.map(drop)?;
            anyhow::Ok(())
        };
        let creations = stream::iter((0..number).map(|_| create_one()));
        creations.buffer_unordered(CREATORS).try_collect().await
    }

    /// Approves the access that the grant resolved to, as a lead. Returns the time of the API server's answer.
    pub async fn approve(&self, made: &Made) -> anyhow::Result<Timestamp> {
        let status = self.grants().get(&made.name).await?.status;
        let resolved = status.and_then(|status| status.resolved);
        let hash = resolved.context("the grant has no status.resolved yet")?.hash;
        let decision = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "AccessDecision",
            "metadata": {"name": format!("{}-yes", made.name)},
            "spec": {
                "grantRef": {"name": made.name, "uid": made.uid},
                "decision": "Approve",
                "accessHash": hash,
            },
        });
        let path = AccessDecision::url_path(&(), Some(NAMESPACE));
        let mut request =
            Request::new(path).create(&PostParams::default(), serde_json::to_vec(&decision)?)?;
        let headers = request.headers_mut();
        headers.insert("Impersonate-User", "bench-lead".parse()?);
        headers.insert("Impersonate-Group", "bench-leads".parse()?);
        self.client.request::<Value>(request).await?;
        Ok(Timestamp::now())
    }

    /// Client for the grants of the namespace.
    pub fn grants(&self) -> Api<AccessGrant> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Deletes these grants.
    pub async fn delete(&self, grants: &[Made]) -> anyhow::Result<()> {
        let (api, params) = (self.grants(), DeleteParams::background());
        stream::iter(grants.iter().map(|made| api.delete(&made.name, &params)))
            .buffer_unordered(CREATORS)
            .try_for_each(async |_| Ok(()))
            .await?;
        Ok(())
    }

    /// Deletes all grants and decisions, and waits until no grant, RoleBinding or Job is left.
    pub async fn clear(&self) -> anyhow::Result<()> {
        let (delete, all) = (DeleteParams::background(), ListParams::default());
        self.grants().delete_collection(&delete, &all).await?;
        let decisions = Api::<AccessDecision>::namespaced(self.client.clone(), NAMESPACE);
        decisions.delete_collection(&delete, &all).await?;
        self.bindings_left_by_bare(&delete, &all).await?;
        eventually("no grant, RoleBinding or Job is left", EMPTY, async || {
            self.none_of::<AccessGrant>().await?;
            self.none_of::<RoleBinding>().await?;
            self.none_of::<Job>().await
        })
        .await
    }

    /// Deletes the bare client's `RoleBindings`, which have no owner.
    async fn bindings_left_by_bare(&self, delete: &DeleteParams, all: &ListParams) -> anyhow::Result<()> {
        let bindings = Api::<RoleBinding>::namespaced(self.client.clone(), NAMESPACE);
        bindings.delete_collection(delete, all).await?;
        Ok(())
    }

    async fn none_of<K>(&self) -> Result<(), String>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let objects = Api::<K>::namespaced(self.client.clone(), NAMESPACE);
        let first = objects.list_metadata(&ListParams::default().limit(1)).await;
        match first.map_err(|error| error.to_string())?.items.first() {
            None => Ok(()),
            Some(left) => Err(format!("{} {:?} is left", K::kind(&()), left.metadata.name)),
        }
    }
}
