//! Where the tests of faults happen: namespaces of their own under one policy, so that an operator that starts again
//! has little to judge.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use curfew::api::{AccessGrant, AccessGrantSpec, AccessPolicy, AccessPolicySpec, ArtifactKind};
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::journal::{Journal, Piece, Tale};
use super::verdict::Verdict;
use crate::harness::{Exchange, Operator, OperatorOptions, Proxy, eventually};
use crate::support::act_as::Account;
use crate::support::decisions::team;
use crate::support::{Place, SOON, Suite, merge};

/// The reason everybody gives.
const REASON: &str = "to see what a fault does to it";

/// How many different people get access: decisions about one of them under one policy wait for each other.
const SUBJECTS: usize = 64;

/// Namespaces under one policy, and the journal of everything in them.
pub struct Ground<'a> {
    /// The suite.
    pub suite: &'a Suite,
    /// The namespaces.
    pub places: Vec<Place<'a>>,
    /// The label `ground` of the namespaces.
    pub label: String,
    /// The policy: `look` (a role) and `read` (rules), for the administrator.
    pub policy: String,
    /// What happened.
    pub journal: Journal,
    asked: AtomicUsize,
}

/// A grant that was asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Asked {
    /// The grant, as far as a decision about it needs to know it.
    pub fn as_grant(&self) -> AccessGrant {
        let mut grant = AccessGrant::new(&self.name, AccessGrantSpec::default());
        grant.metadata.uid = Some(self.uid.clone());
        grant
    }
}

impl<'a> Ground<'a> {
    /// Makes that many namespaces and a policy for them, changed by `edit`; waits until an operator has judged it, and
    /// ends that operator.
    pub async fn prepare(suite: &'a Suite, namespaces: usize, edit: Value) -> anyhow::Result<Self> {
        let label = suite.fresh("ground");
        let places = try_join_all((0..namespaces).map(|_| namespace(suite, &label))).await?;
        let policy = suite.fresh("policy");
        make_policy(suite, &policy, &label, edit).await?;
        let journal = Journal::begin(suite.plane.admin().await?).await?;
        let ground = Self {
            suite,
            places,
            label,
            policy,
            journal,
            asked: AtomicUsize::new(0),
        };
        let operator = ground.operator(None).await?;
        ground.policy_is_ready(&ground.policy).await?;
        operator.kill9().await?;
        Ok(ground)
    }

    /// Like [`Self::prepare`], with a policy that asks bob about what lasts longer than twenty minutes.
    pub async fn with_deciders(suite: &'a Suite, namespaces: usize) -> anyhow::Result<Self> {
        let edit = json!({"path": "SelfServe", "approval": {
            "requiredWhen": "request.duration > duration('20m')",
            "stages": [team()],
        }});
        let ground = Self::prepare(suite, namespaces, edit).await?;
        let bob = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"});
        try_join_all(
            ground
                .places
                .iter()
                .map(|place| place.bind("curfew-approver", &bob)),
        )
        .await?;
        Ok(ground)
    }

    /// Starts an operator, through a proxy or not; returns when it is ready.
    pub async fn operator(&self, via: Option<&Proxy>) -> anyhow::Result<Operator> {
        let options = OperatorOptions {
            via: via.map(Proxy::url),
            ..OperatorOptions::default()
        };
        Operator::start(&self.suite.plane, &self.suite.binary, options).await
    }

    /// A proxy before the API server.
    pub fn proxy(&self) -> anyhow::Result<Proxy> {
        Proxy::start(&self.suite.plane.url(), &self.suite.plane.ca_pem()?)
    }

    /// The place of a grant.
    pub fn place_of(&self, asked: &Asked) -> anyhow::Result<&Place<'a>> {
        let here = |place: &&Place<'_>| place.name == asked.namespace;
        self.places.iter().find(here).context("a grant of another ground")
    }

    /// The name of a namespace.
    pub fn namespace(&self, number: usize) -> anyhow::Result<&str> {
        Ok(&self.places.get(number).context("not so many namespaces")?.name)
    }

    /// The administrator asks, with more fields of the spec as `more`.
    pub async fn ask(&self, namespace: &str, more: Value) -> anyhow::Result<Asked> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed) % SUBJECTS;
        let subject = json!({"kind": "User", "name": format!("subject-{number}")});
        let mut spec = json!({"policyRef": {"name": self.policy}, "reason": REASON, "subject": subject});
        merge(&mut spec, more);
        let grant = self.suite.grant_by(&self.suite.admin, spec).await?;
        let grants = Api::<AccessGrant>::namespaced(self.suite.admin.clone(), namespace);
        let made = grants
            .create(&PostParams::default(), &grant)
            .await
            .context("cannot ask")?;
        let uid = made.uid().context("a grant without a uid")?;
        Ok(Asked {
            namespace: namespace.to_owned(),
            name: made.name_any(),
            uid,
        })
    }

    /// Asks so often, as many at once as an API server likes.
    pub async fn many<F: Future<Output = anyhow::Result<Asked>>>(
        &self,
        count: usize,
        ask: impl Fn(usize) -> F,
    ) -> anyhow::Result<Vec<Asked>> {
        const AT_ONCE: usize = 50;
        stream::iter((0..count).map(ask))
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Waits until a grant's tale is as wanted.
    pub async fn told(
        &self,
        asked: &Asked,
        what: &str,
        wanted: impl Fn(&Tale) -> bool,
    ) -> anyhow::Result<Tale> {
        eventually(&format!("{}: {what}", asked.name), 2 * SOON, async || {
            let tale = self.journal.tale(&asked.uid);
            if wanted(&tale) {
                Ok(tale)
            } else {
                Err(format!("{} (gone: {})", tale.state(), tale.gone))
            }
        })
        .await
    }

    /// Waits until a grant's access has been in force.
    pub async fn is_active(&self, asked: &Asked) -> anyhow::Result<Tale> {
        self.told(asked, "its access comes into force", Tale::was_active)
            .await
    }

    /// Waits until a grant has ended because its time was over, and nothing of it is left.
    pub async fn expired(&self, asked: &Asked) -> anyhow::Result<Tale> {
        let tale = self
            .told(asked, "it expires", |tale| tale.state() == "Expired")
            .await?;
        self.nothing_left(asked).await?;
        Ok(tale)
    }

    /// Judges a grant that is over, whose access had to be gone by then.
    pub fn judge(&self, asked: &Asked, gone_by: Timestamp) -> anyhow::Result<()> {
        Verdict {
            uid: &asked.uid,
            gone_by,
            late_writes: false,
        }
        .check(&self.journal)
    }

    /// Waits until nothing that was made for a grant is left.
    pub async fn nothing_left(&self, asked: &Asked) -> anyhow::Result<()> {
        let what = format!("nothing of {} is left", asked.name);
        eventually(&what, SOON, async || self.left(asked, |_| true)).await
    }

    /// Waits until nothing that was made for a grant gives access any more.
    pub async fn nothing_left_of_access(&self, asked: &Asked) -> anyhow::Result<()> {
        let what = format!("the access of {} is gone", asked.name);
        let gives_access = |kind| kind != ArtifactKind::Job;
        eventually(&what, 4 * SOON, async || self.left(asked, gives_access)).await
    }

    /// Fails with what is left, of these kinds, of everything that was made for a grant.
    fn left(&self, asked: &Asked, of_kind: impl Fn(ArtifactKind) -> bool) -> Result<(), String> {
        let pieces = self.journal.pieces(&asked.uid).into_iter();
        let left: Vec<_> = pieces
            .filter(|piece| piece.gone_at.is_none() && of_kind(piece.kind))
            .map(|piece| format!("{:?} {}", piece.kind, piece.name))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(", "))
        }
    }

    /// Waits until a grant has no finalizer any more.
    pub async fn is_let_go(&self, asked: &Asked) -> anyhow::Result<()> {
        let grants = Api::<AccessGrant>::namespaced(self.suite.admin.clone(), &asked.namespace);
        eventually(&format!("{} is let go", asked.name), SOON, async || {
            let grant = grants.get(&asked.name).await.map_err(|error| error.to_string())?;
            match grant.finalizers() {
                [] => Ok(()),
                left => Err(left.join(", ")),
            }
        })
        .await
    }

    /// Waits until nothing stands that is not recorded, such as the fuse of an operator that died before its record.
    pub async fn no_strays(&self, asked: &Asked) -> anyhow::Result<()> {
        eventually(
            &format!("nothing of {} is left that nobody recorded", asked.name),
            SOON,
            async || {
                let tale = self.journal.tale(&asked.uid);
                let recorded = tale
                    .versions
                    .last()
                    .map(|version| version.recorded.clone())
                    .unwrap_or_default();
                let mut pieces = self.journal.pieces(&asked.uid);
                pieces.retain(|piece| {
                    piece.gone_at.is_none() && !recorded.contains(&(piece.kind, piece.name.clone()))
                });
                if pieces.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{pieces:?}"))
                }
            },
        )
        .await
    }

    /// Waits until no namespace holds anything with our label, by lists and not by the journal's watches.
    pub async fn nothing_left_anywhere(&self) -> anyhow::Result<()> {
        try_join_all(self.places.iter().map(Place::nothing_left))
            .await
            .map(drop)
    }

    /// Deletes a grant, as an administrator does.
    pub async fn delete(&self, asked: &Asked) -> anyhow::Result<Timestamp> {
        let grants = Api::<AccessGrant>::namespaced(self.suite.admin.clone(), &asked.namespace);
        grants.delete(&asked.name, &DeleteParams::background()).await?;
        Ok(Timestamp::now())
    }

    /// Deletes a grant's binding by hand.
    pub async fn delete_binding(&self, asked: &Asked) -> anyhow::Result<Timestamp> {
        let binding = self.piece(asked, ArtifactKind::RoleBinding)?;
        let bindings = Api::<RoleBinding>::namespaced(self.suite.admin.clone(), &asked.namespace);
        bindings.delete(&binding.name, &DeleteParams::default()).await?;
        Ok(Timestamp::now())
    }

    /// Something that was made for a grant.
    pub fn piece(&self, asked: &Asked, kind: ArtifactKind) -> anyhow::Result<Piece> {
        let mut pieces = self.journal.pieces(&asked.uid).into_iter();
        pieces
            .find(|piece| piece.kind == kind)
            .with_context(|| format!("{} has no {kind:?}", asked.name))
    }

    /// Waits until the API server, started again, serves grants: it says that it is ready before it does.
    pub async fn grants_are_served(&self) -> anyhow::Result<()> {
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let spec = json!({"policyRef": {"name": self.policy}, "reason": REASON});
        let probe = self.suite.grant_by(&self.suite.admin, spec).await?;
        let grants = Api::<AccessGrant>::namespaced(self.suite.admin.clone(), self.namespace(0)?);
        eventually("grants are served", 2 * SOON, async || {
            let made = grants.create(&dry_run, &probe).await;
            made.map(drop).map_err(|error| error.to_string())
        })
        .await
    }

    /// Waits until a policy may be used.
    pub async fn policy_is_ready(&self, name: &str) -> anyhow::Result<()> {
        let policies = Api::<AccessPolicy>::all(self.suite.admin.clone());
        eventually("the policy is ready", 2 * SOON, async || {
            let policy = policies.get(name).await.map_err(|error| error.to_string())?;
            let status = policy.status.unwrap_or_default();
            let ready = status
                .conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.status == "True");
            if ready {
                Ok(())
            } else {
                Err(format!("{:?}", status.conditions))
            }
        })
        .await
    }
}

async fn namespace<'a>(suite: &'a Suite, label: &str) -> anyhow::Result<Place<'a>> {
    let name = suite.fresh("faults");
    let namespace: Namespace = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"ground": label}},
    }))?;
    Api::<Namespace>::all(suite.admin.clone())
        .create(&PostParams::default(), &namespace)
        .await?;
    Ok(Place { suite, name })
}

/// Makes a policy for the namespaces with that label.
pub async fn make_policy(suite: &Suite, name: &str, label: &str, edit: Value) -> anyhow::Result<()> {
    let mut spec = json!({
        "namespaceSelector": {"matchLabels": {"ground": label}},
        "requesters": [{"kind": "User", "name": "admin"}],
        "subjects": (0..SUBJECTS).map(|n| json!({"kind": "User", "name": format!("subject-{n}")})).collect::<Vec<_>>(),
        "path": "Automatic",
        "duration": {"max": "1h"},
        "limits": {"activePerSubject": 1000, "pendingPerRequester": 1000},
        "entitlements": [
            {"name": "look", "selection": "Default", "role": {"kind": "ClusterRole", "name": "view"}},
            {"name": "read", "rules": {"items": [
                {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
            ]}},
        ],
    });
    merge(&mut spec, edit);
    let spec: AccessPolicySpec = serde_json::from_value(spec)?;
    let policies = Api::<AccessPolicy>::all(suite.admin.clone());
    policies
        .create(&PostParams::default(), &AccessPolicy::new(name, spec))
        .await?;
    Ok(())
}

/// A ground whose policy lets people act as a service account, too.
pub async fn identity(suite: &Suite) -> anyhow::Result<Ground<'_>> {
    let account = Account::named(suite, suite.fresh("robot"));
    account.make().await?;
    let look =
        json!({"name": "look", "selection": "Default", "role": {"kind": "ClusterRole", "name": "view"}});
    Ground::prepare(suite, 2, json!({"entitlements": [look, account.entitlement()]})).await
}

/// The method and the resource.
pub fn what(exchange: &Exchange) -> String {
    let resource = exchange
        .path
        .split("/namespaces/")
        .nth(1)
        .and_then(|rest| rest.split('/').nth(1));
    format!("{} {}", exchange.method, resource.unwrap_or("namespaces"))
}
