//! Acting as a service account: access to what belongs to no namespace, which ends as any other.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use curfew::api::{AccessGrant, REVOKE_FINALIZER, RevocationCause};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::{eventually, in_repository};
use crate::support::act_as::{
    Account, IDENTITIES, Identity, acts_as, gone, impersonation, is_kept, made_for, nothing_left, policy,
};
use crate::support::{Place, SOON, Suite};
use crate::tests;

tests![
    a_person_acts_as_a_service_account_until_the_grant_ends,
    deleting_a_grant_to_act_as_somebody_ends_it_and_lets_it_go,
    a_namespace_with_a_live_grant_to_act_as_somebody_can_be_deleted,
    finalizers_of_others_stay,
    a_service_account_that_is_made_again_ends_the_access,
    a_role_to_act_as_somebody_that_is_widened_ends_the_access,
    what_a_policy_lacks_to_act_as_somebody_is_said_as_yaml,
    a_role_that_allows_more_than_to_act_as_one_is_refused,
    a_service_account_to_act_as_cannot_be_narrowed,
    the_example_works,
];

async fn a_person_acts_as_a_service_account_until_the_grant_ends(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let identity = Identity::prepare(&place).await?;
    let other = Account::named(suite, suite.fresh("other"));
    other.make().await?;
    ensure!(!identity.acts("alice").await?, "alice acts before she asks");

    let grant = identity.active("alice", "6s").await?;
    ensure!(
        identity.acts("alice").await?,
        "alice may not act though she has access"
    );
    ensure!(!identity.acts("eve").await?, "eve acts though she did not ask");
    ensure!(!other.acts("alice").await?, "alice acts as somebody else");
    ensure!(is_kept(&grant), "the grant is not kept: {:?}", grant.metadata);
    ensure!(
        place.artifacts().await?.is_empty(),
        "something was made beside the grant"
    );
    let made = made_for(suite, &grant).await?;
    let [fuse, binding] = made.as_slice() else {
        anyhow::bail!("a fuse and a binding, and {made:?}");
    };
    let name = fuse.trim_start_matches("Job/");
    ensure!(binding.ends_with(name), "{made:?}");
    let fuse = Api::<Job>::namespaced(suite.admin.clone(), IDENTITIES)
        .get(name)
        .await?;
    ensure!(
        fuse.owner_references().is_empty(),
        "{:?}",
        fuse.owner_references()
    );
    let annotation = |key: &str| fuse.annotations().get(key).cloned().unwrap_or_default();
    ensure!(
        annotation("access.curfew.dev/grant") == grant.name_any(),
        "{fuse:?}"
    );
    ensure!(
        annotation("access.curfew.dev/grant-namespace") == place.name,
        "{fuse:?}"
    );
    let told = place.events(&grant).await?;
    let account = format!(
        "user alice has nodes (acting as service account {IDENTITIES}/{})",
        identity.account.name
    );
    ensure!(told.iter().any(|told| told.contains(&account)), "{told:?}");

    place.in_state(&grant.name_any(), "Expired").await?;
    ensure!(!identity.acts("alice").await?, "alice still acts");
    nothing_left(suite, &grant).await?;
    eventually("the record is let go", SOON, async || {
        let grant = place.grants().get(&grant.name_any()).await;
        let grant = grant.map_err(|error| error.to_string())?;
        if is_kept(&grant) {
            Err(format!("{:?}", grant.metadata.finalizers))
        } else {
            Ok(())
        }
    })
    .await
}

async fn deleting_a_grant_to_act_as_somebody_ends_it_and_lets_it_go(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let identity = Identity::prepare(&place).await?;
    let grant = identity.active("alice", "10m").await?;
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::background())
        .await?;
    gone(&place, &grant).await?;
    // It was let go after the proof.
    let left = made_for(suite, &grant).await?;
    ensure!(
        !left.iter().any(|left| left.starts_with("RoleBinding/")),
        "let go with {left:?}"
    );
    ensure!(!identity.acts("alice").await?, "alice still acts");
    nothing_left(suite, &grant).await?;
    let told = place.events(&grant).await?;
    ensure!(
        told.last()
            .is_some_and(|last| last.starts_with("Revoked: the grant was deleted")),
        "{told:?}"
    );
    Ok(())
}

async fn a_namespace_with_a_live_grant_to_act_as_somebody_can_be_deleted(
    suite: &Suite,
) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let identity = Identity::prepare(&place).await?;
    let grant = identity.active("alice", "10m").await?;
    let namespaces = Api::<Namespace>::all(suite.admin.clone());
    namespaces
        .delete(&place.name, &DeleteParams::background())
        .await?;
    eventually(
        "the namespace is gone",
        Duration::from_mins(1),
        async || match namespaces.get_opt(&place.name).await {
            Ok(None) => Ok(()),
            Ok(Some(namespace)) => Err(format!("{:?}", namespace.status)),
            Err(error) => Err(error.to_string()),
        },
    )
    .await?;
    ensure!(!identity.acts("alice").await?, "alice still acts");
    nothing_left(suite, &grant).await
}

async fn finalizers_of_others_stay(suite: &Suite) -> anyhow::Result<()> {
    // The only one that the guards let others put there.
    const OTHERS: &str = "argocd.argoproj.io/hook-finalizer";
    let place = suite.namespace().await?;
    let identity = Identity::prepare(&place).await?;
    let grant = identity.active("alice", "10m").await?;
    let both = Patch::Merge(json!({"metadata": {"finalizers": [OTHERS, REVOKE_FINALIZER]}}));
    let grants = place.grants();
    grants
        .patch(&grant.name_any(), &PatchParams::default(), &both)
        .await?;
    grants
        .delete(&grant.name_any(), &DeleteParams::background())
        .await?;
    eventually("ours is taken off", SOON, async || {
        let grant = grants.get(&grant.name_any()).await;
        match grant.map_err(|error| error.to_string())?.finalizers() {
            [only] if only == OTHERS => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    place.in_state(&grant.name_any(), "Revoked").await?;
    ensure!(!identity.acts("alice").await?, "alice still acts");
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    grants
        .patch(&grant.name_any(), &PatchParams::default(), &none)
        .await?;
    gone(&place, &grant).await
}

async fn ended_by_change(identity: &Identity<'_>, grant: &AccessGrant, message: &str) -> anyhow::Result<()> {
    let ended = identity.place.in_state(&grant.name_any(), "Revoked").await?;
    let revocation = ended.status.and_then(|status| status.revocation);
    let revocation = revocation.context("no revocation")?;
    ensure!(revocation.cause == RevocationCause::RoleChanged, "{revocation:?}");
    ensure!(revocation.message == message, "{revocation:?}");
    ensure!(!identity.acts("alice").await?, "alice still acts");
    nothing_left(identity.place.suite, grant).await
}

async fn a_service_account_that_is_made_again_ends_the_access(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let identity = Identity::prepare(&place).await?;
    let grant = identity.active("alice", "10m").await?;
    identity.account.delete_account().await?;
    let message = format!(
        "service account {IDENTITIES}/{} was deleted",
        identity.account.name
    );
    ended_by_change(&identity, &grant, &message).await?;
    identity.account.make_account().await?;
    place.ready(&identity.policy).await?;
    let again = identity.active("alice", "3s").await?;
    place.in_state(&again.name_any(), "Expired").await?;
    Ok(())
}

async fn a_role_to_act_as_somebody_that_is_widened_ends_the_access(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let identity = Identity::prepare(&place).await?;
    let keep = json!({"entitlements": [{"name": "nodes",
        "actAs": {"serviceAccount": identity.account.name, "onChange": "Keep"}}]});
    place.edit_policy(&identity.policy, keep).await?;
    let grant = identity.active("alice", "10m").await?;
    let wide = Patch::Merge(json!({"rules": [impersonation(&[&identity.account.name, "another"])]}));
    Api::<ClusterRole>::all(suite.admin.clone())
        .patch(&identity.account.role(), &PatchParams::default(), &wide)
        .await?;
    let message = format!(
        "the rules of role {} now allow the subject to create objects that outlast the access",
        identity.account.role()
    );
    ended_by_change(&identity, &grant, &message).await
}

/// Reason and message of the condition Ready.
async fn unready(place: &Place<'_>, policy: &str) -> anyhow::Result<(String, String)> {
    let policy = place.judged(policy).await?;
    let ready = policy.status.and_then(|status| {
        let mut conditions = status.conditions.into_iter();
        conditions.find(|condition| condition.type_ == "Ready")
    });
    let ready = ready.context("no condition")?;
    ensure!(ready.status == "False", "{ready:?}");
    Ok((ready.reason, ready.message))
}

async fn what_a_policy_lacks_to_act_as_somebody_is_said_as_yaml(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let account = Account::named(suite, suite.fresh("robot"));
    let policy = policy(&place, &account).await?;
    let (reason, message) = unready(&place, &policy).await?;
    ensure!(reason == "IdentityNotFound", "{reason}: {message}");
    for part in [
        format!("service account {IDENTITIES}/{} does not exist", account.name),
        format!("ClusterRole {}, which allows acting as", account.role()),
        format!("Curfew may not bind {}", account.role()),
    ] {
        ensure!(message.contains(&part), "no {part:?} in {message}");
    }
    let (_, yaml) = message.split_once("to allow it, apply:\n").context("no YAML")?;
    let file = suite.plane.folder().join(format!("{}.yaml", account.name));
    std::fs::write(&file, yaml)?;
    suite.plane.apply(&file).await?;
    place.ready(&policy).await
}

async fn a_role_that_allows_more_than_to_act_as_one_is_refused(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let account = Account::named(suite, suite.fresh("robot"));
    account.make().await?;
    let everybody = Patch::Merge(json!({"rules": [
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}]}));
    Api::<ClusterRole>::all(suite.admin.clone())
        .patch(&account.role(), &PatchParams::default(), &everybody)
        .await?;
    let policy = policy(&place, &account).await?;
    eventually("the role is refused", SOON, async || {
        let (reason, message) = unready(&place, &policy)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let exactly = format!(
            "must allow exactly: impersonate serviceaccounts named {}",
            account.name
        );
        if reason == "RoleForbidden" && message.contains(&exactly) {
            Ok(())
        } else {
            Err(format!("{reason}: {message}"))
        }
    })
    .await
}

async fn a_service_account_to_act_as_cannot_be_narrowed(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let identity = Identity::prepare(&place).await?;
    let asked = json!({"entitlements": [{"name": "nodes", "resourceNames": ["node-0"]}]});
    let refused = place.denied("alice", &identity.policy, asked).await?;
    ensure!(refused.reason == "NarrowingRefused", "{refused:?}");
    ensure!(!is_kept(&refused.grant), "{refused:?}");
    Ok(())
}

async fn the_example_works(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let label = Patch::Merge(json!({"metadata": {"labels": {"env": "sandbox"}}}));
    Api::<Namespace>::all(suite.admin.clone())
        .patch(&place.name, &PatchParams::default(), &label)
        .await?;
    for file in ["identity.yaml", "policy.yaml"] {
        suite
            .plane
            .apply(&in_repository("examples/act-as").join(file))
            .await?;
    }
    place.ready("nodes").await?;
    let text = std::fs::read_to_string(in_repository("examples/act-as/grant.yaml"))?;
    let mut grant: Value = serde_yaml::from_str(&text)?;
    let alice = suite.plane.client_as("alice").await?;
    suite.state_who(&alice, &mut grant["spec"], "requester").await?;
    let mut grant: AccessGrant = serde_json::from_value(grant)?;
    grant.metadata.namespace = Some(place.name.clone());
    let grants = place.grants_as("alice").await?;
    let grant = grants.create(&PostParams::default(), &grant).await?;
    place.in_state(&grant.name_any(), "Active").await?;
    ensure!(acts_as(suite, "alice", "node-reader").await?, "alice may not act");
    place
        .grants()
        .delete(&grant.name_any(), &DeleteParams::background())
        .await?;
    gone(&place, &grant).await?;
    nothing_left(suite, &grant).await
}
