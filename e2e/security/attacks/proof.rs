//! Proof that the attacks are real: without its guard, every attack is accepted.

use anyhow::{Context as _, ensure};
use curfew::core::guard::{CANARY, GuardKind};
use kube::api::{DeleteParams, PostParams};

use super::attack::{Attack, Callers, Holds};
use super::{Authors, Deciding, Elevated, Ground, binding, fuse, grant, identities, identity, stolen};
use crate::harness::{Operator, OperatorOptions, eventually};
use crate::support::{SOON, Suite, guards};
use crate::tests;

tests![without_its_guard_each_attack_is_accepted];

async fn without_its_guard_each_attack_is_accepted(suite: &Suite) -> anyhow::Result<()> {
    let operator = Operator::start(&suite.plane, &suite.binary, OperatorOptions::default()).await?;
    let ground = Ground::prepare(suite).await?;
    let elevated = Elevated::prepare(suite).await?;
    let authors = Authors::prepare(suite).await?;
    let deciding = Deciding::prepare(suite).await?;
    // A running operator would notice the missing guards and step in.
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
        let refused: Vec<&Attack> = attacks
            .iter()
            .filter(|attack| matches!(attack.holds, Holds::Guard(name, _) if name == guard.name))
            .collect();
        // The guard of the canary refuses all but dry runs, and this proof makes only dry runs.
        // `faults::guards` tests this guard.
        if guard.name == CANARY {
            continue;
        }
        ensure!(!refused.is_empty(), "no attack tests the guard {}", guard.name);
        proved += refused.len();
        failed.extend(refused_without(suite, &guard, &refused).await?);
    }
    println!(
        "attacks: {proved} of {} are refused by the guard that they name, and accepted without it",
        attacks.len()
    );
    // No operator is left to end the access: delete the fuse with all that it owns.
    let path = ground.fuse_at("");
    let delete_fuse =
        super::attack::Request::delete(path, serde_json::json!({"propagationPolicy": "Background"}));
    let admin = super::attack::Who::Person("admin");
    Callers::new(suite).ask(&admin, &delete_fuse).await??;
    elevated.done().await?;
    authors.done(suite).await?;
    deciding.done().await?;
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Deletes a guard, tries its attacks and creates the guard again. Returns the attacks that were refused without it.
async fn refused_without(
    suite: &Suite,
    guard: &curfew::core::guard::Guard,
    attacks: &[&Attack],
) -> anyhow::Result<Vec<String>> {
    let callers = Callers::new(suite);
    let first = *attacks.first().context("the list of attacks is empty")?;
    let bindings = guards::api_of(guard.kind, suite.admin.clone());
    bindings.delete(&guard.name, &DeleteParams::default()).await?;
    let deleted = eventually(
        &format!("the guard {} is not enforced", guard.name),
        SOON,
        async || match callers.lets_through(first).await {
            Err(error) if error.contains(&format!("'{}'", guard.name)) => Err(error),
            _ => Ok(()),
        },
    )
    .await;
    let mut failed = Vec::new();
    for attack in attacks {
        if let Err(error) = callers.lets_through(attack).await {
            failed.push(format!(
                "without {}: {:?} {}: {error}",
                guard.name, attack.who, attack.what
            ));
        }
    }
    let restored = serde_json::from_value(guard.manifest.clone())?;
    bindings.create(&PostParams::default(), &restored).await?;
    eventually(
        &format!("the guard {} is enforced again", guard.name),
        SOON,
        async || match callers.lets_through(first).await {
            Ok(()) => Err(format!("accepted: {}", first.what)),
            Err(_) => Ok(()),
        },
    )
    .await?;
    deleted.map(|()| failed)
}
