//! Conditions of policies: what holds admits, what does not is denied with the policy's message, and what could stall
//! or mislead the operator is refused when the policy is written.

use anyhow::{Context as _, ensure};
use curfew::api::{AccessPolicy, conditions};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::support::{Place, Suite, merge};
use crate::tests;

tests![
    a_ticket_condition_admits_and_denies_with_its_message,
    a_condition_that_cannot_be_judged_denies,
    a_reason_is_a_value_and_never_an_expression,
    a_condition_that_cannot_be_used_is_said_with_line_and_column,
    nested_repetitions_stall_nobody,
    a_condition_ends_no_access_that_is_in_force,
];

fn demanding(expression: &str) -> Value {
    json!({"reason": null, "conditions": [
        {"name": "ticket", "expression": expression, "message": "name the ticket"}]})
}

/// Why a person who gives this reason is denied.
async fn denied(place: &Place<'_>, policy: &str, reason: &str) -> anyhow::Result<String> {
    let refused = place.denied("alice", policy, json!({"reason": reason})).await?;
    ensure!(
        refused.reason == "ConditionNotMet",
        "{}: {}",
        refused.reason,
        refused.message
    );
    Ok(refused.message)
}

async fn a_ticket_condition_admits_and_denies_with_its_message(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let expression = "request.reason.matches('^PAY-[0-9]+ ') && request.duration <= duration('1h') && \
                      namespaceObject.name.size() > 0 && requester.username == subject.name";
    let policy = place.policy(demanding(expression)).await?.name_any();
    let message = denied(&place, &policy, "checkout returns 500").await?;
    let expected = format!("condition ticket of policy {policy} is not met: name the ticket");
    ensure!(message.contains(&expected), "{message}");
    place
        .active(
            "alice",
            &policy,
            json!({"reason": "PAY-123 checkout returns 500"}),
        )
        .await?;
    Ok(())
}

async fn a_condition_that_cannot_be_judged_denies(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place
        .policy(demanding("policy.labels.team == 'payments'"))
        .await?
        .name_any();
    let message = denied(&place, &policy, "DEV-1 a good reason").await?;
    for part in [
        "condition ticket",
        "there is no label \"team\"",
        "name the ticket",
    ] {
        ensure!(message.contains(part), "no {part:?} in {message}");
    }
    Ok(())
}

async fn a_reason_is_a_value_and_never_an_expression(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let expression = "request.reason.matches('^PAY-[0-9]+$') || request.reason == \"it's\"";
    let policy = place.policy(demanding(expression)).await?.name_any();
    for reason in [
        "') || true || request.reason.matches('",
        "\" || true || \"",
        "PAY-1' || true //",
        "true || request.reason",
        "((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((",
        "(a+)+$ \\ ${now} %s",
    ] {
        denied(&place, &policy, reason)
            .await
            .with_context(|| reason.to_owned())?;
    }
    place.active("alice", &policy, json!({"reason": "it's"})).await?;
    Ok(())
}

fn said_of(policy: &AccessPolicy) -> Option<String> {
    let mut found = policy.status.as_ref()?.conditions.iter();
    let ready = found.find(|condition| condition.type_ == conditions::READY)?;
    (ready.status == "False" && ready.reason == "Invalid").then(|| ready.message.clone())
}

async fn a_condition_that_cannot_be_used_is_said_with_line_and_column(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let thrice = "requester.groups.all(a, requester.groups.all(b, requester.groups.all(c, a + b != c)))";
    let deep = format!("{}true{}", "(".repeat(1000), ")".repeat(1000));
    let long = vec!["request.name.size() + 1"; 85].join("+");
    for (expression, expected) in [
        (
            "true &&\n  request.reason == ",
            "line 2, column 21: mismatched input '<EOF>' expecting",
        ),
        (
            "requst.reason == 'x'",
            "line 1, column 1: there is no variable requst; there are request,",
        ),
        (
            "request.reason",
            "line 1, column 1: a condition is true or false; this is string",
        ),
        (
            "request.reason.matches('(')",
            "line 1, column 24: this is not a regular expression",
        ),
        (
            "request.reason.matches('(\\\\w{100}){10}')",
            "line 1, column 24: this pattern is too large",
        ),
        (thrice, "line 1, column 66: more than 2 nested loops"),
        (&deep, "line 1, column 13: brackets and ?: nest more than 12 deep"),
        (&long, "more than 64 operators follow one another"),
    ] {
        let policy = place.policy(demanding(expression)).await?;
        let said = said_of(&policy).with_context(|| format!("{expression} is accepted"))?;
        let field = "spec.conditions[ticket].expression: ";
        ensure!(
            said.contains(field) && said.contains(expected),
            "{expression}: no {expected:?} in {said}"
        );
    }
    Ok(())
}

async fn nested_repetitions_stall_nobody(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    for pattern in ["^(a+)+$", "^(a|aa)+$", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$"] {
        let expression = format!("request.reason.matches('{pattern}')");
        let policy = place.policy(demanding(&expression)).await?.name_any();
        denied(&place, &policy, &format!("{}!", "a".repeat(1000))).await?;
    }
    Ok(())
}

async fn a_condition_ends_no_access_that_is_in_force(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(demanding("true")).await?.name_any();
    let ask = async |duration: &str| {
        place
            .active("alice", &policy, json!({"duration": duration}))
            .await
    };
    let (short, long) = (ask("10m").await?.name_any(), ask("1h").await?.name_any());
    let mut edit = demanding("false");
    merge(&mut edit, json!({"duration": {"max": "30m"}}));
    place.edit_policy(&policy, edit).await?;
    // The edit ends what it bounds, so the other one has been looked at as well, or is about to be.
    let ended = place.in_state(&long, "Revoked").await?;
    let cause = ended
        .status
        .and_then(|status| status.revocation)
        .context("no revocation")?
        .message;
    ensure!(
        cause.contains("at most 30m") && !cause.contains("condition"),
        "{cause}"
    );
    denied(&place, &policy, "DEV-2 a good reason").await?;
    place.in_state(&short, "Active").await?;
    ensure!(place.may("alice", "list", "pods").await?, "the access ended");
    Ok(())
}
