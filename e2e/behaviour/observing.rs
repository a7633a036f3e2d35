//! What people and tools see: explain, columns, describe, health, metrics, logs.

use anyhow::{Context as _, ensure};
use curfew::api::conditions;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{Operator, OperatorOptions, eventually};
use crate::support::{SOON, Suite, condition};
use crate::tests;

tests![
    kubectl_explain_has_a_sentence_for_every_field,
    the_columns_say_what_one_would_ask_next,
    describe_shows_the_transitions,
    a_new_grant_tells_generic_tools_to_wait,
    the_api_server_keeps_the_state_machine_against_the_operator_too,
    health_and_metrics_are_served,
    each_transition_leaves_one_audit_record,
    an_operator_without_an_api_server_is_alive_and_not_ready,
    field_selectors_and_short_names_work,
];

async fn kubectl_explain_has_a_sentence_for_every_field(suite: &Suite) -> anyhow::Result<()> {
    for kind in ["accesspolicies", "accessgrants", "accessdecisions"] {
        let crd = suite
            .plane
            .run_kubectl(&["get", "crd", &format!("{kind}.access.curfew.dev"), "-o", "json"])
            .await?;
        let crd: Value = serde_json::from_str(&crd)?;
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut silent = Vec::new();
        for part in ["spec", "status"] {
            undescribed(&schema["properties"][part], part, &mut silent);
        }
        ensure!(silent.is_empty(), "{kind}: no sentence for {}", silent.join(", "));
    }
    let explained = suite
        .plane
        .run_kubectl(&["explain", "agrant.spec.notAfter"])
        .await?;
    ensure!(explained.contains("Latest end of the access"), "{explained}");
    Ok(())
}

fn undescribed(schema: &Value, path: &str, silent: &mut Vec<String>) {
    if schema["description"].as_str().is_none_or(str::is_empty) {
        silent.push(path.to_owned());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        undescribed(property, &format!("{path}.{name}"), silent);
    }
    for (name, property) in schema["items"]["properties"].as_object().into_iter().flatten() {
        undescribed(property, &format!("{path}[].{name}"), silent);
    }
}

async fn the_columns_say_what_one_would_ask_next(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place
        .policy(json!({"description": "to look at"}))
        .await?
        .name_any();
    let grant = place.active("alice", &policy, json!({"duration": "20s"})).await?;
    let rows = suite
        .plane
        .run_kubectl(&["get", "agrant", "-n", &place.name, "-o", "wide"])
        .await?;
    for part in [
        "POLICY",
        "SUBJECT",
        "STATE",
        "EXPIRES",
        "AGE",
        "REQUESTER",
        "REASON",
    ] {
        ensure!(rows.contains(part), "no column {part} in\n{rows}");
    }
    let row = rows
        .lines()
        .find(|line| line.starts_with(&grant.name_any()))
        .context("no row")?;
    for part in [policy.as_str(), "alice", "Active", "2026-", "DEV-123"] {
        // The century is not tested, only that the end is told as a time.
        let part = if part == "2026-" { "T" } else { part };
        ensure!(row.contains(part), "no {part} in {row}");
    }
    let rows = suite.plane.run_kubectl(&["get", "curfew", "-A"]).await?;
    ensure!(
        rows.contains(&policy) && rows.contains(&grant.name_any()),
        "the category lacks something:\n{rows}"
    );
    let rows = suite
        .plane
        .run_kubectl(&["get", "apol", &policy, "-o", "wide"])
        .await?;
    for part in [
        "PATH",
        "MAX",
        "READY",
        "LIVE",
        "Automatic",
        "1h",
        "True",
        "to look at",
    ] {
        ensure!(rows.contains(part), "no {part} in\n{rows}");
    }
    Ok(())
}

async fn describe_shows_the_transitions(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = place.active("alice", &policy, json!({"duration": "2s"})).await?;
    place.in_state(&grant.name_any(), "Expired").await?;
    let text = suite
        .plane
        .run_kubectl(&["describe", "agrant", "-n", &place.name, &grant.name_any()])
        .await?;
    let (_, events) = text.split_once("Events:").context("no Events")?;
    ensure!(
        events.contains("user alice has look (ClusterRole view) until"),
        "{events}"
    );
    ensure!(events.contains("ms after its time"), "{events}");
    Ok(())
}

async fn a_new_grant_tells_generic_tools_to_wait(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let created = place.ask("alice", "nowhere", json!({})).await?;
    let reconciling = condition(&created, conditions::RECONCILING).context("kstatus would say Current")?;
    ensure!(
        reconciling.status == "True" && reconciling.reason == "Pending",
        "{reconciling:?}"
    );
    Ok(())
}

async fn the_api_server_keeps_the_state_machine_against_the_operator_too(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = place.active("alice", &policy, json!({"duration": "5s"})).await?;
    let status = async |edit: Value| {
        let patch = Patch::Merge(json!({"status": edit}));
        place
            .grants()
            .patch_status(&grant.name_any(), &PatchParams::default(), &patch)
            .await
    };
    let active = json!([{"type": "Active", "status": "True", "reason": "Active", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    for (edit, expected) in [
        (
            json!({"expiresAt": "2036-01-01T00:00:00Z"}),
            "expiresAt only moves earlier",
        ),
        (json!({"expiresAt": null}), "expiresAt only moves earlier"),
        (
            json!({"resolved": {"hash": "sha256:0"}}),
            "status.resolved cannot change after expiresAt is set",
        ),
        (
            json!({"resolved": null}),
            "status.resolved cannot change after expiresAt is set",
        ),
    ] {
        let error = status(edit.clone())
            .await
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        ensure!(error.contains(expected), "{edit}: {error}");
    }
    place.in_state(&grant.name_any(), "Expired").await?;
    for (edit, expected) in [
        (json!({"endedAt": null}), "an ended grant stays ended"),
        (
            json!({"endedAt": "2036-01-01T00:00:00Z"}),
            "an ended grant stays ended",
        ),
        (
            json!({"conditions": active}),
            "an ended grant never becomes active",
        ),
    ] {
        let error = status(edit.clone())
            .await
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        ensure!(error.contains(expected), "{edit}: {error}");
    }
    Ok(())
}

async fn health_and_metrics_are_served(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = place.active("alice", &policy, json!({"duration": "2s"})).await?;
    place.in_state(&grant.name_any(), "Expired").await?;
    let (code, text) = suite.operator()?.ready().await?;
    ensure!(code == 200 && text.trim() == "ok", "{code} {text}");
    let metrics = suite.operator()?.metrics().await?;
    for name in [
        r#"curfew_effects_total{kind="CreateBinding",outcome="Applied"}"#,
        r#"curfew_effects_total{kind="DeleteBinding",outcome="Applied"}"#,
        r#"curfew_revocations_total{cause="DeadlineReached"}"#,
        "curfew_activation_seconds_count",
        "curfew_revocation_lag_seconds_count",
    ] {
        ensure!(
            value(&metrics, name).is_some_and(|value| value >= 1.0),
            "{name} in\n{metrics}"
        );
    }
    let operator = suite.operator()?;
    // Grants of other tests are overdue for some milliseconds each.
    eventually("no grant is overdue", SOON, async || {
        let metrics = operator.metrics().await.map_err(|error| format!("{error:#}"))?;
        let overdue = value(&metrics, "curfew_overdue_grants");
        if overdue == Some(0.0) {
            Ok(())
        } else {
            Err(format!("{overdue:?}"))
        }
    })
    .await
}

fn value(metrics: &str, name: &str) -> Option<f64> {
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .trim()
        .parse()
        .ok()
}

async fn each_transition_leaves_one_audit_record(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let asked = json!({"duration": "2s", "references": [{"type": "Ticket", "id": "DEV-123"}]});
    let grant = place.active("alice", &policy, asked).await?;
    place.in_state(&grant.name_any(), "Expired").await?;
    let records = suite.operator()?.audit_records().into_iter();
    let records: Vec<_> = records
        .filter(|record| record["uid"].as_str() == grant.uid().as_deref())
        .collect();
    let states: Vec<_> = records.iter().map(|record| record["state"].clone()).collect();
    ensure!(states == [json!("Active"), json!("Expired")], "{records:#?}");
    for record in &records {
        ensure!(
            record["requester"]["username"] == "alice" && record["subject"]["name"] == "alice",
            "{record}"
        );
        ensure!(
            record["references"][0]["id"] == "DEV-123" && record["policy"] == policy.as_str(),
            "{record}"
        );
        ensure!(
            record["accessHash"]
                .as_str()
                .is_some_and(|hash| hash.starts_with("sha256:")),
            "{record}"
        );
    }
    Ok(())
}

async fn an_operator_without_an_api_server_is_alive_and_not_ready(suite: &Suite) -> anyhow::Result<()> {
    // Discard protocol: nobody answers.
    let nowhere = OperatorOptions {
        via: Some("http://127.0.0.1:9".to_owned()),
        unready: true,
        ..OperatorOptions::default()
    };
    let operator = Operator::start(&suite.plane, &suite.binary, nowhere).await?;
    eventually("it names what it waits for", SOON, async || {
        let (code, text) = operator.ready().await.map_err(|error| format!("{error:#}"))?;
        if code == 503 && text.contains("grants: cannot be listed yet") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await?;
    let (code, _) = crate::harness::get::get(operator.address(), "/livez").await?;
    ensure!(code == 200, "livez answers {code}");
    ensure!(operator.terminate().await? == 0, "SIGTERM is not a failure");
    Ok(())
}

async fn field_selectors_and_short_names_work(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let grant = place.ask("alice", "policy-of-alice", json!({})).await?;
    place.ask("eve", "policy-of-eve", json!({})).await?;
    for selector in [
        "spec.policyRef.name=policy-of-alice",
        "spec.requester.username=alice",
    ] {
        let found = suite
            .plane
            .run_kubectl(&[
                "get",
                "agrant",
                "-n",
                &place.name,
                "-o",
                "name",
                "--field-selector",
                selector,
            ])
            .await?;
        ensure!(
            found.trim() == format!("accessgrant.access.curfew.dev/{}", grant.name_any()),
            "{selector}: {found}"
        );
    }
    Ok(())
}
