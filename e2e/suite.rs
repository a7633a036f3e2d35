//! What the tests share: the control plane, the operator, and the words in which they speak of them.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::{
    AccessGrant, AccessGrantSpec, AccessPolicy, AccessPolicySpec, GRANT_UID_LABEL, conditions,
};
use curfew::core::GuardKind;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::guards;
use crate::harness::{Operator, OperatorOptions, Plane, eventually, fills_in_requesters, in_force};
use crate::planes::Needs;

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
        vec![$($crate::suite::Test {
            name: concat!(module_path!(), "::", stringify!($test)),
            run: |suite| Box::pin(async move { $test(&suite).await }),
            thorough: $thorough,
            needs: $crate::planes::Needs::$needs,
        }),*]
    };
    (
        $($test:ident),* $(,)?
        $(; busy: $($busy:ident),+ $(,)?)?
        $(; fresh: $($fresh:ident),+ $(,)?)?
        $(; thorough: $($more:ident),+ $(,)?)?
    ) => {
        /// The tests of this file.
        pub fn tests() -> Vec<$crate::suite::Test> {
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

/// The test bed.
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

/// The condition of that type.
pub fn condition<'a>(grant: &'a AccessGrant, type_: &str) -> Option<&'a Condition> {
    grant
        .status
        .as_ref()?
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

/// Merges JSON as a merge patch does (RFC 7386).
pub fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(&key);
                } else {
                    merge(target.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (target, patch) => *target = patch,
    }
}
