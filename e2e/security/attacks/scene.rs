//! Scene of the attacks: a namespace with access in force, and people whose rights only the guards limit.

use anyhow::Context as _;
use curfew::api::{AccessGrant, AccessPolicy};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::attack::{Attack, Callers, Holds, Request, Who, at};
use crate::harness::eventually;
use crate::support::json::{CURFEW, RBAC};
use crate::support::manifests::{binding, create, user};
use crate::support::{Place, SOON, Suite};

/// A namespace with active access for alice: a fuse, a Role and a binding, all of one name.
///
/// Eve holds `edit` and bob holds `admin`. Both also hold every verb on Curfew's objects and on the status of Jobs, as
/// careless teams might grant it.
pub struct Ground<'a> {
    /// The namespace.
    pub place: Place<'a>,
    /// Name of the policy of alice's grant.
    pub policy: String,
    /// Alice's grant, as JSON.
    pub grant: Value,
    /// Name of the fuse, the Role and the binding.
    pub name: String,
    /// The fuse, as JSON without `resourceVersion`, `managedFields` and `status`.
    pub fuse: Value,
    /// The Role, in the same form.
    pub role: Value,
    /// The binding, in the same form.
    pub binding: Value,
}

impl<'a> Ground<'a> {
    /// Creates the scene with access for one hour, and waits until all rights are in force.
    pub async fn prepare(suite: &'a Suite) -> anyhow::Result<Self> {
        let place = suite.namespace().await?;
        people(&place).await?;
        let policy = place.policy(json!({})).await?.name_any();
        let access = access(&place, &policy, "1h").await?;
        let ground = access.on(place, policy).await?;
        ground.wait_for_rights().await?;
        Ok(ground)
    }

    /// Further access of alice in this namespace, for `duration`.
    pub async fn more(&self, duration: &str) -> anyhow::Result<Access> {
        access(&self.place, &self.policy, duration).await
    }

    /// A path in this namespace.
    pub fn at(&self, group_version: &str, rest: &str) -> String {
        at(group_version, &self.place.name, rest)
    }

    /// Path of the fuse, followed by `rest`, such as `/status`.
    pub fn fuse_at(&self, rest: &str) -> String {
        self.at("batch/v1", &format!("jobs/{}{rest}", self.name))
    }

    /// Path of the binding.
    pub fn binding_at(&self) -> String {
        self.at(RBAC, &format!("rolebindings/{}", self.name))
    }

    /// Path of the Role.
    pub fn role_at(&self) -> String {
        self.at(RBAC, &format!("roles/{}", self.name))
    }

    /// Path of the grant, followed by `rest`, such as `/status`.
    pub fn grant_at(&self, rest: &str) -> String {
        let name = self.grant["metadata"]["name"].as_str().unwrap_or_default();
        self.at(CURFEW, &format!("accessgrants/{name}{rest}"))
    }

    /// Grant that requests access under this policy with `person` as the true requester, then merged with `edit`.
    pub fn asking(&self, person: &str, edit: Value) -> Value {
        let mut grant = json!({
            "apiVersion": CURFEW, "kind": "AccessGrant", "metadata": {"name": "tried"},
            "spec": {"policyRef": {"name": self.policy}, "reason": "DEV-1 a good reason",
                "requester": user(person)},
        });
        crate::support::merge(&mut grant, edit);
        grant
    }

    /// Approval of this access with `person` as the true decider, then merged with `edit`.
    pub fn approving(&self, person: &str, edit: Value) -> Value {
        let mut decision = json!({
            "apiVersion": CURFEW, "kind": "AccessDecision", "metadata": {"name": "tried"},
            "spec": {
                "grantRef": {"name": self.grant["metadata"]["name"], "uid": self.grant["metadata"]["uid"]},
                "decision": "Approve", "accessHash": self.grant["status"]["resolved"]["hash"],
                "decider": user(person), "reason": "DEV-1 seen",
            },
        });
        crate::support::merge(&mut decision, edit);
        decision
    }

    /// User name of the ServiceAccount `default` of this namespace. Eve may impersonate it, because `edit` allows that.
    pub fn account(&self) -> String {
        format!("system:serviceaccount:{}:default", self.place.name)
    }

    /// Name of the elevation marker of this access. Only elevated access has one.
    pub fn mark(&self) -> String {
        format!("{}-elevated", self.name)
    }

    /// Makes carol `admin`, with the elevation marker that Curfew would create for her.
    ///
    /// # Caveats
    /// Only while no operator runs: an operator deletes artifacts that no grant records.
    pub async fn mark_carol(&self, callers: &Callers<'_>) -> anyhow::Result<()> {
        let mut mark = mark(self);
        mark["subjects"][0]["name"] = json!("carol");
        let operator = Who::AlmightyAs("system:serviceaccount:curfew-system:curfew".to_owned());
        let bindings = self.at(RBAC, "rolebindings");
        callers
            .ask(&operator, &Request::create(bindings.clone(), mark))
            .await??;
        let admin = Request::create(bindings.clone(), binding("carol", "admin", "carol"));
        callers.ask(&Who::Person("admin"), &admin).await??;
        let harmless = Attack {
            what: "deletes a binding of another person".to_owned(),
            who: Who::Person("carol"),
            request: Request::delete(format!("{bindings}/bob"), json!({})),
            holds: Holds::Harmless,
        };
        eventually("carol is admin", SOON, async || {
            callers.lets_through(&harmless).await
        })
        .await
    }

    /// Deletes the grant and waits until all its artifacts are gone.
    pub async fn done(self) -> anyhow::Result<()> {
        let name = self.grant["metadata"]["name"].as_str().unwrap_or_default();
        self.place.grants().delete(name, &DeleteParams::default()).await?;
        self.place.nothing_left().await
    }

    async fn wait_for_rights(&self) -> anyhow::Result<()> {
        let callers = Callers::new(self.place.suite);
        let label = json!({"metadata": {"labels": {"team": "payments"}}});
        for (who, path) in [
            (Who::Person("eve"), self.fuse_at("")),
            (Who::Person("eve"), self.grant_at("")),
            (Who::As("eve", self.account()), self.grant_at("")),
            (Who::Person("bob"), self.binding_at()),
            (Who::Stolen("curfew-sweep"), self.role_at()),
        ] {
            let attack = Attack {
                what: "adds a label".to_owned(),
                who,
                request: Request::merge(path, label.clone()),
                holds: Holds::Harmless,
            };
            eventually("RBAC allows the attackers their requests", SOON, async || {
                match callers.lets_through(&attack).await {
                    // A guard refuses the sweep's account. RBAC comes first, so RBAC has allowed the request.
                    Err(error) if error.contains("ValidatingAdmissionPolicy") => Ok(()),
                    other => other,
                }
            })
            .await?;
        }
        Ok(())
    }
}

/// Active access of one grant.
#[derive(Clone, Debug)]
pub struct Access {
    /// The grant, as it was when it became active.
    pub grant: AccessGrant,
    /// Name of the fuse, the Role and the binding.
    pub name: String,
    /// Uid of the fuse.
    pub fuse_uid: String,
}

impl Access {
    /// The scene with this access as the target of the attacks.
    pub async fn on(self, place: Place<'_>, policy: String) -> anyhow::Result<Ground<'_>> {
        let client = || place.suite.admin.clone();
        let fuse = Api::<Job>::namespaced(client(), &place.name)
            .get(&self.name)
            .await?;
        let role = Api::<Role>::namespaced(client(), &place.name)
            .get(&self.name)
            .await?;
        let binding = Api::<RoleBinding>::namespaced(client(), &place.name)
            .get(&self.name)
            .await?;
        let (mut fuse, mut role, mut binding) = (
            serde_json::to_value(fuse)?,
            serde_json::to_value(role)?,
            serde_json::to_value(binding)?,
        );
        for (object, kind, group_version) in [
            (&mut fuse, "Job", "batch/v1"),
            (&mut role, "Role", RBAC),
            (&mut binding, "RoleBinding", RBAC),
        ] {
            object["kind"] = json!(kind);
            object["apiVersion"] = json!(group_version);
            // Without a resourceVersion, a replace succeeds whatever changed meanwhile.
            crate::support::merge(
                object,
                json!({"metadata": {"resourceVersion": null, "managedFields": null}, "status": null}),
            );
        }
        let grant = place.grants().get(&self.grant.name_any()).await?;
        Ok(Ground {
            grant: serde_json::to_value(grant)?,
            name: self.name,
            place,
            policy,
            fuse,
            role,
            binding,
        })
    }

    /// Path of the fuse, Role or binding of this access; `kind` is the plural resource name.
    pub fn at(&self, place: &Place<'_>, group_version: &str, kind: &str) -> String {
        at(group_version, &place.name, &format!("{kind}/{}", self.name))
    }
}

async fn access(place: &Place<'_>, policy: &str, duration: &str) -> anyhow::Result<Access> {
    let request = json!({"duration": duration, "entitlements": [{"name": "read"}]});
    let grant = place.active("alice", policy, request).await?;
    let uid = grant.uid().context("the grant has no uid")?;
    let bindings = place.bindings().await?;
    let label = curfew::api::GRANT_UID_LABEL;
    let binding = bindings
        .into_iter()
        .find(|binding| binding.labels().get(label) == Some(&uid));
    let binding = binding.context("the grant has no RoleBinding")?;
    let fuse = binding
        .owner_references()
        .first()
        .context("the RoleBinding has no owner")?;
    Ok(Access {
        name: binding.name_any(),
        fuse_uid: fuse.uid.clone(),
        grant,
    })
}

/// Creates the rights of the attackers: eve, bob, an account that eve may impersonate, the operator and the sweep.
///
/// RBAC then allows the attacks, and only guards refuse them.
async fn people(place: &Place<'_>) -> anyhow::Result<()> {
    let admin = || place.suite.admin.clone();
    let secrets = Api::<Secret>::namespaced(admin(), &place.name);
    create(&secrets, json!({"metadata": {"name": "theirs"}})).await?;
    let more = json!({"metadata": {"name": "more"}, "rules": [
        {"apiGroups": ["access.curfew.dev"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["batch"], "resources": ["jobs/status"], "verbs": ["*"]},
    ]});
    create(&Api::<Role>::namespaced(admin(), &place.name), more).await?;
    let bindings = Api::<RoleBinding>::namespaced(admin(), &place.name);
    for user in ["eve", "bob"] {
        let mut more = binding(&format!("{user}-more"), "more", user);
        more["roleRef"]["kind"] = json!("Role");
        create(&bindings, more).await?;
    }
    let mut account = binding("account-more", "more", "default");
    account["roleRef"]["kind"] = json!("Role");
    account["subjects"] = json!([{"kind": "ServiceAccount", "name": "default", "namespace": place.name}]);
    create(&bindings, account).await?;
    create(&bindings, binding("eve", "edit", "eve")).await?;
    create(&bindings, binding("bob", "admin", "bob")).await?;
    // The operator holds what it may grant. The sweep gets too much, so that only guards limit both accounts.
    for account in ["curfew", "curfew-sweep"] {
        for (role, kind) in [("admin", "ClusterRole"), ("more", "Role")] {
            let mut rights = binding(&format!("rights-of-{account}-{role}"), role, account);
            rights["roleRef"]["kind"] = json!(kind);
            rights["subjects"] =
                json!([{"kind": "ServiceAccount", "name": account, "namespace": "curfew-system"}]);
            create(&bindings, rights).await?;
        }
    }
    Ok(())
}

/// Gives a person a ClusterRole with these rules, bound in the whole cluster.
pub async fn cluster_wide(suite: &Suite, person: &str, rules: Value) -> anyhow::Result<()> {
    let name = suite.fresh(person);
    create(
        &Api::<ClusterRole>::all(suite.admin.clone()),
        json!({"metadata": {"name": name}, "rules": rules}),
    )
    .await?;
    let mut cluster_binding = binding(&name, &name, person);
    cluster_binding["kind"] = json!("ClusterRoleBinding");
    create(
        &Api::<ClusterRoleBinding>::all(suite.admin.clone()),
        cluster_binding,
    )
    .await
}

/// Creates a policy as the administrator and waits until the operator has checked it.
///
/// After that, nothing changes the policy any more.
pub async fn policy(suite: &Suite, name: &str, spec: Value) -> anyhow::Result<AccessPolicy> {
    let policies = Api::<AccessPolicy>::all(suite.admin.clone());
    let policy = AccessPolicy::new(name, serde_json::from_value(spec)?);
    policies.create(&PostParams::default(), &policy).await?;
    let cluster = Place {
        suite,
        name: String::new(),
    };
    cluster.judged(name).await
}

pub fn anew(object: &Value, name: &str) -> Value {
    let mut copy = json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": {
            "name": name,
            "labels": {"access.curfew.dev/grant-uid": object["metadata"]["labels"]["access.curfew.dev/grant-uid"]},
            "annotations": object["metadata"]["annotations"],
            "ownerReferences": object["metadata"]["ownerReferences"],
        },
    });
    for part in ["spec", "roleRef", "subjects", "rules"] {
        if !object[part].is_null() {
            copy[part] = object[part].clone();
        }
    }
    copy
}

/// Elevation marker of this access, as Curfew creates it beside a binding.
pub fn mark(ground: &Ground<'_>) -> Value {
    let mut mark = anew(&ground.binding, &ground.mark());
    mark["roleRef"] =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "curfew-elevated"});
    mark
}
