//! When a sweep fails or tells, and that it goes on all the same.

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{Exchange, Fault, Operator, OperatorOptions, Proxy, eventually};
use crate::support::sweep::{
    abandoned, alice_may, command, sweep, sweep_via, without_controllers, would_remove,
};
use crate::support::{SOON, Suite};
use crate::tests;

tests![
    a_wrong_clock_ends_nothing_early_and_fails,
    a_missing_right_is_named_and_the_rest_goes_on,
    sweep_and_operator_hear_each_other_and_tell_of_silence,
    until_it_is_told_to_stop_it_sweeps_again_and_again,
];

async fn a_wrong_clock_ends_nothing_early_and_fails(suite: &Suite) -> anyhow::Result<()> {
    let access = abandoned(suite).await?;
    let proxy = Proxy::start(&suite.plane.url(), &suite.plane.ca_pem()?)?;
    let hour = SignedDuration::from_hours(1);
    without_controllers(suite, async {
        let shifted = |shift: SignedDuration| move |_: &Exchange| Fault::Dated(Timestamp::now() + shift);
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
            little.code == Some(0) && little.stderr.contains("the earlier clock counts"),
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
        said.stderr.contains("the operator has been silent for "),
        "{said}"
    );

    silence("curfew-sweep").await?;
    let operator = Operator::start(&suite.plane, &suite.binary, OperatorOptions::default()).await?;
    eventually("the operator tells that the sweep is silent", SOON, async || {
        let log = operator.log();
        if log.contains("curfew-sweep has not succeeded for ") {
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
