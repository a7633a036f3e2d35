//! Bad input: each request gets an answer that names the field, the value and what would be accepted, from the API
//! server where its schema can see it, from Curfew as a `Denied` grant otherwise.

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, conditions};
use jiff::{Timestamp, ToSpan as _};
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::support::{Place, Suite, condition};
use crate::tests;

tests![
    what_the_schema_can_see_is_refused_by_the_api_server,
    what_only_the_policy_can_see_is_denied_with_what_would_be_accepted,
    several_mistakes_are_named_at_once,
    a_grant_of_a_policy_that_does_not_exist_waits_for_it_and_is_denied,
    a_grant_made_together_with_its_policy_is_granted,
    a_denied_grant_is_final_and_tells_generic_tools,
    outside_every_window_the_next_opening_is_named,
    nothing_of_a_grant_can_be_edited,
    a_time_that_only_the_schema_accepts_stops_nobody_else,
];

/// Creates a grant from JSON, which need not be a valid one.
async fn create(
    place: &Place<'_>,
    person: &str,
    mut spec: Value,
) -> anyhow::Result<Result<AccessGrant, String>> {
    let kind = GroupVersionKind::gvk("access.curfew.dev", "v1alpha1", "AccessGrant");
    let resource = ApiResource::from_gvk(&kind);
    let client = place.suite.plane.client_as(person).await?;
    place.suite.state_who(&client, &mut spec, "requester").await?;
    let grants = Api::<DynamicObject>::namespaced_with(client, &place.name, &resource);
    let object = DynamicObject::new(&place.suite.fresh("raw"), &resource).data(json!({"spec": spec}));
    match grants.create(&PostParams::default(), &object).await {
        Ok(created) => Ok(Ok(place.grants().get(&created.name_any()).await?)),
        Err(kube::Error::Api(status)) => Ok(Err(status.message.clone())),
        Err(error) => Err(error.into()),
    }
}

async fn what_the_schema_can_see_is_refused_by_the_api_server(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let good = json!({"policyRef": {"name": "any"}, "reason": "DEV-1 a good reason"});
    let table = [
        (json!({"duration": "0s"}), "a duration lies between 1s and 768h"),
        (json!({"duration": "-1h"}), "spec.duration"),
        (
            json!({"duration": "99999h"}),
            "a duration lies between 1s and 768h",
        ),
        (json!({"duration": "99999999999999999999h"}), "spec.duration"),
        (json!({"duration": "1d"}), "spec.duration"),
        (json!({"duration": "soon"}), "spec.duration"),
        (json!({"notAfter": "tomorrow"}), "spec.notAfter"),
        (json!({"notAfter": "2026-12-01T18:00:00"}), "spec.notAfter"),
        (json!({"notAfter": "2026-12-01T18:00:00+99:99"}), "spec.notAfter"),
        (json!({"notAfter": "2026-13-01T18:00:00Z"}), "spec.notAfter"),
        (json!({"notAfter": "10000-01-01T00:00:00Z"}), "spec.notAfter"),
        (json!({"reason": ""}), "spec.reason"),
        (json!({"reason": null}), "spec.reason"),
        (json!({"reason": "x".repeat(1025)}), "spec.reason"),
        (json!({"reason": "looks fine \u{202e}but is not"}), "spec.reason"),
        (json!({"reason": "two\nlines of reason"}), "spec.reason"),
        (json!({"policyRef": {"name": ""}}), "spec.policyRef.name"),
        (json!({"policyRef": null}), "spec.policyRef"),
        (
            json!({"subject": {"kind": "Group", "name": "devs"}}),
            "spec.subject.kind",
        ),
        (
            json!({"subject": {"kind": "User", "name": "a", "namespace": "b"}}),
            "kind ServiceAccount requires namespace",
        ),
        (
            json!({"subject": {"kind": "ServiceAccount", "name": "a"}}),
            "kind ServiceAccount requires namespace",
        ),
        (
            json!({"subject": {"kind": "User", "name": "a\u{200b}b"}}),
            "spec.subject.name",
        ),
        (json!({"entitlements": []}), "spec.entitlements"),
        (
            json!({"entitlements": [{"name": "a"}, {"name": "a"}]}),
            "Duplicate value",
        ),
        (
            json!({"entitlements": [{"name": "a", "resourceNames": []}]}),
            "resourceNames",
        ),
        (json!({"references": [{"type": "Ticket"}]}), "references[0].id"),
    ];
    for (edit, expected) in table {
        let mut spec = good.clone();
        crate::support::merge(&mut spec, edit.clone());
        match create(&place, "alice", spec).await? {
            Ok(_) => anyhow::bail!("{edit} was accepted"),
            Err(message) => ensure!(message.contains(expected), "{edit}: no {expected:?} in {message}"),
        }
    }
    Ok(())
}

async fn what_only_the_policy_can_see_is_denied_with_what_would_be_accepted(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place
        .policy(json!({
            "duration": {"max": "30m"},
            "reason": {"minLength": 12, "pattern": "[A-Z]+-[0-9]+ .*"},
            "subjects": [{"kind": "User", "name": "carol"}],
            "entitlements": [
                {"name": "look", "role": {"kind": "ClusterRole", "name": "view"}},
                {"name": "local", "role": {"kind": "Role", "name": "nowhere"}},
                {"name": "exec", "rules": {"narrowing": "Required", "items": [
                    {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}]}},
                {"name": "read", "rules": {"narrowing": "Forbidden", "items": [
                    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}},
                {"name": "one", "rules": {"items": [
                    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["api-0"]}]}},
            ],
        }))
        .await?
        .name_any();
    let look = json!([{"name": "look"}]);
    let table = [
        (
            json!({"entitlements": look, "duration": "31m"}),
            "DurationTooLong",
            vec!["spec.duration", "31m", "at most 30m"],
        ),
        (
            json!({"entitlements": look, "reason": "DEV-1 short"}),
            "ReasonInsufficient",
            vec!["spec.reason", "11", "at least 12"],
        ),
        (
            json!({"entitlements": look, "reason": "no ticket at all"}),
            "ReasonInsufficient",
            vec!["spec.reason", "no ticket at all", "[A-Z]+-[0-9]+ .*"],
        ),
        (
            json!({"entitlements": look, "reason": "see DEV-1 for all of it"}),
            "ReasonInsufficient",
            vec!["does not match"],
        ),
        (
            json!({}),
            "EntitlementUnknown",
            vec!["spec.entitlements", "look, local, exec, read, one"],
        ),
        (
            json!({"entitlements": [{"name": "root"}]}),
            "EntitlementUnknown",
            vec!["spec.entitlements[root]", "look, local"],
        ),
        (
            json!({"entitlements": [{"name": "exec"}]}),
            "NarrowingRefused",
            vec!["spec.entitlements[exec].resourceNames", "name the objects"],
        ),
        (
            json!({"entitlements": [{"name": "read", "resourceNames": ["a"]}]}),
            "NarrowingRefused",
            vec!["granted as a whole"],
        ),
        (
            json!({"entitlements": [{"name": "look", "resourceNames": ["a"]}]}),
            "NarrowingRefused",
            vec!["cannot be narrowed"],
        ),
        (
            json!({"entitlements": [{"name": "one", "resourceNames": ["api-1"]}]}),
            "NarrowingRefused",
            vec!["api-1", "api-0"],
        ),
        (
            json!({"entitlements": [{"name": "local"}]}),
            "RoleNotFound",
            vec!["Role nowhere does not exist"],
        ),
        (
            json!({"entitlements": look, "subject": {"kind": "User", "name": "bob"}}),
            "SubjectNotListed",
            vec!["spec.subject", "user bob", "user carol"],
        ),
        (
            json!({"entitlements": look, "subject": {"kind": "User", "name": "system:admin"}}),
            "SubjectForbidden",
            vec![
                "system:admin",
                "names that begin with system: belong to Kubernetes",
            ],
        ),
        (
            json!({"entitlements": look, "subject": {"kind": "User", "name": "*"}}),
            "SubjectForbidden",
            vec!["no wildcard"],
        ),
        (
            json!({"entitlements": look, "subject": {"kind": "ServiceAccount", "namespace": "curfew-system", "name": "curfew"}}),
            "SubjectForbidden",
            vec!["Curfew's own namespace"],
        ),
    ];
    for (edit, reason, parts) in table {
        let refused = place
            .denied("alice", &policy, edit.clone())
            .await
            .with_context(|| edit.to_string())?;
        ensure!(refused.reason == reason, "{edit}: {reason} expected, {refused:?}");
        for part in parts {
            ensure!(
                refused.message.contains(part),
                "{edit}: no {part:?} in {}",
                refused.message
            );
        }
    }
    let refused = place
        .denied("bob", &policy, json!({"entitlements": look}))
        .await?;
    ensure!(refused.reason == "RequesterNotListed", "{refused:?}");
    ensure!(
        refused.message.contains("bob") && refused.message.contains("group devs"),
        "{refused:?}"
    );

    let elsewhere = suite.namespace().await?;
    let refused = elsewhere
        .denied("alice", &policy, json!({"entitlements": look}))
        .await?;
    ensure!(refused.reason == "NamespaceNotSelected", "{refused:?}");
    ensure!(
        refused.message.contains(&format!("place={}", place.name)),
        "{refused:?}"
    );
    ensure!(
        place.artifacts().await?.is_empty(),
        "something was made for a denied grant"
    );
    Ok(())
}

async fn several_mistakes_are_named_at_once(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place
        .policy(json!({"reason": {"minLength": 100}}))
        .await?
        .name_any();
    let wrong = json!({"duration": "5h", "entitlements": [{"name": "nothing"}]});
    let refused = place.denied("alice", &policy, wrong).await?;
    for part in [
        "(1) spec.reason: ",
        "(2) spec.duration: 5h asked, at most 1h",
        "(3) spec.entitlements[nothing]: ",
    ] {
        ensure!(
            refused.message.contains(part),
            "no {part:?} in {}",
            refused.message
        );
    }
    Ok(())
}

async fn a_grant_of_a_policy_that_does_not_exist_waits_for_it_and_is_denied(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let grant = place.ask("alice", "no-such-policy", json!({})).await?;
    let held = crate::harness::eventually("the wait is told", crate::support::SOON, async || {
        let grant = place
            .grants()
            .get(&grant.name_any())
            .await
            .map_err(|error| error.to_string())?;
        let accepted = condition(&grant, conditions::ACCEPTED).cloned();
        accepted
            .filter(|accepted| accepted.status == "Unknown")
            .ok_or_else(|| format!("{:?}", grant.status))
    })
    .await?;
    ensure!(
        held.message
            .contains("policy no-such-policy does not exist; waiting for it until"),
        "{held:?}"
    );
    let denied = place.in_state(&grant.name_any(), "Denied").await?;
    let accepted = condition(&denied, conditions::ACCEPTED).context("no condition")?;
    ensure!(accepted.reason == "PolicyNotFound", "{accepted:?}");
    Ok(())
}

async fn a_grant_made_together_with_its_policy_is_granted(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy_unjudged(json!({})).await?;
    place
        .active("alice", &policy.name_any(), json!({"duration": "3s"}))
        .await?;
    Ok(())
}

async fn a_denied_grant_is_final_and_tells_generic_tools(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let refused = place.denied("alice", &policy, json!({"duration": "2h"})).await?;
    let stalled = condition(&refused.grant, conditions::STALLED).context("kstatus would wait for ever")?;
    ensure!(
        stalled.status == "True" && stalled.message.contains("at most 1h"),
        "{stalled:?}"
    );
    ensure!(
        condition(&refused.grant, conditions::RECONCILING).is_none(),
        "{:?}",
        refused.grant.status
    );
    ensure!(
        refused
            .grant
            .status
            .as_ref()
            .is_some_and(|status| status.ended_at.is_some()),
        "not final"
    );
    let events = place.events(&refused.grant).await?;
    ensure!(
        events.len() == 1 && events[0].starts_with("Denied: spec.duration: 2h asked"),
        "{events:?}"
    );
    // The policy allows it now; the answer stays.
    place
        .edit_policy(&policy, json!({"duration": {"max": "4h"}}))
        .await?;
    place
        .active("alice", &policy, json!({"duration": "2h"}))
        .await
        .context("the same request again")?;
    place.in_state(&refused.grant.name_any(), "Denied").await?;
    Ok(())
}

async fn outside_every_window_the_next_opening_is_named(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let hour = |ahead: i64| (Timestamp::now() + ahead.hours()).strftime("%H:00").to_string();
    let closed = json!({"windows": [{"name": "later", "timeZone": "UTC", "from": hour(3), "to": hour(5)}]});
    let policy = place.policy(closed).await?.name_any();
    let refused = place.denied("alice", &policy, json!({})).await?;
    ensure!(refused.reason == "OutsideWindows", "{refused:?}");
    ensure!(refused.message.contains("the next opens at "), "{refused:?}");

    let open = json!({"windows": [{"name": "now", "timeZone": "UTC", "from": hour(-1), "to": hour(2)}]});
    let policy = place.policy(open.clone()).await?.name_any();
    let grant = place.active("alice", &policy, json!({"duration": "1h"})).await?;
    ensure!(
        grant.status.and_then(|status| status.expires_at).is_some(),
        "no end"
    );

    // A window that closes before the duration is over ends the access.
    let policy = place
        .policy(merged(open, json!({"duration": {"max": "4h"}})))
        .await?
        .name_any();
    let grant = place.active("alice", &policy, json!({"duration": "4h"})).await?;
    let end = grant
        .status
        .and_then(|status| status.expires_at)
        .context("no end")?
        .0;
    ensure!(
        end.strftime("%M:%S").to_string() == "00:00" && end < Timestamp::now() + 2.hours(),
        "{end}"
    );
    Ok(())
}

fn merged(mut one: Value, other: Value) -> Value {
    crate::support::merge(&mut one, other);
    one
}

async fn nothing_of_a_grant_can_be_edited(suite: &Suite) -> anyhow::Result<()> {
    use kube::api::{Patch, PatchParams};
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let grant = place.active("alice", &policy, json!({"duration": "1m"})).await?;
    let edits = [
        json!({"duration": "1h"}),
        json!({"duration": null}),
        json!({"notAfter": "2036-01-01T00:00:00Z"}),
        json!({"subject": {"kind": "User", "name": "mallory"}}),
        json!({"reason": "another reason"}),
        json!({"policyRef": {"name": "another"}}),
        json!({"requester": {"username": "eve"}}),
        json!({"entitlements": [{"name": "exec"}]}),
        json!({"references": [{"type": "Ticket", "id": "1"}]}),
    ];
    for edit in edits {
        let patch = Patch::Merge(json!({"spec": edit}));
        match place
            .grants()
            .patch(&grant.name_any(), &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => anyhow::bail!("{edit} was accepted"),
            Err(error) => ensure!(
                error.to_string().contains("a grant cannot be changed"),
                "{edit}: {error}"
            ),
        }
    }
    Ok(())
}

/// The schema cannot count the days of a month. One such object must not stop the watch for everybody, and gets an
/// answer itself.
async fn a_time_that_only_the_schema_accepts_stops_nobody_else(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?.name_any();
    let spec = json!({
        "policyRef": {"name": policy}, "reason": "DEV-1 a good reason", "notAfter": "2026-02-30T18:00:00Z",
    });
    let grant = create(&place, "alice", spec).await?.map_err(anyhow::Error::msg)?;
    let grant = place.in_state(&grant.name_any(), "Denied").await?;
    let accepted = condition(&grant, conditions::ACCEPTED).context("no condition")?;
    ensure!(accepted.reason == "NotAfterInvalid", "{accepted:?}");
    ensure!(
        accepted.message.contains("write it as 2026-12-01T18:00:00Z"),
        "{accepted:?}"
    );
    place.active("alice", &policy, json!({"duration": "3s"})).await?;
    Ok(())
}
