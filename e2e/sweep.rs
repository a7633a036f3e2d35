//! The sweep, with the rights it ships with: what it ends when nobody else does, and what it leaves alone.
//!
//! No operator lives here but those that a test starts. Where a fuse must not burn, the controller-manager is stopped
//! for as long.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, GRANT_UID_LABEL, NOT_AFTER_ANNOTATION};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::attacks::binding;
use crate::harness::{Fault, Operator, OperatorOptions, Proxy, eventually, in_repository};
use crate::suite::{Place, SOON, Suite};
use crate::tests;

tests![
    with_everybody_else_dead_exactly_what_is_over_is_removed,
    a_binding_held_back_by_a_finalizer_is_freed,
    what_hangs_beneath_a_binding_does_not_hold_it_back,
    access_that_says_no_end_is_removed_and_what_only_looks_like_it_is_told,
    a_wrong_clock_ends_nothing_early_and_fails,
    a_missing_right_is_named_and_the_rest_goes_on,
    sweep_and_operator_hear_each_other_and_tell_of_silence,
    until_it_is_told_to_stop_it_sweeps_again_and_again,
    without_crds_access_ends_all_the_same,
];

/// How long access lasts here.
const LASTS: &str = "10s";
/// What the sweep leaves to operator and fuse, by default, and then some.
const OVERDUE: Duration = Duration::from_secs(10 + 5 + 15);

/// What a sweep has said.
struct Said {
    code: Option<i32>,
    report: Value,
    stderr: String,
}

impl Said {
    fn of(output: &Output) -> anyhow::Result<Self> {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = serde_json::from_slice(&output.stdout).with_context(|| stderr.clone())?;
        Ok(Self {
            code: output.status.code(),
            report,
            stderr,
        })
    }

    /// What it did with what has that kind and name, and why.
    fn about(&self, kind: &str, name: &str) -> Option<(String, String)> {
        let items = self.report["items"].as_array()?;
        let item = items
            .iter()
            .find(|item| item["kind"] == kind && item["name"] == name)?;
        let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
        Some((text("action"), text("reason")))
    }

    /// Kinds and names of everything it did that with, in its order.
    fn did(&self, action: &str, namespace: &str) -> Vec<String> {
        let items = self.report["items"].as_array().into_iter().flatten();
        let these = items.filter(|item| item["action"] == action && item["namespace"] == namespace);
        these
            .map(|item| {
                format!(
                    "{}/{}",
                    item["kind"].as_str().unwrap_or_default(),
                    item["name"].as_str().unwrap_or_default()
                )
            })
            .collect()
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n{:#}\n{}", self.code, self.report, self.stderr)
    }
}

/// Runs `curfew sweep` with a token of its service account, through a proxy or not.
async fn command(suite: &Suite, via: Option<&str>, args: &[&str]) -> anyhow::Result<tokio::process::Command> {
    let token = suite
        .plane
        .service_account_token("curfew-system", "curfew-sweep")
        .await?;
    let url = suite.plane.url();
    let name = suite.fresh("sweep");
    let kubeconfig = suite
        .plane
        .kubeconfig_with_token(&token, via.unwrap_or(&url), &name)?;
    let mut command = tokio::process::Command::new(&suite.binary);
    command
        .arg("sweep")
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .kill_on_drop(true);
    Ok(command)
}

async fn sweep(suite: &Suite, args: &[&str]) -> anyhow::Result<Said> {
    sweep_via(suite, None, args).await
}

async fn sweep_via(suite: &Suite, via: Option<&str>, args: &[&str]) -> anyhow::Result<Said> {
    let args = [&["--once", "-o", "json", "--log-format", "json"], args].concat();
    Said::of(&command(suite, via, &args).await?.output().await?)
}

/// Dry runs until something of that namespace would be removed.
async fn would_remove(suite: &Suite, namespace: &str) -> anyhow::Result<Said> {
    eventually("something is overdue", OVERDUE, async || {
        let said = sweep(suite, &["--dry-run"])
            .await
            .map_err(|error| format!("{error:#}"))?;
        if said.did("WouldRemove", namespace).is_empty() {
            Err(said.to_string())
        } else {
            Ok(said)
        }
    })
    .await
}

/// What was made for a grant, by the name of its fuse.
struct Access<'a> {
    place: Place<'a>,
    name: String,
}

impl Access<'_> {
    fn everything(&self) -> [String; 3] {
        ["RoleBinding", "Role", "Job"].map(|kind| format!("{kind}/{}", self.name))
    }

    async fn binding(&self) -> anyhow::Result<Option<RoleBinding>> {
        Ok(self.bindings().get_opt(&self.name).await?)
    }

    fn bindings(&self) -> Api<RoleBinding> {
        Api::namespaced(self.place.suite.admin.clone(), &self.place.name)
    }
}

/// The name of what was made for a grant.
async fn name_of(place: &Place<'_>, grant: &AccessGrant) -> anyhow::Result<String> {
    let bindings = place.bindings().await?;
    let binding = bindings
        .iter()
        .find(|binding| binding.labels().get(GRANT_UID_LABEL) == grant.uid().as_ref());
    Ok(binding.context("no binding")?.name_any())
}

/// Access of alice to `ConfigMaps` for a short time, by a Role of its own, whose operator has died.
async fn abandoned(suite: &Suite) -> anyhow::Result<Access<'_>> {
    abandoned_to(suite, "read").await
}

async fn abandoned_to<'a>(suite: &'a Suite, entitlement: &str) -> anyhow::Result<Access<'a>> {
    let operator = Operator::start(&suite.plane, &suite.binary, OperatorOptions::default()).await?;
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let asked = json!({"duration": LASTS, "entitlements": [{"name": entitlement}]});
    let grant = place.active("alice", &policy, asked).await?;
    let name = name_of(&place, &grant).await?;
    operator.kill9().await?;
    Ok(Access { place, name })
}

/// Does something while no fuse burns and no garbage is collected.
async fn without_controllers(
    suite: &Suite,
    deed: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    suite.plane.stop_controller_manager().await?;
    let done = deed.await;
    suite.plane.start_controller_manager().await?;
    done
}

/// Waits until alice may, or may not, read `ConfigMaps` there.
async fn alice_may(place: &Place<'_>, so: bool) -> anyhow::Result<()> {
    eventually(&format!("alice may read: {so}"), SOON, async || {
        match place.may("alice", "get", "configmaps").await {
            Ok(may) if may == so => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

async fn with_everybody_else_dead_exactly_what_is_over_is_removed(suite: &Suite) -> anyhow::Result<()> {
    let operator = Operator::start(&suite.plane, &suite.binary, OperatorOptions::default()).await?;
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let short = json!({"duration": LASTS, "entitlements": [{"name": "read"}]});
    let long = json!({"duration": "1h", "entitlements": [{"name": "read"}]});
    let long = place.active("carol", &policy, long).await?;
    let long_name = name_of(&place, &long).await?;
    // Not ours, whatever it says.
    let mut foreign = binding("not-ours", "view", "dave");
    foreign["metadata"]["annotations"] = json!({NOT_AFTER_ANNOTATION: "2020-01-01T00:00:00.000000Z"});
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &place.name);
    bindings
        .create(&PostParams::default(), &serde_json::from_value(foreign)?)
        .await?;
    let short = place.active("alice", &policy, short).await?;
    let name = name_of(&place, &short).await?;
    let access = Access { place, name };
    let place = &access.place;
    operator.kill9().await?;
    without_controllers(suite, async {
        let early = sweep(suite, &[]).await?;
        ensure!(early.code == Some(0), "{early}");
        ensure!(
            early.did("Removed", &place.name).is_empty(),
            "before its end: {early}"
        );
        ensure!(access.binding().await?.is_some(), "before its end");

        let before = place.artifacts().await?;
        let would = would_remove(suite, &place.name).await?;
        ensure!(would.code == Some(0), "{would}");
        ensure!(
            would.did("WouldRemove", &place.name) == access.everything(),
            "binding, then Role, then fuse, and nothing else: {would}"
        );
        ensure!(place.artifacts().await? == before, "a dry run changed something");
        alice_may(place, true).await?;

        let said = sweep(suite, &[]).await?;
        ensure!(said.code == Some(0), "{said}");
        ensure!(said.did("Removed", &place.name) == access.everything(), "{said}");
        ensure!(said.report["succeeded"] == true, "{said}");
        alice_may(place, false).await?;
        let mut left = place.artifacts().await?;
        left.sort();
        let expected = ["Job", "Role", "RoleBinding"].map(|kind| format!("{kind}/{long_name}"));
        ensure!(left == expected, "what has not ended: {left:?}");
        ensure!(
            bindings.get_opt("not-ours").await?.is_some(),
            "a binding of others was removed"
        );

        let again = sweep(suite, &[]).await?;
        ensure!(
            again.code == Some(0) && again.report["items"] == json!([]),
            "{again}"
        );

        // A grant that is gone, with nobody to collect what it held.
        let grant = place
            .grants()
            .delete(&long.name_any(), &DeleteParams::default())
            .await;
        grant?;
        let orphan = sweep(suite, &[]).await?;
        let (action, reason) = orphan
            .about("RoleBinding", &long_name)
            .with_context(|| orphan.to_string())?;
        ensure!(orphan.code == Some(0) && action == "Kept", "{orphan}");
        ensure!(reason.contains("its grant is gone"), "{reason}");
        let table = command(suite, None, &["--once"]).await?.output().await?;
        let table = String::from_utf8(table.stdout)?;
        let head = table.lines().next().unwrap_or_default();
        let words: Vec<&str> = head.split_whitespace().collect();
        ensure!(
            words == ["NAMESPACE", "KIND", "NAME", "ENDED-AGO", "ACTION", "REASON"],
            "{table}"
        );
        ensure!(table.lines().any(|line| line.contains(&long_name)), "{table}");
        let last = table.lines().last().unwrap_or_default();
        ensure!(last.starts_with("0 removed, 0 not removed, 3 kept, "), "{table}");
        Ok(())
    })
    .await?;
    place.nothing_left().await
}

async fn a_binding_held_back_by_a_finalizer_is_freed(suite: &Suite) -> anyhow::Result<()> {
    let access = abandoned(suite).await?;
    without_controllers(suite, async {
        let held = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/mine"]}}));
        let (bindings, patch) = (access.bindings(), PatchParams::default());
        suite
            .unguarded("curfew-binding", bindings.patch(&access.name, &patch, &held))
            .await?;
        would_remove(suite, &access.place.name).await?;
        bindings.delete(&access.name, &DeleteParams::background()).await?;
        ensure!(access.binding().await?.is_some(), "it is held back");
        alice_may(&access.place, true).await?;
        let emptied = empty_as_sweeper(&access)
            .await
            .err()
            .map(|error| error.to_string());
        ensure!(
            emptied
                .as_ref()
                .is_some_and(|why| why.contains("attempting to grant RBAC permissions")),
            "emptying needs the right to bind: {emptied:?}"
        );
        let said = sweep(suite, &[]).await?;
        let (action, reason) = said
            .about("RoleBinding", &access.name)
            .with_context(|| said.to_string())?;
        ensure!(said.code == Some(0) && action == "Freed", "{said}");
        ensure!(reason.contains("a finalizer of somebody else"), "{reason}");
        ensure!(access.binding().await?.is_none(), "it is still there");
        alice_may(&access.place, false).await?;
        Ok(())
    })
    .await?;
    access.place.nothing_left().await
}

async fn empty_as_sweeper(access: &Access<'_>) -> anyhow::Result<RoleBinding> {
    let plane = &access.place.suite.plane;
    let token = plane
        .service_account_token("curfew-system", "curfew-sweep")
        .await?;
    let client = plane.client_for_token(&token, &plane.url()).await?;
    let bindings = Api::<RoleBinding>::namespaced(client, &access.place.name);
    let empty = Patch::Merge(json!({"subjects": []}));
    Ok(bindings
        .patch(&access.name, &PatchParams::default(), &empty)
        .await?)
}

/// The hole that is left where only an owner is deleted: see docs/security.md.
async fn what_hangs_beneath_a_binding_does_not_hold_it_back(suite: &Suite) -> anyhow::Result<()> {
    // By a role that stays: a Role of ours goes with the fuse.
    let access = abandoned_to(suite, "look").await?;
    let binding = access.binding().await?.context("no binding")?;
    let maps = Api::<ConfigMap>::namespaced(suite.admin.clone(), &access.place.name);
    let beneath: ConfigMap = serde_json::from_value(json!({"metadata": {
        "name": "beneath", "finalizers": ["example.com/mine"],
        "ownerReferences": [{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "name": access.name, "uid": binding.uid(), "blockOwnerDeletion": true}]}}))?;
    maps.create(&PostParams::default(), &beneath).await?;
    eventually(
        "its fuse has burnt and it is held back",
        OVERDUE,
        async || match access.binding().await.map_err(|error| error.to_string())? {
            Some(binding) if binding.metadata.deletion_timestamp.is_some() => Ok(()),
            Some(_) => Err("it is not being deleted".to_owned()),
            None => Err("it is gone".to_owned()),
        },
    )
    .await?;
    would_remove(suite, &access.place.name).await?;
    alice_may(&access.place, true).await?;
    let said = sweep(suite, &[]).await?;
    ensure!(said.code == Some(0), "{said}");
    let removed = said.about("RoleBinding", &access.name);
    ensure!(removed.is_some_and(|(action, _)| action == "Removed"), "{said}");
    ensure!(access.binding().await?.is_none(), "it is still there: {said}");
    alice_may(&access.place, false).await?;
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("beneath", &PatchParams::default(), &free).await?;
    access.place.nothing_left().await
}

async fn access_that_says_no_end_is_removed_and_what_only_looks_like_it_is_told(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let ours = format!("curfew-{}", "0123456789abcdef".repeat(2));
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), &place.name);
    let without_end = |name: &str| {
        let mut made = binding(name, "view", "alice");
        made["metadata"]["labels"] = json!({GRANT_UID_LABEL: "nobodys"});
        serde_json::from_value::<RoleBinding>(made)
    };
    let (first, second) = (without_end(&ours)?, without_end("lookalike")?);
    let made = async {
        bindings.create(&PostParams::default(), &first).await?;
        bindings.create(&PostParams::default(), &second).await
    };
    suite.unguarded("curfew-binding", made).await?;
    let said = sweep(suite, &[]).await?;
    ensure!(said.code == Some(1), "{said}");
    ensure!(
        said.did("Removed", &place.name) == [format!("RoleBinding/{ours}")],
        "{said}"
    );
    ensure!(
        said.did("Kept", &place.name) == ["RoleBinding/lookalike"],
        "{said}"
    );
    ensure!(said.stderr.contains("lookalike"), "{said}");
    ensure!(bindings.get_opt(&ours).await?.is_none(), "it is still there");
    place.delete::<RoleBinding>("lookalike").await?;
    let again = sweep(suite, &[]).await?;
    ensure!(again.code == Some(0), "{again}");
    Ok(())
}

async fn a_wrong_clock_ends_nothing_early_and_fails(suite: &Suite) -> anyhow::Result<()> {
    let access = abandoned(suite).await?;
    let proxy = Proxy::start(&suite.plane.url(), &suite.plane.ca_pem()?)?;
    let hour = SignedDuration::from_hours(1);
    without_controllers(suite, async {
        let shifted = |shift: SignedDuration| {
            move |_: &crate::harness::Exchange| Fault::Dated(Timestamp::now() + shift)
        };
        // An API server ahead of this machine: by its clock the access is over, by ours it is not.
        proxy.set_hook(shifted(hour));
        let ahead = sweep_via(suite, Some(&proxy.url()), &[]).await?;
        ensure!(access.binding().await?.is_some(), "ended early: {ahead}");
        ensure!(
            ahead.code == Some(1) && ahead.stderr.contains("s behind the API server's"),
            "{ahead}"
        );
        would_remove(suite, &access.place.name).await?;
        // An API server behind: by our clock it is over, by its own it is not.
        proxy.set_hook(shifted(-hour));
        let behind = sweep_via(suite, Some(&proxy.url()), &[]).await?;
        ensure!(access.binding().await?.is_some(), "ended early: {behind}");
        ensure!(
            behind.code == Some(1) && behind.stderr.contains("s ahead of the API server's"),
            "{behind}"
        );
        // A little is told, and a little more does not keep from ending what is over by both.
        proxy.set_hook(shifted(SignedDuration::from_secs(15)));
        let little = sweep_via(suite, Some(&proxy.url()), &["--dry-run"]).await?;
        ensure!(
            little.code == Some(0) && little.stderr.contains("the earlier one counts"),
            "{little}"
        );
        proxy.set_hook(shifted(hour));
        let over = sweep_via(suite, Some(&proxy.url()), &[]).await?;
        ensure!(over.code == Some(1), "{over}");
        ensure!(
            over.did("Removed", &access.place.name) == access.everything(),
            "{over}"
        );
        Ok(())
    })
    .await
}

async fn a_missing_right_is_named_and_the_rest_goes_on(suite: &Suite) -> anyhow::Result<()> {
    let access = abandoned(suite).await?;
    let roles = Api::<ClusterRole>::all(suite.admin.clone());
    let whole = roles.get("curfew-sweep").await?.rules.unwrap_or_default();
    let put = async |rules: Value| {
        let patch = Patch::Merge(json!({"rules": rules}));
        roles.patch("curfew-sweep", &PatchParams::default(), &patch).await
    };
    let tried = without_controllers(suite, async {
        would_remove(suite, &access.place.name).await?;
        put(json!([
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["list", "delete"]},
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": ["list"]},
        ]))
        .await?;
        // RBAC comes into force a moment after it is stored.
        let said = eventually("the rights are gone", SOON, async || {
            let said = sweep(suite, &["--dry-run"])
                .await
                .map_err(|error| format!("{error:#}"))?;
            if said.stderr.contains("cannot list resource \\\"jobs\\\"") {
                Ok(said)
            } else {
                Err(said.to_string())
            }
        })
        .await?;
        ensure!(said.code == Some(1), "{said}");
        ensure!(
            said.report["grantsNotListed"]
                .as_str()
                .is_some_and(|why| why.contains("accessgrants")),
            "{said}"
        );
        let said = sweep(suite, &[]).await?;
        ensure!(said.code == Some(1), "{said}");
        let binding = said
            .about("RoleBinding", &access.name)
            .with_context(|| said.to_string())?;
        ensure!(
            binding.0 == "Failed" && binding.1.contains("cannot delete resource \"rolebindings\""),
            "{said}"
        );
        ensure!(access.binding().await?.is_some(), "it had no right to do that");
        // Without its Role the binding gives nothing.
        ensure!(
            said.did("Removed", &access.place.name) == [format!("Role/{}", access.name)],
            "{said}"
        );
        alice_may(&access.place, false).await
    })
    .await;
    put(json!(whole)).await?;
    tried?;
    let swept = eventually("with its rights it sweeps", SOON, async || {
        let said = sweep(suite, &[]).await.map_err(|error| format!("{error:#}"))?;
        if said.code == Some(0) {
            Ok(())
        } else {
            Err(said.to_string())
        }
    });
    swept.await?;
    access.place.nothing_left().await
}

async fn sweep_and_operator_hear_each_other_and_tell_of_silence(suite: &Suite) -> anyhow::Result<()> {
    let leases = Api::<Lease>::namespaced(suite.admin.clone(), "curfew-system");
    let silence = async |lease: &str| {
        let long_ago = Timestamp::now() - SignedDuration::from_mins(10);
        let patch = Patch::Merge(json!({"spec": {"renewTime": format!("{long_ago:.6}")}}));
        leases.patch(lease, &PatchParams::default(), &patch).await
    };
    let began = Timestamp::now();
    let said = sweep(suite, &[]).await?;
    ensure!(said.code == Some(0), "{said}");
    let renewed = async |lease: &str| -> anyhow::Result<Timestamp> {
        let spec = leases.get(lease).await?.spec.context("an empty Lease")?;
        Ok(spec.renew_time.context("never renewed")?.0)
    };
    ensure!(renewed("curfew-sweep").await? >= began, "the sweep did not beat");

    let operator = Operator::start(&suite.plane, &suite.binary, OperatorOptions::default()).await?;
    eventually("the operator beats, and has heard the sweep", SOON, async || {
        let beat = renewed("curfew-operator-heartbeat")
            .await
            .map_err(|error| format!("{error:#}"))?;
        let metrics = operator.metrics().await.map_err(|error| format!("{error:#}"))?;
        let heard = metrics
            .lines()
            .find_map(|line| line.strip_prefix("curfew_sweep_last_success_timestamp_seconds "));
        let heard: i64 = heard.and_then(|heard| heard.parse().ok()).unwrap_or_default();
        if beat >= began && heard >= began.as_second() {
            Ok(())
        } else {
            Err(format!("beat {beat}, heard {heard}"))
        }
    })
    .await?;
    let said = sweep(suite, &[]).await?;
    ensure!(said.report["operator"]["silent"] == false, "{said}");
    operator.kill9().await?;

    silence("curfew-operator-heartbeat").await?;
    let said = sweep(suite, &[]).await?;
    ensure!(said.code == Some(0), "silence is told, and is no failure: {said}");
    ensure!(said.report["operator"]["silent"] == true, "{said}");
    ensure!(
        said.stderr.contains("the operator has been silent for 10m"),
        "{said}"
    );

    silence("curfew-sweep").await?;
    let operator = Operator::start(&suite.plane, &suite.binary, OperatorOptions::default()).await?;
    eventually("the operator tells that the sweep is silent", SOON, async || {
        let log = operator.log();
        if log.contains("the sweep is silent") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await?;
    operator.kill9().await
}

async fn until_it_is_told_to_stop_it_sweeps_again_and_again(suite: &Suite) -> anyhow::Result<()> {
    let mut command = command(suite, None, &["--every", "1s", "-o", "json"]).await?;
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    let mut sweeper = command.spawn()?;
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(
        sweeper.stdout.take().context("no output")?,
    ));
    for _ in 0..3 {
        let line = tokio::time::timeout(SOON, lines.next_line())
            .await??
            .context("it ended")?;
        let report: Value = serde_json::from_str(&line)?;
        ensure!(report["succeeded"] == true, "{report:#}");
    }
    let pid = sweeper.id().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).context("no pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let status = tokio::time::timeout(SOON, sweeper.wait()).await??;
    ensure!(status.code() == Some(0), "{status}");
    Ok(())
}

async fn without_crds_access_ends_all_the_same(suite: &Suite) -> anyhow::Result<()> {
    let access = abandoned(suite).await?;
    let crds = [
        "accessgrants.access.curfew.dev",
        "accesspolicies.access.curfew.dev",
    ];
    let tried = without_controllers(suite, async {
        for crd in crds {
            suite
                .plane
                .run_kubectl(&["delete", "crd", crd, "--timeout=60s"])
                .await?;
        }
        would_remove(suite, &access.place.name).await?;
        alice_may(&access.place, true).await?;
        let said = sweep(suite, &[]).await?;
        ensure!(said.code == Some(0), "{said}");
        ensure!(
            said.did("Removed", &access.place.name) == access.everything(),
            "{said}"
        );
        let why = said.report["grantsNotListed"].as_str();
        ensure!(why == Some("there is no CRD of grants"), "{said}");
        alice_may(&access.place, false).await
    })
    .await;
    suite.plane.apply(&in_repository("crds")).await?;
    for crd in crds {
        let crd = format!("crd/{crd}");
        let wait = ["wait", "--for=condition=Established", "--timeout=60s", &crd];
        suite.plane.run_kubectl(&wait).await?;
    }
    tried
}
