//! The main job: a request becomes access and ends on time.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, ArtifactKind, RevocationCause, conditions};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::harness::eventually;
use crate::support::{SOON, Suite, condition};
use crate::tests;

tests![
    a_record_goes_when_it_has_been_kept_long_enough,
    a_request_of_two_fields_becomes_access_and_ends_on_time,
    rules_of_the_policys_own_become_a_role_that_goes_with_the_access,
    the_hard_end_counts_when_it_comes_before_the_duration,
    what_is_made_says_whose_it_is_and_when_it_ends,
    several_entitlements_come_and_go_together,
    deleting_a_grant_ends_its_access,
    deleting_a_grant_with_orphaned_dependents_ends_its_access,
    deleting_the_namespace_does_not_hang,
    kubectl_wait_works_on_conditions,
    one_subject_has_no_more_live_grants_than_the_policy_allows,
    fifty_requests_at_once_for_one_place_leave_one_granted,
];

async fn a_request_of_two_fields_becomes_access_and_ends_on_time(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({"duration": {"default": "4s"}})).await?;
    ensure!(
        !place.may("alice", "list", "pods").await?,
        "alice may before she asks"
    );

    let grant = place.active("alice", &policy.name_any(), json!({})).await?;
    ensure!(
        place.may("alice", "list", "pods").await?,
        "alice may not though her grant is active"
    );
    ensure!(
        !place.may("eve", "list", "pods").await?,
        "eve may though she did not ask"
    );
    let status = grant.status.clone().context("no status")?;
    let expires_at = status.expires_at.context("no end")?.0;
    let activated_at = status.activated_at.context("no start")?.0;
    let length = expires_at.duration_since(activated_at);
    ensure!(
        (3..=4).contains(&length.as_secs()),
        "4 s were asked, {length:?} given"
    );

    let grant = place.in_state(&grant.name_any(), "Expired").await?;
    ensure!(!place.may("alice", "list", "pods").await?, "alice still may");
    let status = grant.status.clone().context("no status")?;
    let lag = status.ended_at.context("no end")?.0.duration_since(expires_at);
    ensure!(
        !lag.is_negative() && lag.as_secs() < 2,
        "ended {lag:?} after its time"
    );
    let revocation = status.revocation.context("no revocation")?;
    ensure!(
        revocation.cause == RevocationCause::DeadlineReached,
        "{revocation:?}"
    );
    ensure!(
        revocation.lag_milliseconds == Some(i64::try_from(lag.as_millis())?),
        "{revocation:?}, {lag:?}"
    );
    place.nothing_left().await?;

    let events = place.events(&grant).await?;
    ensure!(events.len() == 2, "two transitions, and {events:?}");
    ensure!(
        events[0].starts_with("Active: user alice has look (ClusterRole view) until "),
        "{events:?}"
    );
    ensure!(events[1].starts_with("Expired: the access ended "), "{events:?}");
    Ok(())
}

async fn rules_of_the_policys_own_become_a_role_that_goes_with_the_access(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?;
    let asked = json!({"duration": "3s", "entitlements": [{"name": "exec", "resourceNames": ["api-0"]}]});
    let grant = place.active("alice", &policy.name_any(), asked).await?;
    ensure!(
        place.may("alice", "create", "pods/exec api-0").await?
            || place.may("alice", "get", "pods api-0").await?,
        "alice may not what she was granted"
    );
    ensure!(
        place.may("alice", "get", "pods api-0").await?,
        "alice may not get api-0"
    );
    ensure!(
        !place.may("alice", "get", "pods api-1").await?,
        "alice may get what she did not name"
    );
    ensure!(
        !place.may("alice", "get", "pods").await?,
        "alice may get every pod"
    );
    place.in_state(&grant.name_any(), "Expired").await?;
    ensure!(!place.may("alice", "get", "pods api-0").await?, "alice still may");
    place.nothing_left().await
}

async fn the_hard_end_counts_when_it_comes_before_the_duration(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?;
    let end = Timestamp::now() + Duration::from_secs(3);
    let asked = json!({"duration": "1h", "notAfter": end.to_string()});
    let grant = place.active("alice", &policy.name_any(), asked).await?;
    let expires_at = grant
        .status
        .and_then(|status| status.expires_at)
        .context("no end")?
        .0;
    ensure!(
        expires_at.as_microsecond() == end.as_microsecond(),
        "{expires_at} instead of {end}"
    );
    Ok(())
}

async fn what_is_made_says_whose_it_is_and_when_it_ends(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?;
    let grant = place
        .active("alice", &policy.name_any(), json!({"duration": "30s"}))
        .await?;
    let binding = place.bindings().await?.pop().context("no binding")?;
    let fuses = Api::<Job>::namespaced(suite.admin.clone(), &place.name);
    let fuse = fuses
        .get(&binding.name_any())
        .await
        .context("a fuse of the binding's name")?;
    let end = grant
        .status
        .as_ref()
        .and_then(|status| status.expires_at.clone())
        .context("no end")?;
    for meta in [&binding.metadata, &fuse.metadata] {
        let labels = meta.labels.clone().unwrap_or_default();
        ensure!(
            labels.get("access.curfew.dev/grant-uid") == grant.metadata.uid.as_ref(),
            "{labels:?}"
        );
        let annotations = meta.annotations.clone().unwrap_or_default();
        let not_after: Timestamp = annotations
            .get("access.curfew.dev/not-after")
            .context("no not-after")?
            .parse()?;
        ensure!(not_after == end.0, "{not_after} instead of {}", end.0);
        ensure!(
            annotations.get("access.curfew.dev/grant") == Some(&grant.name_any()),
            "{annotations:?}"
        );
    }
    let owner = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
        meta.owner_references
            .clone()
            .unwrap_or_default()
            .into_iter()
            .map(|owner| owner.uid)
            .collect::<Vec<_>>()
    };
    ensure!(
        owner(&binding.metadata) == [fuse.uid().unwrap_or_default()],
        "the binding is not held by its fuse"
    );
    ensure!(
        owner(&fuse.metadata) == [grant.uid().unwrap_or_default()],
        "the fuse is not owned by the grant"
    );
    ensure!(
        binding.name_any().len() == "curfew-".len() + 32,
        "{}",
        binding.name_any()
    );
    let recorded: Vec<_> = grant.status.iter().flat_map(|status| &status.artifacts).collect();
    ensure!(
        recorded
            .iter()
            .any(|record| record.kind == ArtifactKind::RoleBinding && record.uid == binding.uid()),
        "{recorded:?}"
    );
    let pods = suite
        .plane
        .run_kubectl(&["get", "pods", "-n", &place.name, "-o", "name"])
        .await?;
    ensure!(pods.trim().is_empty(), "a fuse ran a pod: {pods}");
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::default())
        .await?;
    Ok(())
}

async fn several_entitlements_come_and_go_together(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?;
    let asked = json!({"duration": "3s", "entitlements": [{"name": "look"}, {"name": "read"}]});
    let grant = place.active("alice", &policy.name_any(), asked).await?;
    let made = place.artifacts().await?;
    ensure!(made.len() == 5, "two fuses, one Role, two bindings, and {made:?}");
    place.in_state(&grant.name_any(), "Expired").await?;
    place.nothing_left().await
}

async fn deleting_a_grant_ends_its_access(suite: &Suite) -> anyhow::Result<()> {
    deleting(suite, &DeleteParams::background()).await
}

async fn deleting_a_grant_with_orphaned_dependents_ends_its_access(suite: &Suite) -> anyhow::Result<()> {
    deleting(suite, &DeleteParams::orphan()).await
}

async fn deleting(suite: &Suite, how: &DeleteParams) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?;
    let grant = place
        .active("alice", &policy.name_any(), json!({"duration": "10m"}))
        .await?;
    ensure!(!place.bindings().await?.is_empty(), "no binding though active");
    place.grants().delete(&grant.name_any(), how).await?;
    place.nothing_left().await?;
    ensure!(!place.may("alice", "list", "pods").await?, "alice still may");
    crate::harness::eventually("the end of a deleted grant is told", SOON, async || {
        let events = place.events(&grant).await.map_err(|error| format!("{error:#}"))?;
        match events.last() {
            Some(last) if last.starts_with("Revoked: the grant was deleted") => Ok(()),
            _ => Err(format!("{events:?}")),
        }
    })
    .await
}

async fn deleting_the_namespace_does_not_hang(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?;
    place
        .active("alice", &policy.name_any(), json!({"duration": "10m"}))
        .await?;
    let namespaces = Api::<Namespace>::all(suite.admin.clone());
    namespaces
        .delete(&place.name, &DeleteParams::background())
        .await?;
    crate::harness::eventually(
        "the namespace is gone",
        Duration::from_mins(1),
        async || match namespaces.get_opt(&place.name).await {
            Ok(None) => Ok(()),
            Ok(Some(namespace)) => Err(format!("{:?}", namespace.status)),
            Err(error) => Err(error.to_string()),
        },
    )
    .await
}

async fn kubectl_wait_works_on_conditions(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({})).await?;
    let grant = place
        .ask("alice", &policy.name_any(), json!({"duration": "3s"}))
        .await?;
    let name = format!("agrant/{}", grant.name_any());
    for condition in ["Accepted", "Active", "Ready", "Ended"] {
        let condition = format!("--for=condition={condition}");
        suite
            .plane
            .run_kubectl(&["wait", &condition, "--timeout=20s", "-n", &place.name, &name])
            .await
            .with_context(|| condition.clone())?;
    }
    Ok(())
}

async fn one_subject_has_no_more_live_grants_than_the_policy_allows(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({"limits": {"activePerSubject": 1}})).await?;
    let first = place
        .active("alice", &policy.name_any(), json!({"duration": "5s"}))
        .await?;
    let refused = place.denied("alice", &policy.name_any(), json!({})).await?;
    ensure!(refused.reason == "LimitReached", "{refused:?}");
    let rival = format!("{}/{}", place.name, first.name_any());
    ensure!(
        refused.message.contains(&rival) && refused.message.contains("at most 1 allowed"),
        "{refused:?}"
    );
    place
        .active("eve", &policy.name_any(), json!({"duration": "3s"}))
        .await
        .context("another subject")?;
    place.in_state(&first.name_any(), "Expired").await?;
    place
        .active("alice", &policy.name_any(), json!({"duration": "3s"}))
        .await
        .context("after the first ended")?;
    Ok(())
}

async fn fifty_requests_at_once_for_one_place_leave_one_granted(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place
        .policy(json!({"limits": {"activePerSubject": 1}}))
        .await?
        .name_any();
    let asks = (0..50).map(|_| place.ask("alice", &policy, json!({"duration": "60s"})));
    let grants: Vec<AccessGrant> = futures::future::try_join_all(asks).await?;
    let mut active = 0;
    for grant in &grants {
        let decided = crate::harness::eventually("each request is decided", SOON, async || {
            let grant = place
                .grants()
                .get(&grant.name_any())
                .await
                .map_err(|error| error.to_string())?;
            match condition(&grant, conditions::ACTIVE).map(|active| active.reason.clone()) {
                Some(state) if state == "Active" || state == "Denied" => Ok(state),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        active += usize::from(decided == "Active");
    }
    ensure!(active == 1, "{active} of 50 were granted");
    let bindings: Vec<RoleBinding> = place.bindings().await?;
    ensure!(bindings.len() == 1, "{} bindings", bindings.len());
    Ok(())
}

async fn a_record_goes_when_it_has_been_kept_long_enough(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let policy = place.policy(json!({"retention": "5s"})).await?.name_any();
    let grant = place.active("alice", &policy, json!({"duration": "2s"})).await?;
    place.in_state(&grant.name_any(), "Expired").await?;
    eventually("the record is gone", SOON, async || {
        match place.grants().get_opt(&grant.name_any()).await {
            Ok(None) => Ok(()),
            Ok(Some(grant)) => Err(format!("{:?}", grant.status)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    place.nothing_left().await
}
