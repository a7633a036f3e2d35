//! What is decided while the guard that attests who decides is away never counts, and an approval gives nothing by what
//! only used to be so.

use anyhow::{Context as _, anyhow, ensure};
use curfew::api::{AccessDecision, AccessPolicy, conditions};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::guard_state::{NOTICED, end, is_ready, is_unready, put_back};
use super::scene::{Asked, Ground};
use crate::harness::{Fault, Operator, eventually};
use crate::support::manifests::{binding, user};
use crate::support::{SOON, Suite};
use crate::tests;

tests![
    an_approval_seen_while_its_guard_is_away_never_counts,
    an_approval_under_a_policy_whose_edit_no_watch_has_told_gives_nothing,
];

/// The guard that is taken away.
const DECIDER: &str = "curfew-decider";

async fn an_approval_seen_while_its_guard_is_away_never_counts(suite: &Suite) -> anyhow::Result<()> {
    let stages = json!([{"name": "leads", "approvers": [{"kind": "Group", "name": "leads"}]}]);
    let asking_people = json!({"path": "Manual", "approval": {"timeout": "1h", "stages": stages}});
    let ground = Ground::prepare(suite, 1, asking_people).await?;
    let namespace = ground.namespace(0)?;
    let approver = binding("approver", "curfew-approver", "bob");
    Api::<RoleBinding>::namespaced(suite.admin.clone(), namespace)
        .create(&PostParams::default(), &serde_json::from_value(approver)?)
        .await?;
    let operator = ground.operator(None).await?;
    let asked = ground.ask(namespace, json!({"duration": "10m"})).await?;
    awaits_people(&ground, &asked).await?;
    let outcome = forged(&ground, &operator, &asked).await;
    put_back(suite).await?;
    outcome?;
    is_ready(&operator).await?;
    awaits_people(&ground, &asked).await?;
    let made = ground.journal.pieces(&asked.uid);
    ensure!(made.is_empty(), "made by a forged approval: {made:?}");
    let bob = suite.plane.client_as("bob").await?;
    approve(&ground, &bob, &asked, "real", &PostParams::default()).await?;
    ground.is_active(&asked).await?;
    let forged = verdict(&ground, "forged").await?.context("no verdict any more")?;
    ensure!(forged.reason == "NotAttested", "{forged:?}");
    end(&ground, &operator, &[&asked]).await
}

/// With the guard away, the administrator approves in bob's name.
async fn forged(ground: &Ground<'_>, operator: &Operator, asked: &Asked) -> anyhow::Result<()> {
    let admin = &ground.suite.admin;
    Api::<ValidatingAdmissionPolicyBinding>::all(admin.clone())
        .delete(DECIDER, &DeleteParams::default())
        .await
        .map(drop)?;
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    eventually(
        "the API server lets a forged approval through",
        SOON,
        async || {
            approve(ground, admin, asked, "forged", &dry_run)
                .await
                .map_err(|error| format!("{error:#}"))
        },
    )
    .await?;
    // What is forged before anybody has noticed counts: that is out of reach.
    let text = is_unready(operator, NOTICED).await?;
    ensure!(text.contains(DECIDER), "{text}");
    approve(ground, admin, asked, "forged", &PostParams::default()).await?;
    let refused = eventually("the forged approval has a verdict", SOON, async || match verdict(
        ground, "forged",
    )
    .await
    {
        Ok(Some(verdict)) => Ok(verdict),
        other => Err(format!("{other:?}")),
    })
    .await?;
    ensure!(
        refused.status == "False"
            && refused.reason == "NotAttested"
            && refused.message.contains("decide again"),
        "{refused:?}"
    );
    Ok(())
}

async fn awaits_people(ground: &Ground<'_>, asked: &Asked) -> anyhow::Result<()> {
    let awaits = ground.told(asked, "it awaits people", |tale| {
        tale.state() == "AwaitingApproval"
    });
    awaits.await.map(drop)
}

/// Somebody approves as bob.
async fn approve(
    ground: &Ground<'_>,
    client: &Client,
    asked: &Asked,
    name: &str,
    how: &PostParams,
) -> anyhow::Result<()> {
    let grants = ground.places.first().context("no namespace")?.grants();
    let resolved = grants
        .get(&asked.name)
        .await?
        .status
        .and_then(|status| status.resolved);
    let decision = json!({
        "metadata": {"name": name},
        "spec": {
            "grantRef": {"name": asked.name, "uid": asked.uid},
            "decision": "Approve", "accessHash": resolved.context("nothing is resolved")?.hash,
            "decider": user("bob"),
        },
    });
    Api::<AccessDecision>::namespaced(client.clone(), &asked.namespace)
        .create(how, &serde_json::from_value(decision)?)
        .await?;
    Ok(())
}

async fn verdict(ground: &Ground<'_>, name: &str) -> anyhow::Result<Option<Condition>> {
    let decisions = Api::<AccessDecision>::namespaced(ground.suite.admin.clone(), ground.namespace(0)?);
    let status = decisions.get(name).await?.status.unwrap_or_default();
    let mut told = status.conditions.into_iter();
    Ok(told.find(|condition| condition.type_ == conditions::COUNTED))
}

/// S3: what people approved is read again before it is given. The watch of policies is cut, and cannot be opened.
async fn an_approval_under_a_policy_whose_edit_no_watch_has_told_gives_nothing(
    suite: &Suite,
) -> anyhow::Result<()> {
    let ground = Ground::with_deciders(suite, 1).await?;
    let proxy = ground.proxy()?;
    let operator = ground.operator(Some(&proxy)).await?;
    let asked = ground
        .ask(ground.namespace(0)?, json!({"duration": "30m"}))
        .await?;
    let (place, grant) = (ground.place_of(&asked)?, asked.as_grant());
    place.hash_as("bob", &grant).await?;
    proxy.reset();
    proxy.set_hook(|exchange| {
        if exchange.path.ends_with("/accesspolicies") {
            Fault::DropBefore
        } else {
            Fault::Pass
        }
    });
    proxy.cut_watches();
    let asked_for = |path: &str| {
        let requests = proxy.requests();
        let found = requests.iter().any(|request| request.path.ends_with(path));
        found
            .then_some(())
            .ok_or_else(|| format!("nobody asks for {path}"))
    };
    eventually("the operator hears of no policy any more", SOON, async || {
        asked_for("/accesspolicies")
    })
    .await?;
    let others = json!([{"name": "team", "required": 1, "approvers": [{"kind": "User", "name": "dave"}]}]);
    let edit = Patch::Merge(json!({"spec": {"approval": {"stages": others}}}));
    Api::<AccessPolicy>::all(suite.admin.clone())
        .patch(&ground.policy, &PatchParams::default(), &edit)
        .await?;
    let approval = place.approve("bob", &grant).await?;
    let nothing_made = || {
        let made = ground.journal.pieces(&asked.uid);
        if made.is_empty() {
            Ok(())
        } else {
            Err(format!("made by an approval of bob, who is not asked: {made:?}"))
        }
    };
    let path = format!("/accesspolicies/{}", ground.policy);
    eventually("the policy itself is read", SOON, async || {
        nothing_made()?;
        asked_for(&path)
    })
    .await?;
    proxy.clear_hook();
    let verdict = place.verdict(&approval).await?;
    ensure!(verdict.status == "False", "{verdict:?}");
    nothing_made().map_err(|made| anyhow!(made))?;
    ground.delete(&asked).await?;
    ground.nothing_left_anywhere().await?;
    operator.kill9().await
}
