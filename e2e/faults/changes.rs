//! One change for each kind of object the operator watches, of which nothing but its watch can tell it.

use anyhow::{Context as _, ensure};
use curfew::api::{AccessPolicy, ArtifactKind};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::scene::{Asked, Ground, make_policy};
use crate::harness::Exchange;
use crate::support::act_as::Account;

/// The collections the operator watches.
pub const WATCHED: [&str; 9] = [
    "accessgrants",
    "accessdecisions",
    "accesspolicies",
    "namespaces",
    "clusterroles",
    "serviceaccounts",
    "roles",
    "rolebindings",
    "jobs",
];

/// Which of them a request asks for as a whole.
pub fn collection(exchange: &Exchange) -> Option<&'static str> {
    let last = exchange.path.rsplit('/').next()?;
    WATCHED.into_iter().find(|watched| *watched == last)
}

/// Live access, each of which one change will end.
pub struct Changes<'a> {
    account: Account<'a>,
    role: String,
    policy: String,
    live: Vec<(&'static str, Asked)>,
}

impl<'a> Changes<'a> {
    /// Makes the access; an operator is alive. The ground has two namespaces.
    pub async fn prepare(ground: &Ground<'a>) -> anyhow::Result<Self> {
        let (role, policy) = (ground.suite.fresh("role"), ground.suite.fresh("policy"));
        make_role(ground, &role).await?;
        let entitlement = json!({"entitlements": [
            {"name": "look", "selection": "Default", "role": {"kind": "ClusterRole", "name": role}},
        ]});
        make_policy(ground.suite, &policy, &ground.label, entitlement).await?;
        ground.policy_is_ready(&policy).await?;
        let (here, there) = (ground.namespace(0)?, ground.namespace(1)?);
        let long = |more: Value| {
            let mut spec = json!({"duration": "10m"});
            crate::support::merge(&mut spec, more);
            spec
        };
        let read = json!({"entitlements": [{"name": "read"}]});
        let of_policy = json!({"policyRef": {"name": policy}});
        let edited = ground.suite.fresh("policy");
        make_policy(ground.suite, &edited, &ground.label, json!({})).await?;
        ground.policy_is_ready(&edited).await?;
        let account = Account::named(ground.suite, ground.suite.fresh("robot"));
        account.make().await?;
        let nodes = ground.suite.fresh("policy");
        let entitlement = json!({"entitlements": [account.entitlement()]});
        make_policy(ground.suite, &nodes, &ground.label, entitlement).await?;
        ground.policy_is_ready(&nodes).await?;
        let acts = json!({"policyRef": {"name": nodes}, "entitlements": [{"name": "nodes"}]});
        let live = vec![
            ("accessdecisions", ground.ask(here, long(json!({}))).await?),
            ("serviceaccounts", ground.ask(here, long(acts)).await?),
            ("rolebindings", ground.ask(here, long(json!({}))).await?),
            ("a binding that goes", ground.ask(here, long(json!({}))).await?),
            ("roles", ground.ask(here, long(read)).await?),
            ("jobs", ground.ask(here, long(json!({}))).await?),
            ("namespaces", ground.ask(there, long(json!({}))).await?),
            ("clusterroles", ground.ask(here, long(of_policy)).await?),
            (
                "accesspolicies",
                ground
                    .ask(here, long(json!({"policyRef": {"name": edited}})))
                    .await?,
            ),
        ];
        for (_, asked) in &live {
            ground.is_active(asked).await?;
        }
        Ok(Self {
            account,
            role,
            policy: edited,
            live,
        })
    }

    /// Changes everything.
    pub async fn make(&self, ground: &Ground<'_>) -> anyhow::Result<()> {
        for (change, asked) in &self.live {
            self.change(ground, change, asked)
                .await
                .with_context(|| (*change).to_owned())?;
        }
        Ok(())
    }

    async fn change(&self, ground: &Ground<'_>, change: &str, asked: &Asked) -> anyhow::Result<()> {
        let client = || ground.suite.admin.clone();
        let params = PatchParams::default();
        let namespace = &asked.namespace;
        let name = |kind| ground.piece(asked, kind).map(|piece| piece.name);
        let secrets = json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
        match change {
            "rolebindings" => {
                let mallory = json!({"subjects": [
                    {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}]});
                let bindings = Api::<RoleBinding>::namespaced(client(), namespace);
                let name = name(ArtifactKind::RoleBinding)?;
                let mallory = Patch::Merge(mallory);
                let deed = bindings.patch(&name, &params, &mallory);
                ground.suite.unguarded("curfew-binding", deed).await.map(drop)?;
            }
            // Whoever asked may.
            "accessdecisions" => {
                let place = ground.place_of(asked)?;
                place.revoke("admin", &asked.as_grant()).await.map(drop)?;
            }
            "serviceaccounts" => self.account.delete_account().await?,
            "a binding that goes" => ground.delete_binding(asked).await.map(drop)?,
            "roles" => {
                let roles = Api::<Role>::namespaced(client(), namespace);
                let name = name(ArtifactKind::Role)?;
                let secrets = Patch::Merge(secrets);
                let deed = roles.patch(&name, &params, &secrets);
                ground.suite.unguarded("curfew-role", deed).await.map(drop)?;
            }
            "jobs" => {
                let free = json!({"metadata": {"ownerReferences": null}});
                let fuses = Api::<Job>::namespaced(client(), namespace);
                let name = name(ArtifactKind::Job)?;
                let free = Patch::Merge(free);
                let deed = fuses.patch(&name, &params, &free);
                ground.suite.unguarded("curfew-fuse", deed).await.map(drop)?;
            }
            "namespaces" => {
                let moved = json!({"metadata": {"labels": {"ground": null}}});
                Api::<Namespace>::all(client())
                    .patch(namespace, &params, &Patch::Merge(moved))
                    .await
                    .map(drop)?;
            }
            "clusterroles" => {
                let roles = Api::<ClusterRole>::all(client());
                roles
                    .patch(&self.role, &params, &Patch::Merge(secrets))
                    .await
                    .map(drop)?;
            }
            _ => {
                let nobody = json!({"spec": {"requesters": [{"kind": "User", "name": "nobody"}]}});
                let policies = Api::<AccessPolicy>::all(client());
                policies
                    .patch(&self.policy, &params, &Patch::Merge(nobody))
                    .await
                    .map(drop)?;
            }
        }
        Ok(())
    }

    /// Waits until each change was noticed, and a request that came with them is granted.
    pub async fn are_noticed(&self, ground: &Ground<'_>, new: &Asked) -> anyhow::Result<()> {
        ground
            .is_active(new)
            .await
            .context("a grant that was made when no watch was open")?;
        for (change, asked) in &self.live {
            let tale = ground.told(asked, "it ends", |tale| {
                tale.versions.iter().any(|v| v.ended_at.is_some())
            });
            let tale = tale
                .await
                .with_context(|| format!("a change of {change} was not noticed"))?;
            ensure!(tale.state() == "Revoked", "{change}: {tale:#?}");
            ground.nothing_left(asked).await?;
        }
        Ok(())
    }

    /// The grants that the changes end.
    pub fn grants(&self) -> impl Iterator<Item = &Asked> {
        self.live.iter().map(|(_, asked)| asked)
    }
}

/// A role that the operator may bind.
async fn make_role(ground: &Ground<'_>, name: &str) -> anyhow::Result<()> {
    let roles = Api::<ClusterRole>::all(ground.suite.admin.clone());
    let make = async |role: Value| {
        let role: ClusterRole = serde_json::from_value(role)?;
        anyhow::Ok(roles.create(&PostParams::default(), &role).await.map(drop)?)
    };
    let look = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    make(json!({"metadata": {"name": name}, "rules": look})).await?;
    make(json!({
        "metadata": {
            "name": format!("curfew-grantable-{name}"),
            "labels": {"access.curfew.dev/aggregate-to-grantable": "true"},
        },
        "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
            "resourceNames": [name], "verbs": ["bind"]}],
    }))
    .await
}
