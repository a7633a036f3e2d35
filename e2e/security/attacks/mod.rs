//! The attack suite: everything we know that somebody could try, each as one entry of a table. It says what is tried,
//! who tries, what is asked of the API server, and what must hold: a refusal by that guard, with a sentence that says
//! what to do instead; or no harm, and then what shows it.
//!
//! Attackers hold the RBAC that lets them through to the guard. That is proved: with a guard taken away, every attack
//! that it refused is accepted.

#![allow(
    clippy::print_stdout,
    reason = "how much was tried, for whoever reads the suite's output"
)]

mod attack;
mod authors;
mod binding;
mod decision;
mod fuse;
mod grant;
mod identities;
mod identity;
mod ordinary_use;
mod outlasting;
mod persistence;
mod proof;
mod scene;
mod stolen;
mod surroundings;

use attack::{Attack, Callers, try_all};
use authors::Authors;
use decision::Deciding;
use persistence::Elevated;
use scene::Ground;

use crate::support::planes::Needs;
use crate::support::{Test, needing};

mod refused {
    use crate::support::Suite;
    use crate::tests;

    use super::{
        Attack, Authors, Callers, Deciding, Elevated, Ground, binding, fuse, grant, identities, identity,
        stolen, try_all,
    };

    tests![
        nobody_asks_as_somebody_else,
        nobody_decides_as_somebody_else,
        nobody_decides_what_others_have_to,
        nothing_is_written_around_or_into_a_grant,
        nobody_keeps_a_fuse_from_burning,
        nobody_frees_or_widens_a_binding_or_a_role,
        whoever_is_elevated_makes_no_souvenir,
        authors_hold_what_they_hand_out,
        a_stolen_token_of_curfew_is_worth_little,
        nothing_lives_beside_the_identities,
    ];

    async fn on_ground(
        suite: &Suite,
        family: &'static str,
        attacks: fn(&Ground<'_>) -> Vec<Attack>,
    ) -> anyhow::Result<()> {
        let ground = Ground::prepare(suite).await?;
        try_all(&Callers::new(suite), family, &attacks(&ground)).await?;
        ground.done().await
    }

    async fn nobody_asks_as_somebody_else(suite: &Suite) -> anyhow::Result<()> {
        on_ground(suite, "identity", identity::of_requesters).await
    }

    async fn nobody_decides_as_somebody_else(suite: &Suite) -> anyhow::Result<()> {
        on_ground(suite, "decider", identity::of_deciders).await
    }

    async fn nobody_decides_what_others_have_to(suite: &Suite) -> anyhow::Result<()> {
        let deciding = Deciding::prepare(suite).await?;
        try_all(&Callers::new(suite), "decision", &deciding.attacks()).await?;
        deciding.done().await
    }

    async fn nothing_is_written_around_or_into_a_grant(suite: &Suite) -> anyhow::Result<()> {
        on_ground(suite, "grant", grant::attacks).await
    }

    async fn nobody_keeps_a_fuse_from_burning(suite: &Suite) -> anyhow::Result<()> {
        on_ground(suite, "fuse", fuse::attacks).await
    }

    async fn nobody_frees_or_widens_a_binding_or_a_role(suite: &Suite) -> anyhow::Result<()> {
        on_ground(suite, "binding", binding::attacks).await
    }

    async fn a_stolen_token_of_curfew_is_worth_little(suite: &Suite) -> anyhow::Result<()> {
        on_ground(suite, "stolen", stolen::attacks).await
    }

    async fn whoever_is_elevated_makes_no_souvenir(suite: &Suite) -> anyhow::Result<()> {
        let elevated = Elevated::prepare(suite).await?;
        try_all(&Callers::new(suite), "souvenirs", &elevated.attacks()).await?;
        elevated.nobody_else_is_kept().await?;
        elevated.done().await
    }

    async fn authors_hold_what_they_hand_out(suite: &Suite) -> anyhow::Result<()> {
        let authors = Authors::prepare(suite).await?;
        try_all(&Callers::new(suite), "authors", &authors.attacks()).await?;
        authors.done(suite).await
    }

    async fn nothing_lives_beside_the_identities(suite: &Suite) -> anyhow::Result<()> {
        try_all(&Callers::new(suite), "identities", &identities::attacks()).await
    }
}

/// The tests of this part.
pub fn tests() -> Vec<Test> {
    let shared = [refused::tests(), surroundings::tests(), ordinary_use::tests()];
    // Nobody else may be there while guards are away, or while nothing but a fuse ends access.
    let own = needing(Needs::NoOperator, [outlasting::tests(), proof::tests()].concat());
    [shared.concat(), own].concat()
}

/// Prints how many attacks were tried, if any were.
pub fn sum_up() {
    print!("{}", attack::summary());
}
