//! What is over, and whose something is, is read and not concluded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::ensure;
use curfew::api::ArtifactKind;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::scene::{Asked, Ground, identity};
use super::verdict::PROMISE;
use crate::harness::{Fault, Proxy, eventually};
use crate::support::{SOON, Suite};
use crate::tests;

tests![
    what_is_said_to_be_gone_and_stands_is_not_over,
    what_has_a_name_of_ours_and_not_our_label_stays,
    what_a_grant_that_is_gone_has_left_is_removed_though_that_failed_before,
];

/// S5: deletions are answered as of something that is not there, and did nothing. Neither is the grant said to be over
/// then, nor let go: nobody but the operator would end the access any more.
async fn what_is_said_to_be_gone_and_stands_is_not_over(suite: &Suite) -> anyhow::Result<()> {
    let ground = identity(suite).await?;
    let proxy = ground.proxy()?;
    let operator = ground.operator(Some(&proxy)).await?;
    // Fuses and the garbage collector would end the access meanwhile.
    suite
        .plane
        .without_controller_manager(lied_to(&ground, &proxy))
        .await?;
    operator.kill9().await
}

async fn lied_to(ground: &Ground<'_>, proxy: &Proxy) -> anyhow::Result<()> {
    // Tried ever more seldom without a bound, the next attempt would come more than the promise later.
    const TIMES: usize = 8;
    let ask = async |spec| ground.ask(ground.namespace(0)?, spec).await;
    let ends = ask(json!({"duration": "5s"})).await?;
    let goes = ask(json!({"duration": "10m", "entitlements": [{"name": "nodes"}]})).await?;
    let both = [&ends, &goes];
    for asked in both {
        ground.is_active(asked).await?;
    }
    let lies = Arc::<Mutex<BTreeMap<String, usize>>>::default();
    let told = Arc::clone(&lies);
    proxy.set_hook(move |exchange| {
        if exchange.method != "DELETE" || !exchange.path.contains("/rolebindings/") {
            return Fault::Pass;
        }
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        *told.entry(exchange.path.clone()).or_default() += 1;
        Fault::status(404)
    });
    ground.delete(&goes).await?;
    eventually("each deletion has been tried again", 2 * SOON, async || {
        for asked in both {
            stands(ground, asked).map_err(|error| format!("{error:#}"))?;
        }
        let told = lies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if told.len() == both.len() && told.values().all(|times| *times >= TIMES) {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await?;
    for asked in both {
        stands(ground, asked)?;
    }
    let gone_by = Timestamp::now() + PROMISE;
    proxy.clear_hook();
    for asked in both {
        ground
            .told(asked, "it is over", |tale| tale.gone || tale.state() == "Expired")
            .await?;
        ground.nothing_left(asked).await?;
        ground.judge(asked, gone_by)?;
    }
    Ok(())
}

/// Fails if a grant is over or was let go: its access stands.
fn stands(ground: &Ground<'_>, asked: &Asked) -> anyhow::Result<()> {
    let tale = ground.journal.tale(&asked.uid);
    let binding = ground.piece(asked, ArtifactKind::RoleBinding)?;
    ensure!(binding.gone_at.is_none(), "somebody has removed {binding:?}");
    let ended = tale.versions.iter().any(|version| version.ended_at.is_some());
    ensure!(
        !ended && !tale.gone,
        "it is over, and its binding stands: {tale:#?}"
    );
    Ok(())
}

/// S7: while no operator is there somebody puts a binding of their own where one of ours was.
async fn what_has_a_name_of_ours_and_not_our_label_stays(suite: &Suite) -> anyhow::Result<()> {
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let operator = ground.operator(None).await?;
    let namespace = ground.namespace(0)?;
    let asked = ground.ask(namespace, json!({"duration": "10m"})).await?;
    ground.is_active(&asked).await?;
    operator.kill9().await?;
    let name = ground.piece(&asked, ArtifactKind::RoleBinding)?.name;
    ground.delete_binding(&asked).await?;
    let bindings = Api::<RoleBinding>::namespaced(suite.admin.clone(), namespace);
    let theirs: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "carol"}],
    }))?;
    let params = PostParams::default();
    let theirs = suite
        .unguarded("curfew-reserved-names", bindings.create(&params, &theirs))
        .await?;
    let operator = ground.operator(None).await?;
    ground
        .told(&asked, "it is over", |tale| tale.state() == "Revoked")
        .await?;
    ground.nothing_left(&asked).await?;
    let there = bindings.get_opt(&name).await?;
    ensure!(
        there.as_ref() == Some(&theirs),
        "it was {theirs:?}, and is {there:?}"
    );
    bindings
        .delete(&theirs.name_any(), &DeleteParams::default())
        .await?;
    operator.kill9().await
}

/// L2: there is no garbage collector, and the first attempts of the operator fail.
async fn what_a_grant_that_is_gone_has_left_is_removed_though_that_failed_before(
    suite: &Suite,
) -> anyhow::Result<()> {
    const FAIL: usize = 3;
    let ground = Ground::prepare(suite, 1, json!({})).await?;
    let proxy = ground.proxy()?;
    let operator = ground.operator(Some(&proxy)).await?;
    let asked = ground
        .ask(ground.namespace(0)?, json!({"duration": "10m"}))
        .await?;
    ground.is_active(&asked).await?;
    let failed = AtomicUsize::new(0);
    proxy.set_hook(move |exchange| {
        let removes = exchange.method == "DELETE" && exchange.path.contains("/rolebindings/");
        if removes && failed.fetch_add(1, Ordering::Relaxed) < FAIL {
            return Fault::status(500);
        }
        Fault::Pass
    });
    suite
        .plane
        .without_controller_manager(async {
            ground.delete(&asked).await?;
            ground.nothing_left(&asked).await
        })
        .await?;
    operator.kill9().await
}
