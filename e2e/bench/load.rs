//! People who ask for access: each grant is made by a person of its own, as in reality.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use curfew::api::{AccessDecision, AccessGrant, AccessGrantStatus, GROUP, VERSION};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, rbac::v1::RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{NamespaceResourceScope, Request};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::harness::eventually;

/// The namespace in which all of it happens.
pub const NAMESPACE: &str = "bench";
/// The policy that is asked under.
pub const POLICY: &str = "bench";
/// The policy under which somebody has to approve.
const MANUAL_POLICY: &str = "bench-manual";
/// How many ask at once.
pub const CREATORS: usize = 50;
/// How long the cluster may take to be empty again.
const EMPTY: Duration = Duration::from_mins(3);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// An existing role.
    Role,
    /// Rules of the policy's own, which become a Role.
    Rules,
    /// An existing role, if somebody approves.
    Approval,
}

/// A grant that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When its creation was begun.
    pub asked: Timestamp,
    /// When its creation was answered.
    pub answered: Timestamp,
    /// Its `notAfter`.
    pub end: Timestamp,
}

/// The operator's user name.
const OPERATOR: &str = "system:serviceaccount:curfew-system:curfew";

/// Makes grants.
pub struct Load {
    client: Client,
    people: AtomicUsize,
}

impl Load {
    /// With a client that may act as anybody.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            people: AtomicUsize::new(0),
        }
    }

    /// Somebody new asks for access until `end`.
    pub async fn one(&self, wish: Wish, end: Timestamp) -> anyhow::Result<Made> {
        let person = format!("bench-{}", self.people.fetch_add(1, Ordering::Relaxed));
        let mut spec = json!({
            "policyRef": {"name": if wish == Wish::Approval { MANUAL_POLICY } else { POLICY }},
            "reason": "BENCH-1 how fast does access come and go",
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
            uid: uid.context("a grant without a uid")?.to_owned(),
            name: person,
            asked,
            answered,
            end,
        })
    }

    /// So many people ask at once, for access until the same moment.
    pub async fn burst(&self, number: usize, wish: Wish, end: Timestamp) -> anyhow::Result<Vec<Made>> {
        let asking = (0..number).map(|_| self.one(wish, end));
        stream::iter(asking)
            .buffer_unordered(CREATORS)
            .try_collect()
            .await
    }

    /// Makes records of grants that are over, after the model of one that really is.
    pub async fn ended(&self, number: usize, model: &AccessGrantStatus) -> anyhow::Result<()> {
        let far = Timestamp::now().saturating_add(Duration::from_hours(2))?;
        let one = async || {
            let made = self.one(Wish::Role, far).await?;
            let mut status = model.clone();
            if let Some(subject) = &mut status.subject {
                subject.name.clone_from(&made.name);
            }
            // Each name is as random as its grant's uid.
            for artifact in &mut status.artifacts {
                artifact.name = format!("curfew-{}", made.uid.replace('-', ""));
                artifact.uid = Some(made.uid.clone());
            }
            let told = Patch::Merge(json!({"status": status}));
            let params = PatchParams::default();
            let path = AccessGrant::url_path(&(), Some(NAMESPACE));
            let mut request = Request::new(path).patch_subresource("status", &made.name, &params, &told)?;
            // Only the operator may write a status, and by patch only an administrator.
            let headers = request.headers_mut();
            headers.insert("Impersonate-User", OPERATOR.parse()?);
            headers.insert("Impersonate-Group", "system:masters".parse()?);
            self.client.request::<Value>(request).await.map(drop)?;
            anyhow::Ok(())
        };
        let making = stream::iter((0..number).map(|_| one()));
        making.buffer_unordered(CREATORS).try_collect().await
    }

    /// Somebody new approves what that grant asks for now. Answers when that was answered.
    pub async fn approve(&self, made: &Made) -> anyhow::Result<Timestamp> {
        let status = self.grants().get(&made.name).await?.status;
        let access = status.and_then(|status| status.resolved);
        let hash = access.context("nothing is asked for yet")?.hash;
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

    /// The grants.
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

    /// Deletes all grants and waits until nothing of them is left.
    pub async fn clear(&self) -> anyhow::Result<()> {
        let (delete, all) = (DeleteParams::background(), ListParams::default());
        self.grants().delete_collection(&delete, &all).await?;
        let decisions = Api::<AccessDecision>::namespaced(self.client.clone(), NAMESPACE);
        decisions.delete_collection(&delete, &all).await?;
        self.bindings_left_by_bare(&delete, &all).await?;
        eventually("nothing is left of the grants", EMPTY, async || {
            self.none_of::<AccessGrant>().await?;
            self.none_of::<RoleBinding>().await?;
            self.none_of::<Job>().await
        })
        .await
    }

    /// The bare client's bindings are held by nothing.
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
            Some(one) => Err(format!("{} {:?}", K::kind(&()), one.metadata.name)),
        }
    }
}
