//! Objects that nobody expects: odd ones that the schema admits, and such as only another version of it can have let
//! through. None of them delays another, and the operator neither ends nor waits for somebody to clear up.

use anyhow::{Context as _, ensure};
use curfew::api::{AccessDecision, AccessGrant, AccessPolicy};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::{Value, json};

use super::lags::Lags;
use super::scene::{Asked, Ground};
use super::verdict::PROMISE;
use crate::harness::{Operator, eventually};
use crate::support::{SOON, Suite, merge};
use crate::tests;

tests![
    what_is_odd_and_admitted_delays_no_other,
    what_this_version_cannot_read_delays_no_other,
    access_whose_record_cannot_be_read_any_more_ends_on_time,
];

/// How long an end may take with all of them there; the promise.
const ON_TIME: SignedDuration = PROMISE;

/// One object, and what is odd about it.
struct Poison {
    what: &'static str,
    resource: ApiResource,
    /// None: of the cluster.
    namespace: Option<String>,
    spec: Value,
    annotations: Value,
}

impl Poison {
    /// A grant that is like any other but for this.
    fn grant(ground: &Ground<'_>, what: &'static str, odd: Value) -> anyhow::Result<Self> {
        let mut spec = json!({
            "policyRef": {"name": ground.policy},
            "reason": "to see what the odd does to the others",
            "requester": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
        });
        merge(&mut spec, odd);
        Ok(Self {
            what,
            resource: ApiResource::erase::<AccessGrant>(&()),
            namespace: Some(ground.namespace(0)?.to_owned()),
            spec,
            annotations: json!({}),
        })
    }

    /// A policy that is like any other but for this.
    fn policy(ground: &Ground<'_>, what: &'static str, odd: Value) -> Self {
        let mut spec = json!({
            "namespaceSelector": {"matchLabels": {"ground": ground.label}},
            "requesters": [{"kind": "User", "name": "admin"}],
            "path": "Automatic",
            "duration": {"max": "1h"},
            "entitlements": [
                {"name": "look", "selection": "Default", "role": {"kind": "ClusterRole", "name": "view"}},
            ],
        });
        merge(&mut spec, odd);
        Self {
            what,
            resource: ApiResource::erase::<AccessPolicy>(&()),
            namespace: None,
            spec,
            annotations: json!({}),
        }
    }

    /// A decision about a grant that is like any other but for this.
    fn decision(ground: &Ground<'_>, about: &Asked, what: &'static str, odd: Value) -> anyhow::Result<Self> {
        let mut spec = json!({
            "grantRef": {"name": about.name, "uid": about.uid},
            "decision": "Deny",
            "reason": "to see what the odd does to the others",
            "decider": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
        });
        merge(&mut spec, odd);
        Ok(Self {
            what,
            resource: ApiResource::erase::<AccessDecision>(&()),
            namespace: Some(ground.namespace(0)?.to_owned()),
            spec,
            annotations: json!({}),
        })
    }

    fn annotated(mut self, annotations: Value) -> Self {
        self.annotations = annotations;
        self
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource),
            None => Api::all_with(client.clone(), &self.resource),
        }
    }

    /// Creates it, and answers its name, unless it is refused: then it can do no harm.
    async fn write(&self, suite: &Suite) -> anyhow::Result<Option<String>> {
        let name = suite.fresh("odd");
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": self.resource.api_version, "kind": self.resource.kind,
            "metadata": {"name": name, "annotations": self.annotations}, "spec": self.spec,
        }))?;
        match self
            .api(&suite.admin)
            .create(&PostParams::default(), &object)
            .await
        {
            Ok(_) => Ok(Some(name)),
            Err(kube::Error::Api(status)) if status.code == 422 => {
                let why: String = status.message.chars().take(200).collect();
                println!("  {} with {} is refused: {why}", self.resource.kind, self.what);
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("{} with {}", self.resource.kind, self.what)),
        }
    }

    /// Creates all of them.
    async fn write_all(all: &[Self], suite: &Suite) -> anyhow::Result<Vec<Option<String>>> {
        let mut names = Vec::new();
        for poison in all {
            match poison.write(suite).await {
                Ok(name) => names.push(name),
                Err(error) => {
                    Self::remove_all(all, names, suite).await?;
                    return Err(error);
                }
            }
        }
        Ok(names)
    }

    /// Removes what was written of them, and says how many that were.
    async fn remove_all(all: &[Self], names: Vec<Option<String>>, suite: &Suite) -> anyhow::Result<usize> {
        let mut written = 0;
        for (poison, name) in all.iter().zip(names) {
            if let Some(name) = name {
                poison.remove(suite, &name).await?;
                written += 1;
            }
        }
        Ok(written)
    }

    async fn remove(&self, suite: &Suite, name: &str) -> anyhow::Result<()> {
        let removed = self
            .api(&suite.admin)
            .delete(name, &DeleteParams::background())
            .await;
        removed.map(drop).with_context(|| format!("cannot remove {name}"))
    }
}

/// What the schema admits.
fn admitted(ground: &Ground<'_>, about: &Asked) -> anyhow::Result<Vec<Poison>> {
    let grant = |what, odd| Poison::grant(ground, what, odd);
    let policy = |what, odd| Poison::policy(ground, what, odd);
    let long = |count: usize| "x".repeat(count);
    let condition = |expression: String| json!({"conditions": [{"name": "odd", "expression": expression, "message": "m"}]});
    Ok(vec![
        grant(
            "an end in the year 9999",
            json!({"notAfter": "9999-12-31T23:59:59Z"}),
        )?,
        grant(
            "an end in the year 0",
            json!({"notBefore": "0000-01-01T00:00:00+14:59", "notAfter": "9999-01-01T00:00:00Z"}),
        )?,
        grant("a 30th of February", json!({"notAfter": "2027-02-30T00:00:00Z"}))?,
        grant(
            "a leap second that is none",
            json!({"notAfter": "2027-06-30T23:59:59.999999999-14:00"}),
        )?,
        grant(
            "a duration beyond any number",
            json!({"duration": "99999h99999m99999s"}),
        )?,
        grant("a duration of nothing", json!({"duration": "0s"}))?,
        grant(
            "the longest reason, of four bytes each",
            json!({"reason": "\u{1F525}".repeat(512)}),
        )?,
        grant(
            "a reason like an expression",
            json!({"reason": "'); request.reason.matches('(((((a+)+)+)+)+$') || true //"}),
        )?,
        grant(
            "a policy named like a path",
            json!({"policyRef": {"name": ground.policy},
            "references": [{"type": "Ticket", "id": "../../../api/v1/namespaces?watch=true"}]}),
        )?,
        grant(
            "as many entitlements as there may be, none of which there is",
            json!({"entitlements":
            (0..16).map(|number| json!({"name": format!("\u{202e}{number}"),
                "resourceNames": (0..64).map(|n| format!("{n}/../*?#%00{}", long(200))).collect::<Vec<_>>()}))
                .collect::<Vec<_>>()}),
        )?,
        grant("annotations of 250 KiB", json!({}))?.annotated(json!({"example.com/long": long(250 * 1024)})),
        policy(
            "an unknown time zone",
            json!({"windows": [{"name": "w", "timeZone": "Mars/Olympus", "from": "00:00", "to": "24:00"}]}),
        ),
        policy("a pattern that is none", json!({"reason": {"pattern": "(((("}})),
        policy(
            "the deepest condition",
            condition(format!("{}true{}", "(".repeat(1000), ")".repeat(1000))),
        ),
        policy(
            "a condition that costs the most",
            condition(
                "requester.groups.all(a, requester.groups.all(b, requester.groups.all(c, a + b + c != 'x')))"
                    .to_owned(),
            ),
        ),
        policy(
            "a length beyond any number",
            json!({"duration": {"max": "99999h99999m99999s"}}),
        ),
        policy(
            "a role that is not there",
            json!({"entitlements": [
            {"name": "look", "selection": "Default", "role": {"kind": "ClusterRole", "name": long(253)}}]}),
        ),
        Poison::decision(
            ground,
            about,
            "a grant of another uid",
            json!({"grantRef": {"uid": "\u{FFFD}".repeat(64)}}),
        )?,
        Poison::decision(
            ground,
            about,
            "the longest reason",
            json!({"reason": "\u{1F525}".repeat(1024)}),
        )?,
    ])
}

/// What no schema of this version admits: of types it does not have, and words that it does not know.
fn unreadable(ground: &Ground<'_>, about: &Asked) -> anyhow::Result<Vec<Poison>> {
    let grant = |what, odd| Poison::grant(ground, what, odd);
    let policy = |what, odd| Poison::policy(ground, what, odd);
    let decision = |what, odd| Poison::decision(ground, about, what, odd);
    let role = json!({"kind": "ClusterRole", "name": "view"});
    let entitlements: Vec<_> = (0..10_000)
        .map(|number| json!({"name": format!("e{number}")}))
        .collect();
    let stage = json!({"name": "s", "required": 70_000, "approvers": [{"kind": "User", "name": "bob"}]});
    Ok(vec![
        grant("a number for a duration", json!({"duration": 5}))?,
        grant("a word for references", json!({"references": "none"}))?,
        grant(
            "a kind of subject of tomorrow",
            json!({"subject": {"kind": "Robot", "name": "r2"}}),
        )?,
        grant("a megabyte of reason", json!({"reason": "x".repeat(1024 * 1024)}))?,
        grant("ten thousand entitlements", json!({"entitlements": entitlements}))?,
        policy("a path of tomorrow", json!({"path": "Auction"})),
        policy("no length", json!({"duration": null})),
        policy("less than none", json!({"limits": {"activePerSubject": -1}})),
        policy(
            "more approvers than a byte counts",
            json!({"path": "Manual", "approval": {"stages": [stage]}}),
        ),
        policy(
            "a selection of tomorrow",
            json!({"entitlements": [{"name": "look", "selection": "OnFullMoon", "role": role}]}),
        ),
        policy("a word for a selector", json!({"namespaceSelector": "all"})),
        decision("a word of tomorrow", json!({"decision": "Maybe"}))?,
        decision("a number for a reason", json!({"reason": 42}))?,
    ])
}

/// A request like any other is granted and ends on time.
async fn others_live(ground: &Ground<'_>, operator: &Operator) -> anyhow::Result<SignedDuration> {
    const OTHERS: usize = 5;
    let asked_at = Timestamp::now();
    let namespace = ground.namespace(1)?;
    let ask = |_| ground.ask(namespace, json!({"duration": "3s"}));
    let asked = ground.many(OTHERS, ask).await?;
    for asked in &asked {
        ground.is_active(asked).await.with_context(|| operator.log())?;
    }
    let granted = Timestamp::now().duration_since(asked_at);
    for asked in &asked {
        let tale = ground.expired(asked).await?;
        ground.judge(asked, tale.expires_at().context("no end")? + ON_TIME)?;
    }
    ensure!(operator.is_running(), "it has ended:\n{}", operator.log());
    let (code, text) = operator.ready().await?;
    ensure!(code == 200, "it is not ready: {text}");
    println!(
        "  {OTHERS} others were granted within {granted:#}, and {}",
        Lags::of(ground, &asked)?
    );
    Ok(granted)
}

/// Before it is there, while it is, with an operator that starts beside it, and after it.
async fn delays_no_other(
    ground: &Ground<'_>,
    all: &[Poison],
    write: impl AsyncFnOnce() -> anyhow::Result<Vec<Option<String>>>,
    operator: Operator,
) -> anyhow::Result<usize> {
    others_live(ground, &operator).await.context("before")?;
    let names = write().await?;
    others_live(ground, &operator).await.context("beside it")?;
    operator.kill9().await?;
    let outcome = async {
        let operator = ground
            .operator(None)
            .await
            .context("an operator that finds it there")?;
        others_live(ground, &operator)
            .await
            .context("with an operator that found it there")?;
        anyhow::Ok(operator)
    }
    .await;
    let admitted = Poison::remove_all(all, names, ground.suite).await?;
    let operator = outcome?;
    others_live(ground, &operator).await.context("after it")?;
    ground.nothing_left_anywhere().await?;
    operator.kill9().await?;
    Ok(admitted)
}

/// A grant that people are asked about, for decisions to be about.
async fn awaiting(ground: &Ground<'_>) -> anyhow::Result<Asked> {
    let asked = ground
        .ask(ground.namespace(1)?, json!({"duration": "30m"}))
        .await?;
    ground
        .told(&asked, "people are asked", |tale| {
            tale.state() == "AwaitingApproval"
        })
        .await?;
    Ok(asked)
}

async fn what_is_odd_and_admitted_delays_no_other(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::with_deciders(suite, 2).await?;
    let operator = ground.operator(None).await?;
    let about = awaiting(&ground).await?;
    let all = admitted(&ground, &about)?;
    let write = async || Poison::write_all(&all, suite).await;
    let admitted = delays_no_other(&ground, &all, write, operator).await?;
    ground.delete(&about).await?;
    println!(
        "odd: {} objects, of which {admitted} were admitted and delayed no other",
        all.len()
    );
    ensure!(admitted > all.len() / 2, "most were refused");
    Ok(())
}

async fn what_this_version_cannot_read_delays_no_other(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::with_deciders(suite, 2).await?;
    let operator = ground.operator(None).await?;
    let about = awaiting(&ground).await?;
    let all = unreadable(&ground, &about)?;
    let write = async || unvalidated(suite, async || Poison::write_all(&all, suite).await).await;
    let admitted = delays_no_other(&ground, &all, write, operator).await?;
    ground.delete(&about).await?;
    println!(
        "not to be read: {} objects, of which {admitted} were written and delayed no other",
        all.len()
    );
    ensure!(admitted == all.len(), "some were refused");
    Ok(())
}

/// Does something while the API server admits whatever is written.
async fn unvalidated<T>(suite: &Suite, deed: impl AsyncFnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let definitions = Api::<CustomResourceDefinition>::all(suite.admin.clone());
    let names = [
        AccessGrant::plural(&()),
        AccessPolicy::plural(&()),
        AccessDecision::plural(&()),
    ]
    .map(|plural| format!("{plural}.access.curfew.dev"));
    let mut before = Vec::new();
    for name in &names {
        let definition = definitions.get(name).await?;
        let version = definition.spec.versions.into_iter().next();
        before.push(serde_json::to_value(version.context("no version")?)?);
    }
    for (name, before) in names.iter().zip(&before) {
        let mut anything = before.clone();
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        anything["schema"] = json!({"openAPIV3Schema": schema});
        // They name what a schema has to know.
        anything["selectableFields"] = json!([]);
        define(&definitions, name, &anything).await?;
    }
    let admits = admits_anything(suite, true).await;
    let done = match admits {
        Ok(()) => deed().await,
        Err(error) => Err(error),
    };
    for (name, before) in names.iter().zip(&before) {
        define(&definitions, name, before).await?;
    }
    admits_anything(suite, false).await?;
    done
}

async fn define(
    definitions: &Api<CustomResourceDefinition>,
    name: &str,
    version: &Value,
) -> anyhow::Result<()> {
    let patch = json!([{"op": "replace", "path": "/spec/versions/0", "value": version}]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
    definitions
        .patch(name, &PatchParams::default(), &patch)
        .await
        .map(drop)?;
    Ok(())
}

/// Waits until the API server acts by a change of all three schemas.
async fn admits_anything(suite: &Suite, wanted: bool) -> anyhow::Result<()> {
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let who = json!({"username": "admin", "groups": ["system:masters", "system:authenticated"]});
    let probes = [
        (
            ApiResource::erase::<AccessGrant>(&()),
            json!({"policyRef": {"name": "any"}, "reason": 5, "requester": who}),
        ),
        (
            ApiResource::erase::<AccessPolicy>(&()),
            json!({"path": "Auction", "entitlements": []}),
        ),
        (
            ApiResource::erase::<AccessDecision>(&()),
            json!({"grantRef": {"name": "any", "uid": "any"}, "decision": "Maybe", "decider": who}),
        ),
    ];
    for (resource, spec) in probes {
        let api: Api<DynamicObject> = if resource.kind == "AccessPolicy" {
            Api::all_with(suite.admin.clone(), &resource)
        } else {
            Api::namespaced_with(suite.admin.clone(), "default", &resource)
        };
        let probe: DynamicObject = serde_json::from_value(json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": "probe"}, "spec": spec,
        }))?;
        let what = format!("any {} is admitted: {wanted}", resource.kind);
        eventually(&what, 2 * SOON, async || {
            match api.create(&dry_run, &probe).await {
                Ok(_) if wanted => Ok(()),
                Err(kube::Error::Api(status)) if !wanted && status.code == 422 => Ok(()),
                other => Err(format!("{:?}", other.map(|made| made.name_any()))),
            }
        })
        .await?;
    }
    Ok(())
}

/// What another version recorded, of which this one does not know a word.
async fn access_whose_record_cannot_be_read_any_more_ends_on_time(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 2, json!({})).await?;
    let operator = ground.operator(None).await?;
    let namespace = ground.namespace(0)?;
    let alive = ground.ask(namespace, json!({"duration": "12s"})).await?;
    let started = ground.ask(namespace, json!({"duration": "25s"})).await?;
    for asked in [&alive, &started] {
        ground.is_active(asked).await?;
    }
    let token = suite
        .plane
        .service_account_token("curfew-system", "curfew")
        .await?;
    let itself = suite.plane.client_for_token(&token, &suite.plane.url()).await?;
    let resource = ApiResource::erase::<AccessGrant>(&());
    let grants = Api::<DynamicObject>::namespaced_with(itself, namespace, &resource);
    unvalidated(suite, async || {
        for asked in [&alive, &started] {
            let mut grant = grants.get(&asked.name).await?;
            grant.data["status"]["revocation"] = json!({"cause": "MoonPhase", "message": "", "by": 5});
            grants
                .replace_status(&asked.name, &PostParams::default(), &grant)
                .await?;
        }
        Ok(())
    })
    .await?;
    let ends = |asked: &Asked| ground.journal.tale(&asked.uid).expires_at().context("no end");
    ensure!(Timestamp::now() < ends(&alive)?, "it was over before that");
    ground.nothing_left_of_access(&alive).await?;
    let late = Lags::of(&ground, std::slice::from_ref(&alive))?;
    ensure!(
        late.longest() <= ON_TIME,
        "with an operator that knew it: gone {late}"
    );
    operator.kill9().await?;
    let operator = ground.operator(None).await?;
    others_live(&ground, &operator).await?;
    ensure!(Timestamp::now() < ends(&started)?, "it was over before that");
    ground.nothing_left_of_access(&started).await?;
    let fuse = Lags::of(&ground, std::slice::from_ref(&started))?;
    println!(
        "a record that cannot be read: gone {late} with an operator that knew it, {fuse} with one that never did"
    );
    // Its fuse ends it, if nobody else does.
    ensure!(fuse.longest() <= SignedDuration::from_secs(4), "gone {fuse}");
    for asked in [&alive, &started] {
        ground.delete(asked).await?;
    }
    ground.nothing_left_anywhere().await?;
    operator.kill9().await
}
