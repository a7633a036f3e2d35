//! What a sweep ends, and what it leaves.
#![expect(clippy::print_stdout, reason = "how long it took")]

use std::time::Instant;

use anyhow::{Context as _, ensure};
use curfew::api::{GRANT_UID_LABEL, NOT_AFTER_ANNOTATION};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::harness::{Operator, OperatorOptions, eventually, in_repository};
use crate::support::Suite;
use crate::support::manifests::binding;
use crate::support::sweep::{
    Access, LASTS, OVERDUE, abandoned, abandoned_to, alice_may, command, name_of, sweep, without_controllers,
    would_remove,
};
use crate::tests;

tests![
    with_everybody_else_dead_exactly_what_is_over_is_removed,
    a_binding_held_back_by_a_finalizer_is_freed,
    what_hangs_beneath_a_binding_does_not_hold_it_back,
    access_that_says_no_end_is_removed_and_what_only_looks_like_it_is_told,
    more_than_one_answer_holds_is_found_and_removed_in_one_round,
    without_crds_access_ends_all_the_same,
];

/// More bindings than the API server is asked for at once, by a little.
const MANY: u32 = 620;

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
        ensure!(reason.contains("a finalizer of someone else"), "{reason}");
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

async fn more_than_one_answer_holds_is_found_and_removed_in_one_round(suite: &Suite) -> anyhow::Result<()> {
    let place = suite.namespace().await?;
    let token = suite
        .plane
        .service_account_token("curfew-system", "curfew")
        .await?;
    let operator = suite.plane.client_for_token(&token, &suite.plane.url()).await?;
    let bindings = Api::<RoleBinding>::namespaced(operator, &place.name);
    without_controllers(suite, async {
        // The guards ask for a fuse's shape, and cannot ask whether there is one.
        let made = stream::iter(0..MANY).map(async |number| {
            let name = format!("curfew-{number:032x}");
            let mut made = binding(&name, "view", "alice");
            made["metadata"]["labels"] = json!({GRANT_UID_LABEL: "nobodys"});
            made["metadata"]["annotations"] =
                json!({NOT_AFTER_ANNOTATION: format!("2026-01-01T00:{:02}:{:02}.000000Z", number / 60, number % 60)});
            made["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": name}]);
            let made: RoleBinding = serde_json::from_value(made)?;
            bindings.create(&PostParams::default(), &made).await?;
            anyhow::Ok(())
        });
        made.buffer_unordered(16).try_collect::<Vec<_>>().await?;
        let began = Instant::now();
        let said = sweep(suite, &[]).await?;
        println!("{MANY} bindings removed in {:?}", began.elapsed());
        let expected: Vec<String> = (0..MANY)
            .map(|number| format!("RoleBinding/curfew-{number:032x}"))
            .collect();
        ensure!(said.code == Some(0), "{said}");
        ensure!(said.did("Removed", &place.name) == expected, "{said}");
        Ok(())
    })
    .await?;
    place.nothing_left().await
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
        ensure!(
            why == Some("the CRD accessgrants.access.curfew.dev is not installed"),
            "{said}"
        );
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
