//! `curfew drain` and the removal of Curfew: nothing of it lives on or hangs, in whatever order it is removed.
//!
//! A drain ends everything in its cluster, so each of these tests has a control plane of its own.
#![expect(clippy::print_stdout, reason = "how long it took")]

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, GRANT_UID_LABEL, REVOKE_FINALIZER};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::{Operator, OperatorOptions, eventually, in_repository, install};
use crate::support::act_as::Identity;
use crate::support::{Place, SOON, Suite};
use crate::tests;

tests![;
    fresh:
    with_the_operator_alive_everything_ends_and_its_end_is_recorded,
    with_everybody_dead_access_is_gone_in_seconds_and_what_waits_for_the_operator_is_named,
    without_crds_everything_that_is_labelled_goes,
    who_keeps_asking_and_what_is_refused_is_named,
    removed_in_any_order_nothing_lives_on_and_nothing_hangs,
];

/// How soon all access has to be gone when nobody but a drain ends it.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The CRDs in which something lives.
const CRDS: [&str; 3] = [
    "accessgrants.access.curfew.dev",
    "accesspolicies.access.curfew.dev",
    "accessdecisions.access.curfew.dev",
];

/// The finalizer of somebody else that the guards let a grant have.
const ARGO_CD: &str = "argocd.argoproj.io/hook-finalizer";

/// What a drain has said.
struct Said {
    code: Option<i32>,
    report: Value,
    stderr: String,
}

impl Said {
    fn of(output: &Output) -> anyhow::Result<Self> {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = serde_json::from_slice(&output.stdout).with_context(|| stderr.clone())?;
        let code = output.status.code();
        Ok(Self { code, report, stderr })
    }

    /// How many of that kind it did that with.
    fn did(&self, action: &str, kind: &str) -> usize {
        let items = self.report["items"].as_array().into_iter().flatten();
        items
            .filter(|item| item["action"] == action && item["kind"] == kind)
            .count()
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n{:#}\n{}", self.code, self.report, self.stderr)
    }
}

/// `curfew drain` as a person.
fn command(suite: &Suite, person: &str, args: &[&str]) -> anyhow::Result<tokio::process::Command> {
    let mut command = tokio::process::Command::new(&suite.binary);
    command
        .arg("drain")
        .args(args)
        .env("KUBECONFIG", suite.plane.kubeconfig_for(person)?)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

async fn drain_as(suite: &Suite, person: &str, args: &[&str]) -> anyhow::Result<Said> {
    let args = [&["-o", "json"], args].concat();
    Said::of(&command(suite, person, &args)?.output().await?)
}

/// By dave, who may do just what draining needs.
async fn drain(suite: &Suite, args: &[&str]) -> anyhow::Result<Said> {
    drain_as(suite, "dave", args).await
}

/// Lets dave drain.
async fn drainer(suite: &Suite) -> anyhow::Result<()> {
    let drainer: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "drainer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "curfew-drainer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "dave"}],
    }))?;
    let bindings = Api::<ClusterRoleBinding>::all(suite.admin.clone());
    bindings.create(&PostParams::default(), &drainer).await?;
    Ok(())
}

/// Access of alice by a role, by rules, and to act as a service account, all for an hour.
struct Live<'a> {
    grants: [AccessGrant; 3],
    identity: Identity<'a>,
}

impl<'a> Live<'a> {
    async fn give(place: &'a Place<'a>) -> anyhow::Result<Self> {
        let policy = place.policy(json!({})).await?.name_any();
        let identity = Identity::prepare(place).await?;
        let asked = |entitlement: &str| json!({"duration": "1h", "entitlements": [{"name": entitlement}]});
        let grants = [
            place.active("alice", &policy, asked("look")).await?,
            place.active("alice", &policy, asked("read")).await?,
            identity.active("alice", "1h").await?,
        ];
        ensure!(
            place.may("alice", "get", "configmaps").await?,
            "alice may not read"
        );
        ensure!(identity.acts("alice").await?, "alice may not act");
        Ok(Self { grants, identity })
    }
}

/// Everything in the cluster that carries our label and is a binding.
async fn bindings(suite: &Suite) -> anyhow::Result<Vec<String>> {
    let ours = ListParams::default().labels(GRANT_UID_LABEL);
    let all = Api::<RoleBinding>::all(suite.admin.clone()).list(&ours).await?;
    let name = |binding: &RoleBinding| {
        format!(
            "{}/{}",
            binding.namespace().unwrap_or_default(),
            binding.name_any()
        )
    };
    Ok(all.iter().map(name).collect())
}

async fn labelled(suite: &Suite) -> anyhow::Result<String> {
    let selector = format!("--selector={GRANT_UID_LABEL}");
    let get = ["get", "jobs,roles,rolebindings", "-A", &selector, "--output=name"];
    Ok(suite.plane.run_kubectl(&get).await?.trim().to_owned())
}

async fn nothing_is_left(suite: &Suite, place: &Place<'_>, live: &Live<'_>) -> anyhow::Result<()> {
    let left = labelled(suite).await?;
    ensure!(left.is_empty(), "left: {left}");
    for resource in ["configmaps", "pods"] {
        let may = place.may("alice", "get", resource).await?;
        ensure!(!may, "alice still gets {resource}");
    }
    ensure!(!live.identity.acts("alice").await?, "alice still acts");
    Ok(())
}

/// Takes all finalizers off something.
async fn free<K>(api: &Api<K>, name: &str) -> kube::Result<K>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch(name, &PatchParams::default(), &free).await
}

async fn with_the_operator_alive_everything_ends_and_its_end_is_recorded(
    suite: &Suite,
) -> anyhow::Result<()> {
    drainer(suite).await?;
    let place = suite.namespace().await?;
    let over = place.policy(json!({})).await?.name_any();
    let over = place.active("carol", &over, json!({"duration": "2s"})).await?;
    place.in_state(&over.name_any(), "Expired").await?;
    let live = Live::give(&place).await?;

    let before = labelled(suite).await?;
    let would = drain(suite, &["--dry-run"]).await?;
    ensure!(
        would.code == Some(0) && would.report["drained"] == false,
        "{would}"
    );
    ensure!(would.did("WouldDelete", "AccessGrant") == 3, "{would}");
    ensure!(would.did("WouldDelete", "RoleBinding") == 3, "{would}");
    ensure!(
        labelled(suite).await? == before,
        "a dry run has changed something"
    );

    let began = Instant::now();
    let said = drain(suite, &[]).await?;
    println!("drained with the operator alive in {:.1?}", began.elapsed());
    ensure!(said.code == Some(0) && said.report["drained"] == true, "{said}");
    ensure!(said.report["summary"]["recordsKept"] == 1, "{said}");
    nothing_is_left(suite, &place, &live).await?;
    for grant in &live.grants {
        eventually("its end is told", SOON, async || {
            let told = place.events(grant).await.map_err(|error| format!("{error:#}"))?;
            match told.last() {
                Some(last) if last.starts_with("Revoked: the grant was deleted") => Ok(()),
                _ => Err(format!("{told:?}")),
            }
        })
        .await?;
        let uid = grant.uid().context("no uid")?;
        let log = suite.operator()?.log();
        let ended = |line: &&str| line.contains(&uid) && line.contains("GrantDeleted");
        ensure!(log.lines().any(|line| ended(&line)), "no audit record of {uid}");
    }
    let left = place.grants().list(&ListParams::default()).await?.items;
    ensure!(
        left.len() == 1 && left[0].name_any() == over.name_any(),
        "{left:?}"
    );

    let table = command(suite, "dave", &["--records"])?.output().await?;
    let table = String::from_utf8(table.stdout)?;
    let last = table.lines().last().unwrap_or_default();
    ensure!(last == "1 gone, nothing is left; 0 records kept", "{table}");
    ensure!(
        place.grants().get_opt(&over.name_any()).await?.is_none(),
        "the record stays"
    );
    ensure!(
        suite.operator()?.terminate().await? == 0,
        "the operator did not end well"
    );
    Ok(())
}

async fn with_everybody_dead_access_is_gone_in_seconds_and_what_waits_for_the_operator_is_named(
    suite: &Suite,
) -> anyhow::Result<()> {
    drainer(suite).await?;
    let place = suite.namespace().await?;
    let live = Live::give(&place).await?;
    suite.operator()?.kill9().await?;
    // Nothing is collected either, and no fuse burns.
    suite.plane.stop_controller_manager().await?;

    let mut running = command(suite, "dave", &["-o", "json", "--timeout", "10s"])?;
    let running = running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let began = Instant::now();
    eventually("all bindings are gone", AT_ONCE, async || {
        let left = bindings(suite).await.map_err(|error| format!("{error:#}"))?;
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(", "))
        }
    })
    .await?;
    println!(
        "with operator and controller-manager dead: no binding left {:.1?} after the drain began",
        began.elapsed()
    );
    let said = Said::of(&running.wait_with_output().await?)?;
    ensure!(said.code == Some(1), "{said}");
    nothing_is_left(suite, &place, &live).await?;
    // Its finalizer waits for the operator, and that is all.
    let [_, _, acting] = &live.grants;
    ensure!(
        said.did("Left", "AccessGrant") == 1 && said.report["summary"]["left"] == 1,
        "{said}"
    );
    for words in [
        &acting.name_any(),
        "waits for the operator",
        REVOKE_FINALIZER,
        "--without-operator",
    ] {
        ensure!(said.stderr.contains(words), "{words}: {said}");
    }
    ensure!(
        said.stderr.contains("the last heartbeat of the operator was at"),
        "{said}"
    );
    let progress = said
        .stderr
        .lines()
        .filter(|line| line.starts_with("deleted "))
        .count();
    ensure!(
        (2..=11).contains(&progress),
        "{progress} lines of progress: {said}"
    );

    // Nobody else may take that finalizer off, an administrator no more than a drain.
    let refused = free(&place.grants(), &acting.name_any())
        .await
        .err()
        .map(|error| error.to_string());
    ensure!(
        refused
            .as_ref()
            .is_some_and(|why| why.contains("after it has proven that the access is gone")),
        "{refused:?}"
    );
    let refused = drain(suite, &["--without-operator", "--timeout", "30s"]).await?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("refused again and again"),
        "{refused}"
    );
    ensure!(
        refused
            .stderr
            .contains("kubectl delete validatingadmissionpolicybinding curfew-grant"),
        "{refused}"
    );
    suite
        .plane
        .run_kubectl(&["delete", "validatingadmissionpolicybinding", "curfew-grant"])
        .await?;
    let said = drain(suite, &["--without-operator", "--timeout", "30s"]).await?;
    ensure!(said.code == Some(0) && said.report["drained"] == true, "{said}");
    ensure!(
        place.grants().get_opt(&acting.name_any()).await?.is_none(),
        "it is still there: {said}"
    );
    Ok(())
}

async fn without_crds_everything_that_is_labelled_goes(suite: &Suite) -> anyhow::Result<()> {
    drainer(suite).await?;
    let place = suite.namespace().await?;
    let live = Live::give(&place).await?;
    suite.operator()?.kill9().await?;
    suite.plane.stop_controller_manager().await?;
    let [_, _, acting] = &live.grants;
    let roles = Api::<Role>::namespaced(suite.admin.clone(), &place.name);
    let ours = ListParams::default().labels(GRANT_UID_LABEL);
    let role = roles
        .list(&ours)
        .await?
        .items
        .pop()
        .context("no Role")?
        .name_any();
    let held = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/mine"]}}));
    let params = PatchParams::default();
    suite
        .unguarded("curfew-role", roles.patch(&role, &params, &held))
        .await?;
    delete_crds(suite).await?;
    eventually("only what waits for the operator is left", SOON, async || {
        let left = place.grants().list(&ListParams::default()).await;
        let left = left.map_err(|error| error.to_string())?.items;
        if left.len() == 1 && left[0].name_any() == acting.name_any() {
            Ok(())
        } else {
            Err(format!(
                "{:?}",
                left.iter().map(AccessGrant::name_any).collect::<Vec<_>>()
            ))
        }
    })
    .await?;
    ensure!(
        bindings(suite).await?.len() == 3,
        "nobody is there to collect them"
    );
    ensure!(live.identity.acts("alice").await?, "alice may not act any more");
    suite
        .plane
        .run_kubectl(&["delete", "validatingadmissionpolicybinding", "curfew-grant"])
        .await?;
    let said = drain(suite, &["--without-operator", "--timeout", "8s"]).await?;
    let why = format!(
        "Role {}/{role}: Role {role} still exists; held back by the finalizers example.com/mine",
        place.name
    );
    ensure!(said.code == Some(1) && said.stderr.contains(&why), "{said}");
    ensure!(said.report["summary"]["left"] == 1, "{said}");
    ensure!(bindings(suite).await?.is_empty(), "{said}");
    free(&roles, &role).await?;
    let said = drain(suite, &["--timeout", "60s"]).await?;
    ensure!(said.code == Some(0), "{said}");
    nothing_is_left(suite, &place, &live).await?;
    // With the last grant the CRD goes, and then there is none.
    crds_are_gone(suite).await?;
    let again = drain(suite, &[]).await?;
    ensure!(
        again.code == Some(0) && again.report["items"] == json!([]),
        "{again}"
    );
    Ok(())
}

async fn who_keeps_asking_and_what_is_refused_is_named(suite: &Suite) -> anyhow::Result<()> {
    drainer(suite).await?;
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let asks = async || {
        loop {
            place.ask("eve", &policy, json!({"duration": "1h"})).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let drained = tokio::select! {
        never = asks() => never,
        said = drain(suite, &["--timeout", "8s"]) => said,
    };
    let said = drained?;
    ensure!(
        said.code == Some(1) && said.stderr.contains("the timeout of 8s was reached"),
        "{said}"
    );
    ensure!(said.report["newRequests"][0]["by"] == "eve", "{said}");
    ensure!(
        said.stderr.contains("asked for access meanwhile: eve ("),
        "{said}"
    );
    let said = drain(suite, &["--timeout", "60s"]).await?;
    ensure!(said.code == Some(0), "{said}");

    // Whoever is not Curfew has to let go what they hold.
    let eve = suite.plane.client_as("eve").await?;
    let spec = json!({"policyRef": {"name": policy}, "reason": "DEV-123 to see what is going on"});
    let mut kept = suite.grant_by(&eve, spec).await?;
    kept.metadata.finalizers = Some(vec![ARGO_CD.to_owned()]);
    let grants = Api::<AccessGrant>::namespaced(eve, &place.name);
    let kept = grants.create(&PostParams::default(), &kept).await?.name_any();
    place.in_state(&kept, "Active").await?;
    let said = drain(suite, &["--timeout", "6s"]).await?;
    let why = format!(
        "AccessGrant {}/{kept}: held back by the finalizers {ARGO_CD}",
        place.name
    );
    ensure!(said.code == Some(1) && said.stderr.contains(&why), "{said}");
    ensure!(labelled(suite).await?.is_empty(), "its access stands: {said}");
    free(&place.grants(), &kept).await?;
    let said = drain(suite, &["--timeout", "60s"]).await?;
    ensure!(said.code == Some(0), "{said}");

    // Who may read nothing learns that soon, and not at the end of five minutes.
    let began = Instant::now();
    let said = drain_as(suite, "alice", &[]).await?;
    ensure!(
        said.code == Some(1) && said.stderr.contains("list grants: ") && said.stderr.contains("alice"),
        "{said}"
    );
    ensure!(began.elapsed() < 2 * SOON, "after {:?}", began.elapsed());
    let misread = command(suite, "dave", &["--timeout", "soon"])?.output().await?;
    ensure!(misread.status.code() == Some(2), "{misread:?}");
    let why = String::from_utf8_lossy(&misread.stderr);
    ensure!(
        why.contains("--timeout") && why.contains("\"soon\" is not a duration"),
        "{why}"
    );

    suite.plane.stop_api_server().await?;
    let said = drain(suite, &["--timeout", "3s"]).await?;
    ensure!(
        said.code == Some(1) && said.stderr.contains("list grants"),
        "{said}"
    );
    Ok(())
}

async fn delete_crds(suite: &Suite) -> anyhow::Result<()> {
    let delete = [
        &["delete", "crd", "--wait=false", "--ignore-not-found"][..],
        &CRDS[..],
    ]
    .concat();
    suite.plane.run_kubectl(&delete).await.map(drop)
}

async fn crds_are_gone(suite: &Suite) -> anyhow::Result<()> {
    let get = [
        &["get", "crd", "--ignore-not-found", "--output=name"][..],
        &CRDS[..],
    ]
    .concat();
    gone(suite, "the CRDs", &get).await
}

async fn gone(suite: &Suite, what: &str, get: &[&str]) -> anyhow::Result<()> {
    eventually(
        &format!("{what} are gone"),
        Duration::from_mins(1),
        async || match suite.plane.run_kubectl(get).await {
            Ok(left) if left.trim().is_empty() => Ok(()),
            Ok(left) => Err(left),
            Err(error) => Err(format!("{error:#}")),
        },
    )
    .await
}

/// One part of Curfew that somebody removes.
#[derive(Clone, Copy, Debug)]
enum Part {
    Guards,
    Crds,
    /// `curfew-system` and `curfew-identities`; with the first one the operator's account goes.
    Namespaces,
    GrantsNamespace,
}

impl Part {
    async fn remove(self, place: &Place<'_>) -> anyhow::Result<()> {
        let cluster = &place.suite.plane;
        let delete = ["delete", "--wait=false", "--ignore-not-found"];
        let file = |path: &str| format!("--filename={}", in_repository(path).display());
        match self {
            Self::Crds => delete_crds(place.suite).await,
            Self::Guards => {
                let guards = file("manifests/guards.yaml");
                cluster
                    .run_kubectl(&[&delete[..], &[&guards]].concat())
                    .await
                    .map(drop)
            }
            Self::Namespaces => {
                let namespaces = file("manifests/namespace.yaml");
                cluster
                    .run_kubectl(&[&delete[..], &[&namespaces]].concat())
                    .await
                    .map(drop)
            }
            Self::GrantsNamespace => {
                let namespace = ["namespace", place.name.as_str()];
                cluster
                    .run_kubectl(&[&delete[..], &namespace].concat())
                    .await
                    .map(drop)
            }
        }
    }
}

async fn removed_in_any_order_nothing_lives_on_and_nothing_hangs(suite: &Suite) -> anyhow::Result<()> {
    drainer(suite).await?;
    suite.operator()?.kill9().await?;
    let mut order = [Part::Guards, Part::Crds, Part::Namespaces, Part::GrantsNamespace];
    for round in 0..order.len() {
        if round > 0 {
            install(&suite.plane).await?;
        }
        let operator = Operator::start(&suite.plane, &suite.binary, OperatorOptions::default()).await?;
        let place = suite.namespace().await?;
        let live = Live::give(&place).await?;
        let removed = async {
            for part in order {
                part.remove(&place).await?;
            }
            // Access needs no drain to end then; what it is needed for is a grant that waits for an operator.
            eventually("all access has ended by itself", 2 * SOON, async || {
                nothing_is_left(suite, &place, &live)
                    .await
                    .map_err(|error| format!("{error:#}"))
            })
            .await?;
            let said = drain(suite, &["--without-operator", "--timeout", "60s"]).await?;
            ensure!(said.code == Some(0), "{said}");
            nothing_is_left(suite, &place, &live).await?;
            crds_are_gone(suite).await?;
            let namespaces = ["curfew-system", "curfew-identities", &place.name];
            let get = [
                &["get", "namespace", "--ignore-not-found", "--output=name"][..],
                &namespaces,
            ]
            .concat();
            gone(suite, "the namespaces", &get).await
        };
        removed
            .await
            .with_context(|| format!("removed in the order {order:?}"))?;
        operator.kill9().await?;
        order.rotate_left(1);
    }
    Ok(())
}
