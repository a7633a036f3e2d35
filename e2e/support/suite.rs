//! A test, and the plane that it runs on with Curfew installed.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, AccessGrantSpec, AccessPolicy};
use curfew::core::guard::GuardKind;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::{Operator, OperatorOptions, Plane, eventually, fills_in_requesters, in_force};
use crate::support::guards;
use crate::support::place::Place;
use crate::support::planes::Needs;

/// How long anything may take that is not a deadline of its own: long for a busy machine, short for a person.
pub const SOON: Duration = Duration::from_secs(15);

/// One test: its name is a sentence, its body owns its namespaces.
#[derive(Clone, Copy)]
pub struct Test {
    /// The sentence.
    pub name: &'static str,
    /// The body.
    pub run: fn(Arc<Suite>) -> Running,
    /// Whether it tries everything of which another test tries the most telling part, and takes its time for it.
    pub thorough: bool,
    /// The control plane that it needs.
    pub needs: Needs,
}

/// The same tests; those that would share a plane have other needs.
pub fn needing(needs: Needs, mut tests: Vec<Test>) -> Vec<Test> {
    for test in &mut tests {
        if test.needs == Needs::Shared {
            test.needs = needs;
        }
    }
    tests
}

/// A test under way.
pub type Running = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// A list of [`Test`]s by the functions' names. Those after `busy:` have the machine for themselves, those after
/// `fresh:` a plane that nobody else uses before or after. Those after `thorough:` are left out unless they are asked for.
#[macro_export]
macro_rules! tests {
    (@each $thorough:literal, $needs:ident, $($test:ident),*) => {
        vec![$($crate::support::suite::Test {
            name: concat!(module_path!(), "::", stringify!($test)),
            run: |suite| Box::pin(async move { $test(&suite).await }),
            thorough: $thorough,
            needs: $crate::support::planes::Needs::$needs,
        }),*]
    };
    (
        $($test:ident),* $(,)?
        $(; busy: $($busy:ident),+ $(,)?)?
        $(; fresh: $($fresh:ident),+ $(,)?)?
        $(; thorough: $($more:ident),+ $(,)?)?
    ) => {
        /// The tests of this file.
        pub fn tests() -> Vec<$crate::support::suite::Test> {
            [
                $crate::tests!(@each false, Shared, $($test),*),
                $($crate::tests!(@each false, Busy, $($busy),+),)?
                $($crate::tests!(@each false, Fresh, $($fresh),+),)?
                $($crate::tests!(@each true, Shared, $($more),+))?
            ]
            .concat()
        }
    };
}

/// A plane with Curfew installed, and how tests use it.
pub struct Suite {
    /// The control plane.
    pub plane: Plane,
    operator: Option<Operator>,
    /// The operator's executable.
    pub binary: PathBuf,
    /// Talks to the API server as its administrator.
    pub admin: Client,
    /// Whether tests run side by side on it: whoever takes a guard away would disturb the others.
    crowded: bool,
    /// Whether the API server fills in who asks; otherwise whoever asks states it.
    pub fills_in: bool,
    names: AtomicUsize,
}

impl Suite {
    /// Ends whatever requests the tests so far have left, those that wait for people among them: each operator that is
    /// started later would look after them, and try the guards in all of their namespaces. Their policies go as well,
    /// which it would judge, all of them.
    pub async fn clear(&self) -> anyhow::Result<()> {
        let all = Api::<AccessGrant>::all(self.admin.clone());
        for grant in all.list(&ListParams::default()).await? {
            let namespace = grant.namespace().unwrap_or_default();
            let grants = Api::<AccessGrant>::namespaced(self.admin.clone(), &namespace);
            let deleted = grants
                .delete(&grant.name_any(), &DeleteParams::background())
                .await;
            if let Err(error) = deleted
                && !matches!(&error, kube::Error::Api(status) if status.code == 404)
            {
                return Err(error).with_context(|| format!("cannot delete {namespace}/{}", grant.name_any()));
            }
        }
        let policies = Api::<AccessPolicy>::all(self.admin.clone());
        policies
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await?;
        eventually("no grant is left", 4 * SOON, async || {
            let left = all.list_metadata(&ListParams::default()).await;
            match left.map_err(|error| error.to_string())?.items.as_slice() {
                [] => Ok(()),
                [one, ..] => Err(format!("{:?} {:?}", one.metadata.namespace, one.metadata.name)),
            }
        })
        .await
    }

    /// A plane on which Curfew is installed, with an operator or without; it may be shared at the same time.
    pub async fn on(plane: Plane, operator: bool, crowded: bool) -> anyhow::Result<Self> {
        in_force(&plane).await?;
        let fills_in = fills_in_requesters(&plane).await?;
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_curfew"));
        let admin = plane.admin().await?;
        let operator = if operator {
            Some(Operator::start(&plane, &binary, OperatorOptions::default()).await?)
        } else {
            None
        };
        Ok(Self {
            plane,
            operator,
            binary,
            admin,
            crowded,
            fills_in,
            names: AtomicUsize::new(0),
        })
    }

    /// The operator that the plane was given with.
    pub fn operator(&self) -> anyhow::Result<&Operator> {
        self.operator
            .as_ref()
            .context("this plane has no operator but those that a test starts")
    }

    /// Does what a guard refuses, while it is away: what the operator makes of that is a second line of defence. Nothing is
    /// given anywhere meanwhile, and whoever asks is refused.
    pub async fn unguarded<T>(
        &self,
        guard: &str,
        deed: impl Future<Output = kube::Result<T>>,
    ) -> anyhow::Result<T> {
        ensure!(
            !self.crowded,
            "{guard} is taken away while other tests run: this test has to run alone"
        );
        let away = guards::installed()?
            .into_iter()
            .find(|candidate| candidate.kind == GuardKind::ValidatingBinding && candidate.name == guard)
            .context("no such guard")?;
        let bindings = guards::api_of(away.kind, self.admin.clone());
        bindings.delete(guard, &DeleteParams::default()).await?;
        eventually("the guard is away", SOON, async || {
            match guards::holds(&self.admin, guard).await {
                Ok(()) => Err("it holds".to_owned()),
                Err(_) => Ok(()),
            }
        })
        .await?;
        let done = deed.await;
        let back = serde_json::from_value(away.manifest)?;
        bindings.create(&PostParams::default(), &back).await?;
        eventually("the guard is back", SOON, async || {
            guards::holds(&self.admin, guard).await
        })
        .await?;
        Ok(done?)
    }

    /// A grant with this spec, as that client has to write it here: it states who asks where the API server does not
    /// fill that in, as `kubectl auth whoami` prints it.
    pub async fn grant_by(&self, client: &Client, mut spec: Value) -> anyhow::Result<AccessGrant> {
        self.state_who(client, &mut spec, "requester").await?;
        let spec: AccessGrantSpec = serde_json::from_value(spec)?;
        Ok(AccessGrant::new(&self.fresh("grant"), spec))
    }

    /// States in a field of a spec whose client that is, where the API server does not fill it in.
    pub async fn state_who(&self, client: &Client, spec: &mut Value, field: &str) -> anyhow::Result<()> {
        if !self.fills_in && spec[field].is_null() {
            let me = Api::<SelfSubjectReview>::all(client.clone())
                .create(&PostParams::default(), &SelfSubjectReview::default())
                .await?;
            let me = me.status.and_then(|status| status.user_info).context("nobody")?;
            spec[field] = json!({"username": me.username, "groups": me.groups});
        }
        Ok(())
    }

    /// A name nobody has used.
    pub fn fresh(&self, kind: &str) -> String {
        format!("{kind}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// A new namespace in which everybody in group devs may ask.
    pub async fn namespace(&self) -> anyhow::Result<Place<'_>> {
        let name = self.fresh("ns");
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"place": name}},
        }))?;
        Api::<Namespace>::all(self.admin.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": "requesters"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "curfew-requester"},
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "devs"},
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "leads"},
            ],
        }))?;
        let bindings = Api::<RoleBinding>::namespaced(self.admin.clone(), &name);
        bindings.create(&PostParams::default(), &binding).await?;
        Ok(Place { suite: self, name })
    }
}

/// What the operator may hand out in these tests.
pub async fn grantable(admin: &Client) -> anyhow::Result<()> {
    let role: ClusterRole = serde_json::from_value(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": "curfew-grantable-tests",
            "labels": {"access.curfew.dev/aggregate-to-grantable": "true"},
        },
        "rules": [
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
             "resourceNames": ["view"], "verbs": ["bind"]},
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["bind"]},
            {"apiGroups": [""], "resources": ["pods", "configmaps"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]},
        ],
    }))?;
    let roles = Api::<ClusterRole>::all(admin.clone());
    roles.create(&PostParams::default(), &role).await?;
    eventually("what the operator may hand out is aggregated", SOON, async || {
        let role = roles
            .get("curfew-grantable")
            .await
            .map_err(|error| error.to_string())?;
        let count = role.rules.unwrap_or_default().len();
        if count >= 4 {
            Ok(())
        } else {
            Err(format!("{count} rules"))
        }
    })
    .await
}
