//! A service account that people act as, and the policy that lets them.

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, GRANT_UID_LABEL, REVOKE_FINALIZER};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::eventually;
use crate::support::{Place, SOON, Suite};

/// Where the service accounts to act as are.
pub const IDENTITIES: &str = "curfew-identities";

/// A service account that may list nodes, with everything that its owner makes for it.
pub struct Account<'a> {
    suite: &'a Suite,
    /// Its name.
    pub name: String,
}

impl<'a> Account<'a> {
    /// Nothing of it is made yet.
    pub fn named(suite: &'a Suite, name: String) -> Self {
        Self { suite, name }
    }

    /// The `ClusterRole` that allows to act as it.
    pub fn role(&self) -> String {
        format!("curfew-act-as-{}", self.name)
    }

    /// The entitlement to act as it.
    pub fn entitlement(&self) -> Value {
        json!({"name": "nodes", "actAs": {"serviceAccount": self.name}})
    }

    /// Makes it and its rights, the right to act as it, and the operator's to hand that out.
    pub async fn make(&self) -> anyhow::Result<()> {
        self.make_account().await?;
        let roles = Api::<ClusterRole>::all(self.suite.admin.clone());
        let rbac = "rbac.authorization.k8s.io";
        let grantable = json!({"access.curfew.dev/aggregate-to-grantable": "true"});
        for (name, labels, rule) in [
            (
                self.name.clone(),
                json!({}),
                json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}),
            ),
            (self.role(), json!({}), impersonation(&[&self.name])),
            (
                format!("curfew-grantable-{}", self.name),
                grantable,
                json!({"apiGroups": [rbac], "resources": ["clusterroles"], "resourceNames": [self.role()],
                    "verbs": ["bind"]}),
            ),
        ] {
            let role: ClusterRole = serde_json::from_value(
                json!({"metadata": {"name": name, "labels": labels}, "rules": [rule]}),
            )?;
            roles.create(&PostParams::default(), &role).await?;
        }
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": {"name": self.name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": self.name},
            "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": IDENTITIES}],
        }))?;
        Api::<ClusterRoleBinding>::all(self.suite.admin.clone())
            .create(&PostParams::default(), &binding)
            .await?;
        Ok(())
    }

    pub async fn make_account(&self) -> anyhow::Result<()> {
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        self.accounts().create(&PostParams::default(), &account).await?;
        Ok(())
    }

    /// Deletes it; its rights stay.
    pub async fn delete_account(&self) -> anyhow::Result<()> {
        self.accounts()
            .delete(&self.name, &DeleteParams::default())
            .await?;
        Ok(())
    }

    fn accounts(&self) -> Api<ServiceAccount> {
        Api::namespaced(self.suite.admin.clone(), IDENTITIES)
    }

    /// Whether a person may list the nodes as the service account; what stops them must be that they may not act as it.
    pub async fn acts(&self, person: &str) -> anyhow::Result<bool> {
        acts_as(self.suite, person, &self.name).await
    }
}

/// A service account, and a policy to act as it.
pub struct Identity<'a> {
    pub place: &'a Place<'a>,
    /// The service account.
    pub account: Account<'a>,
    pub policy: String,
}

impl<'a> Identity<'a> {
    /// Makes everything that the policy's owner makes, and waits until the policy is ready.
    pub async fn prepare(place: &'a Place<'a>) -> anyhow::Result<Self> {
        let account = Account::named(place.suite, place.suite.fresh("robot"));
        account.make().await?;
        let policy = policy(place, &account).await?;
        place.ready(&policy).await?;
        Ok(Self {
            place,
            account,
            policy,
        })
    }

    /// Whether a person may act as the service account.
    pub async fn acts(&self, person: &str) -> anyhow::Result<bool> {
        self.account.acts(person).await
    }

    /// A person asks for the access.
    pub async fn ask(&self, person: &str, duration: &str) -> anyhow::Result<AccessGrant> {
        let asked = json!({"duration": duration, "entitlements": [{"name": "nodes"}]});
        self.place.ask(person, &self.policy, asked).await
    }

    /// A person has the access.
    pub async fn active(&self, person: &str, duration: &str) -> anyhow::Result<AccessGrant> {
        let asked = json!({"duration": duration, "entitlements": [{"name": "nodes"}]});
        self.place.active(person, &self.policy, asked).await
    }
}

pub async fn policy(place: &Place<'_>, account: &Account<'_>) -> anyhow::Result<String> {
    let nodes = json!({"entitlements": [account.entitlement()]});
    Ok(place.policy_unjudged(nodes).await?.name_any())
}

pub fn impersonation(names: &[&str]) -> Value {
    json!({"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": names, "verbs": ["impersonate"]})
}

pub async fn acts_as(suite: &Suite, person: &str, account: &str) -> anyhow::Result<bool> {
    let identity = format!("--as=system:serviceaccount:{IDENTITIES}:{account}");
    let command = suite.plane.kubectl_as(person, &["get", "nodes", &identity])?;
    let output = tokio::process::Command::from(command).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() || said.contains(" cannot impersonate"),
        "{said}"
    );
    Ok(output.status.success())
}

/// Everything made for a grant among the identities: kind and name.
pub async fn made_for(suite: &Suite, grant: &AccessGrant) -> anyhow::Result<Vec<String>> {
    let uid = grant.uid().context("no uid")?;
    let ours = ListParams::default().labels(&format!("{GRANT_UID_LABEL}={uid}"));
    let fuses = Api::<Job>::namespaced(suite.admin.clone(), IDENTITIES)
        .list(&ours)
        .await?;
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), IDENTITIES)
        .list(&ours)
        .await?;
    let fuses = fuses.iter().map(|fuse| format!("Job/{}", fuse.name_any()));
    let bindings = bindings
        .iter()
        .map(|binding| format!("RoleBinding/{}", binding.name_any()));
    Ok(fuses.chain(bindings).collect())
}

/// Waits until nothing made for a grant is left among the identities.
pub async fn nothing_left(suite: &Suite, grant: &AccessGrant) -> anyhow::Result<()> {
    eventually("nothing is left among the identities", SOON, async || {
        let left = made_for(suite, grant)
            .await
            .map_err(|error| format!("{error:#}"))?;
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(", "))
        }
    })
    .await
}

/// Waits until a grant is gone.
pub async fn gone(place: &Place<'_>, grant: &AccessGrant) -> anyhow::Result<()> {
    let grants = place.grants();
    eventually("the grant is gone", SOON, async || {
        match grants.get_opt(&grant.name_any()).await {
            Ok(None) => Ok(()),
            Ok(Some(grant)) => Err(format!("{:?}, {:?}", grant.metadata, grant.status)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

pub fn is_kept(grant: &AccessGrant) -> bool {
    grant
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == REVOKE_FINALIZER)
}
