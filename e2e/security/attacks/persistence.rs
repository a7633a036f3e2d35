//! Attacks on persistence: elevated access is used to create something that would outlast it.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use super::attack::{Attack, Callers, Holds, Request, Who, at};
use super::scene::cluster_wide;
use crate::harness::eventually;
use crate::support::json::{CURFEW, RBAC};
use crate::support::manifests::{binding, create, role};
use crate::support::{Place, SOON, Suite};

/// Name of an elevation marker that this test creates by hand. Curfew names a marker after its fuse.
const MARK: &str = "marked";

/// Scene with two elevated people: alice is `admin` of a namespace, and dave holds similar rights in the whole cluster.
///
/// Bob is `admin` of the namespace permanently.
pub struct Elevated<'a> {
    /// The namespace of alice and bob.
    pub place: Place<'a>,
}

impl<'a> Elevated<'a> {
    /// Creates the scene and waits until the guards know the elevated people.
    pub async fn prepare(suite: &'a Suite) -> anyhow::Result<Self> {
        let place = suite.namespace().await?;
        let admin = || suite.admin.clone();
        let bindings = Api::<RoleBinding>::namespaced(admin(), &place.name);
        create(&Api::<Role>::namespaced(admin(), &place.name), role("theirs")).await?;
        for (name, role, user) in [
            ("alice", "admin", "alice"),
            (MARK, "curfew-elevated", "alice"),
            ("bob", "admin", "bob"),
            ("theirs", "view", "carol"),
        ] {
            create(&bindings, binding(name, role, user)).await?;
        }
        let annotations = json!({"kubernetes.io/service-account.name": "default"});
        let token = json!({"metadata": {"name": "theirs", "annotations": annotations},
            "type": "kubernetes.io/service-account-token"});
        let secrets = Api::<Secret>::namespaced(admin(), &place.name);
        eventually("the service account default exists", SOON, async || {
            create(&secrets, token.clone())
                .await
                .map_err(|error| error.to_string())
        })
        .await?;
        let rules = json!([
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles", "clusterrolebindings"],
             "verbs": ["get", "list", "create", "update", "patch", "bind", "escalate"]},
            {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests",
             "certificatesigningrequests/approval"], "verbs": ["get", "create", "update", "patch"]},
            {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "verbs": ["approve"]},
            {"apiGroups": ["access.curfew.dev"], "resources": ["accesspolicies"], "verbs": ["create", "update"]},
        ]);
        cluster_wide(suite, "dave", rules).await?;
        let mut cluster_marker = binding(&suite.fresh(MARK), "curfew-elevated", "dave");
        cluster_marker["kind"] = json!("ClusterRoleBinding");
        create(&Api::<ClusterRoleBinding>::all(admin()), cluster_marker).await?;
        let elevated = Self { place };
        elevated.wait_for_markers().await?;
        Ok(elevated)
    }

    async fn wait_for_markers(&self) -> anyhow::Result<()> {
        let callers = Callers::new(self.place.suite);
        for attack in self.attacks() {
            eventually(
                "the guards see the elevation markers",
                SOON,
                async || match callers.try_out(&attack).await {
                    Err(error) if error.contains("cannot") || error.contains("accepted") => Err(error),
                    _ => Ok(()),
                },
            )
            .await?;
        }
        Ok(())
    }

    fn at(&self, group_version: &str, rest: &str) -> String {
        at(group_version, &self.place.name, rest)
    }

    /// Attacks in the namespace: name, request and guard.
    fn in_the_namespace(&self) -> Vec<(&'static str, Request, &'static str)> {
        let token_secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kept",
            "annotations": {"kubernetes.io/service-account.name": "default"}},
            "type": "kubernetes.io/service-account-token"});
        let token = |seconds: u32| {
            Request::create(
                self.at("v1", "serviceaccounts/default/token"),
                json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                    "spec": {"audiences": [], "expirationSeconds": seconds}}),
            )
        };
        let theirs = |kind: &str| self.at(RBAC, &format!("{kind}/theirs"));
        let alice =
            json!({"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}]});
        let rules = json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
        let mut existing = token_secret.clone();
        existing["metadata"]["name"] = json!("theirs");
        let guard = "curfew-no-persistence";
        vec![
            (
                "binds a role to herself",
                Request::create(self.at(RBAC, "rolebindings"), binding("mine", "admin", "alice")),
                guard,
            ),
            (
                "binds a role to a friend",
                Request::create(self.at(RBAC, "rolebindings"), binding("mine", "view", "mallory")),
                guard,
            ),
            (
                "applies a binding",
                Request::apply(
                    self.at(RBAC, "rolebindings/mine"),
                    "helm",
                    binding("mine", "view", "alice"),
                ),
                guard,
            ),
            (
                "adds herself to an existing binding",
                Request::merge(theirs("rolebindings"), alice.clone()),
                guard,
            ),
            (
                "adds herself to an existing binding, by strategic patch",
                Request::strategic(theirs("rolebindings"), alice),
                guard,
            ),
            (
                "creates a Role",
                Request::create(self.at(RBAC, "roles"), role("mine")),
                guard,
            ),
            (
                "adds rules to an existing Role",
                Request::merge(theirs("roles"), rules),
                guard,
            ),
            ("requests a token for a year", token(8760 * 3600), guard),
            ("requests a token for ten minutes", token(600), guard),
            (
                "creates a token Secret",
                Request::create(self.at("v1", "secrets"), token_secret.clone()),
                "curfew-no-token-secrets",
            ),
            (
                "applies a token Secret",
                Request::apply(self.at("v1", "secrets/kept"), "helm", token_secret),
                "curfew-no-token-secrets",
            ),
            (
                "applies an existing token Secret, which renews its token",
                Request::apply(self.at("v1", "secrets/theirs"), "helm", existing),
                "curfew-no-token-secrets",
            ),
        ]
    }

    /// Attacks on cluster-scoped objects: name, request and guard.
    fn in_the_cluster() -> Vec<(&'static str, Request, &'static str)> {
        let mut cluster_binding = binding("mine", "view", "dave");
        cluster_binding["kind"] = json!("ClusterRoleBinding");
        let mut cluster_role = role("mine");
        cluster_role["kind"] = json!("ClusterRole");
        let policy = json!({"apiVersion": CURFEW, "kind": "AccessPolicy", "metadata": {"name": "mine"}, "spec": {
            "namespaceSelector": {}, "requesters": [{"kind": "User", "name": "dave"}], "path": "Automatic",
            "duration": {"max": "1h"},
            "entitlements": [{"name": "look", "role": {"kind": "ClusterRole", "name": "view"}}]}});
        let request = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "mine"}, "spec": {"request": REQUEST, "usages": ["client auth"],
            "signerName": "kubernetes.io/kube-apiserver-client"}});
        let guard = "curfew-no-persistence";
        vec![
            (
                "binds a role in the whole cluster",
                Request::create(at(RBAC, "", "clusterrolebindings"), cluster_binding),
                guard,
            ),
            (
                "creates a ClusterRole",
                Request::create(at(RBAC, "", "clusterroles"), cluster_role),
                guard,
            ),
            (
                "requests a certificate",
                Request::create(
                    at("certificates.k8s.io/v1", "", "certificatesigningrequests"),
                    request,
                ),
                guard,
            ),
            (
                "creates a policy that lets dave request access again",
                Request::create(at(CURFEW, "", "accesspolicies"), policy),
                guard,
            ),
        ]
    }

    /// All attacks of this family.
    pub fn attacks(&self) -> Vec<Attack> {
        let attack = |who: Who, (what, request, guard): (&str, Request, &'static str)| Attack {
            what: what.to_owned(),
            who,
            request,
            holds: Holds::Guard(
                guard,
                "it would outlast the access. Ask someone with permanent access",
            ),
        };
        let act_as_account =
            || Who::AlmightyAs("system:serviceaccount:curfew-identities:node-reader".to_owned());
        let mut attacks = Vec::new();
        for attempt in self.in_the_namespace() {
            attacks.push(attack(Who::Person("alice"), attempt.clone()));
            // A person acts as such an account only for a time. The guards thus treat every act-as account as elevated.
            attacks.push(attack(act_as_account(), attempt));
        }
        for attempt in Self::in_the_cluster() {
            attacks.push(attack(Who::Person("dave"), attempt.clone()));
            attacks.push(attack(act_as_account(), attempt));
        }
        attacks
    }

    /// Checks that the guards limit nobody else, and do not limit alice after her elevated access.
    ///
    /// # Errors
    /// The first refused request.
    pub async fn nobody_else_is_kept(&self) -> anyhow::Result<()> {
        let suite = self.place.suite;
        let callers = Callers::new(suite);
        let is_accepted = async |person: &'static str, request: Request| {
            let attempt = Attack {
                what: String::new(),
                who: Who::Person(person),
                request,
                holds: Holds::Harmless,
            };
            callers.lets_through(&attempt).await
        };
        for (what, request, _) in self.in_the_namespace() {
            for person in ["bob", "admin"] {
                is_accepted(person, request.clone())
                    .await
                    .map_err(|error| anyhow::anyhow!("{person} {what}: {error}"))?;
            }
        }
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plain"}});
        is_accepted("alice", Request::create(self.at("v1", "secrets"), secret))
            .await
            .map_err(anyhow::Error::msg)
            .context("alice creates an ordinary Secret")?;
        let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &self.place.name);
        bindings.delete(MARK, &DeleteParams::default()).await?;
        for (what, request, _) in self.in_the_namespace() {
            eventually(
                &format!("alice, not elevated any more, {what}"),
                SOON,
                async || is_accepted("alice", request.clone()).await,
            )
            .await?;
        }
        Ok(())
    }

    /// Deletes the elevation markers of dave, which hold in the whole cluster.
    pub async fn done(&self) -> anyhow::Result<()> {
        let bindings = Api::<ClusterRoleBinding>::all(self.place.suite.admin.clone());
        for binding in bindings.list(&ListParams::default()).await? {
            let name = binding.metadata.name.unwrap_or_default();
            if name.starts_with(MARK) {
                bindings.delete(&name, &DeleteParams::default()).await?;
            }
        }
        Ok(())
    }
}

/// Certificate signing request for `CN=dave`: PEM, encoded in base64.
const REQUEST: &str = include_str!("request.base64");
