//! That the attacks are attacks: with a guard away, what it refused is accepted.

use anyhow::{Context as _, ensure};
use curfew::core::{CANARY, GuardKind};
use kube::api::{DeleteParams, PostParams};

use super::attack::{Attack, Callers, Holds};
use super::{Authors, Deciding, Elevated, Ground, binding, fuse, grant, identities, identity, stolen};
use crate::harness::{Operator, OperatorOptions, eventually};
use crate::support::guards;
use crate::support::{SOON, Suite};
use crate::tests;

tests![each_attack_gets_through_where_its_guard_is_away];

async fn each_attack_gets_through_where_its_guard_is_away(suite: &Suite) -> anyhow::Result<()> {
    let operator = Operator::start(&suite.plane, &suite.binary, OperatorOptions::default()).await?;
    let ground = Ground::prepare(suite).await?;
    let elevated = Elevated::prepare(suite).await?;
    let authors = Authors::prepare(suite).await?;
    let deciding = Deciding::prepare(suite).await?;
    // Nobody looks on while guards are away.
    operator.kill9().await?;
    ground.mark_carol(&Callers::new(suite)).await?;
    let attacks = [
        binding::on_the_mark(&ground),
        identity::of_requesters(&ground),
        identity::of_deciders(&ground),
        grant::attacks(&ground),
        fuse::attacks(&ground),
        binding::attacks(&ground),
        stolen::attacks(&ground),
        elevated.attacks(),
        authors.attacks(),
        deciding.attacks(),
        identities::attacks(),
    ]
    .concat();
    let mut proved = 0;
    let mut failed = Vec::new();
    for guard in guards::installed()? {
        if guard.kind != GuardKind::ValidatingBinding {
            continue;
        }
        let its: Vec<&Attack> = attacks
            .iter()
            .filter(|attack| matches!(attack.holds, Holds::Guard(name, _) if name == guard.name))
            .collect();
        // It refuses only what is no dry run, and here all are: `faults::guards` tries it.
        if guard.name == CANARY {
            continue;
        }
        ensure!(!its.is_empty(), "no attack on {}", guard.name);
        proved += its.len();
        failed.extend(without(suite, &guard, &its).await?);
    }
    println!(
        "attacks: {proved} of {} proved to be refused by the guard that they name",
        attacks.len()
    );
    let path = ground.fuse_at("");
    let end = super::attack::Request::delete(path, serde_json::json!({"propagationPolicy": "Background"}));
    let admin = super::attack::Who::Person("admin");
    Callers::new(suite).ask(&admin, &end).await??;
    elevated.done().await?;
    authors.done(suite).await?;
    deciding.done().await?;
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Takes a guard away, and tells the attacks that are refused all the same.
async fn without(suite: &Suite, guard: &curfew::core::Guard, its: &[&Attack]) -> anyhow::Result<Vec<String>> {
    let callers = Callers::new(suite);
    let first = *its.first().context("no attack")?;
    let bindings = guards::api_of(guard.kind, suite.admin.clone());
    bindings.delete(&guard.name, &DeleteParams::default()).await?;
    let away = eventually(&format!("{} is away", guard.name), SOON, async || {
        match callers.lets_through(first).await {
            Err(error) if error.contains(&format!("'{}'", guard.name)) => Err(error),
            _ => Ok(()),
        }
    })
    .await;
    let mut failed = Vec::new();
    for attack in its {
        if let Err(error) = callers.lets_through(attack).await {
            failed.push(format!(
                "without {}: {:?} {}: {error}",
                guard.name, attack.who, attack.what
            ));
        }
    }
    let back = serde_json::from_value(guard.manifest.clone())?;
    bindings.create(&PostParams::default(), &back).await?;
    eventually(&format!("{} is back", guard.name), SOON, async || {
        match callers.lets_through(first).await {
            Ok(()) => Err("it does not hold".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await?;
    away.map(|()| failed)
}
