//! Making, while one holds access for a time, what would outlast it.

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

/// The mark, as a hand makes it: where Curfew makes one, its name is the fuse's.
const MARK: &str = "marked";

/// A namespace in which alice is `admin` for a time, bob for good, and dave something like it for a time everywhere.
pub struct Elevated<'a> {
    /// The namespace.
    pub place: Place<'a>,
}

impl<'a> Elevated<'a> {
    /// Makes it.
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
        eventually("the default account is there", SOON, async || {
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
        let mut everywhere = binding(&suite.fresh(MARK), "curfew-elevated", "dave");
        everywhere["kind"] = json!("ClusterRoleBinding");
        create(&Api::<ClusterRoleBinding>::all(admin()), everywhere).await?;
        let elevated = Self { place };
        elevated.rights_have_come().await?;
        Ok(elevated)
    }

    async fn rights_have_come(&self) -> anyhow::Result<()> {
        let callers = Callers::new(self.place.suite);
        for attack in self.attacks() {
            eventually("the mark is seen", SOON, async || {
                match callers.try_out(&attack).await {
                    Err(error) if error.contains("cannot") || error.contains("accepted") => Err(error),
                    _ => Ok(()),
                }
            })
            .await?;
        }
        Ok(())
    }

    fn at(&self, group_version: &str, rest: &str) -> String {
        at(group_version, &self.place.name, rest)
    }

    /// The attacks in the namespace.
    fn here(&self) -> Vec<(&'static str, Request, &'static str)> {
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
        let mut owned = token_secret.clone();
        owned["metadata"]["name"] = json!("theirs");
        let souvenirs = "curfew-no-souvenirs";
        vec![
            (
                "binds a role to herself",
                Request::create(self.at(RBAC, "rolebindings"), binding("mine", "admin", "alice")),
                souvenirs,
            ),
            (
                "binds a role to a friend",
                Request::create(self.at(RBAC, "rolebindings"), binding("mine", "view", "mallory")),
                souvenirs,
            ),
            (
                "applies a binding",
                Request::apply(
                    self.at(RBAC, "rolebindings/mine"),
                    "helm",
                    binding("mine", "view", "alice"),
                ),
                souvenirs,
            ),
            (
                "joins a binding of others",
                Request::merge(theirs("rolebindings"), alice.clone()),
                souvenirs,
            ),
            (
                "joins a binding of others, as kubectl edit does",
                Request::strategic(theirs("rolebindings"), alice),
                souvenirs,
            ),
            (
                "makes a Role",
                Request::create(self.at(RBAC, "roles"), role("mine")),
                souvenirs,
            ),
            (
                "widens a Role of others",
                Request::merge(theirs("roles"), rules),
                souvenirs,
            ),
            ("makes a token for a year", token(8760 * 3600), souvenirs),
            ("makes a token for ten minutes", token(600), souvenirs),
            (
                "makes a Secret that becomes a token",
                Request::create(self.at("v1", "secrets"), token_secret.clone()),
                "curfew-no-token-secrets",
            ),
            (
                "applies a Secret that becomes a token",
                Request::apply(self.at("v1", "secrets/kept"), "helm", token_secret),
                "curfew-no-token-secrets",
            ),
            (
                "has the token of others filled in anew",
                Request::apply(self.at("v1", "secrets/theirs"), "helm", owned),
                "curfew-no-token-secrets",
            ),
        ]
    }

    /// The attacks outside of any namespace.
    fn everywhere() -> Vec<(&'static str, Request, &'static str)> {
        let mut bound = binding("mine", "view", "dave");
        bound["kind"] = json!("ClusterRoleBinding");
        let mut wide = role("mine");
        wide["kind"] = json!("ClusterRole");
        let policy = json!({"apiVersion": CURFEW, "kind": "AccessPolicy", "metadata": {"name": "mine"}, "spec": {
            "namespaceSelector": {}, "requesters": [{"kind": "User", "name": "dave"}], "path": "Automatic",
            "duration": {"max": "1h"},
            "entitlements": [{"name": "look", "role": {"kind": "ClusterRole", "name": "view"}}]}});
        let request = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "mine"}, "spec": {"request": REQUEST, "usages": ["client auth"],
            "signerName": "kubernetes.io/kube-apiserver-client"}});
        let souvenirs = "curfew-no-souvenirs";
        vec![
            (
                "binds a role everywhere",
                Request::create(at(RBAC, "", "clusterrolebindings"), bound),
                souvenirs,
            ),
            (
                "makes a ClusterRole",
                Request::create(at(RBAC, "", "clusterroles"), wide),
                souvenirs,
            ),
            (
                "asks for a certificate",
                Request::create(
                    at("certificates.k8s.io/v1", "", "certificatesigningrequests"),
                    request,
                ),
                souvenirs,
            ),
            (
                "writes a policy under which there will be access again",
                Request::create(at(CURFEW, "", "accesspolicies"), policy),
                souvenirs,
            ),
        ]
    }

    /// The attacks.
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
        let identity = || Who::AlmightyAs("system:serviceaccount:curfew-identities:node-reader".to_owned());
        let mut attacks = Vec::new();
        for tried in self.here() {
            attacks.push(attack(Who::Person("alice"), tried.clone()));
            // Whoever acts as an identity does so for a time, with whatever rights.
            attacks.push(attack(identity(), tried));
        }
        for tried in Self::everywhere() {
            attacks.push(attack(Who::Person("dave"), tried.clone()));
            attacks.push(attack(identity(), tried));
        }
        attacks
    }

    /// That others are not disturbed meanwhile, and alice is not when her time is over.
    pub async fn nobody_else_is_kept(&self) -> anyhow::Result<()> {
        let suite = self.place.suite;
        let callers = Callers::new(suite);
        let may = async |person: &'static str, request: Request| {
            let deed = Attack {
                what: String::new(),
                who: Who::Person(person),
                request,
                holds: Holds::Harmless,
            };
            callers.lets_through(&deed).await
        };
        for (what, request, _) in self.here() {
            for person in ["bob", "admin"] {
                may(person, request.clone())
                    .await
                    .map_err(|error| anyhow::anyhow!("{person} {what}: {error}"))?;
            }
        }
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plain"}});
        may("alice", Request::create(self.at("v1", "secrets"), secret))
            .await
            .map_err(anyhow::Error::msg)
            .context("an ordinary Secret")?;
        let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &self.place.name);
        bindings.delete(MARK, &DeleteParams::default()).await?;
        for (what, request, _) in self.here() {
            eventually(&format!("alice {what} afterwards"), SOON, async || {
                may("alice", request.clone()).await
            })
            .await?;
        }
        Ok(())
    }

    /// Takes from dave what he has everywhere.
    pub async fn done(&self) -> anyhow::Result<()> {
        let bindings = Api::<ClusterRoleBinding>::all(self.place.suite.admin.clone());
        for bound in bindings.list(&ListParams::default()).await? {
            let name = bound.metadata.name.unwrap_or_default();
            if name.starts_with(MARK) {
                bindings.delete(&name, &DeleteParams::default()).await?;
            }
        }
        Ok(())
    }
}

/// A certificate signing request for `CN=dave`, in PEM and base64.
const REQUEST: &str = include_str!("request.base64");
