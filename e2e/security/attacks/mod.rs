//! Attack suite: every known attack on temporary access, as tables of [`Attack`].
//!
//! An entry names the attempt, the attacker, the request and the expected outcome. Most outcomes are a refusal by a named
//! guard, whose message says what to do instead. Others are a refusal by schema or RBAC, or acceptance without harm; a
//! separate check shows that no harm was done.
//!
//! RBAC allows the attackers what a guard has to refuse, so the guard alone stops the attack. [`proof`] shows this:
//! without its guard, every such attack is accepted.

#![allow(
    clippy::print_stdout,
    reason = "the output of the suite says how many attacks were tried"
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
    use super::{
        Attack, Authors, Callers, Deciding, Elevated, Ground, binding, fuse, grant, identities, identity,
        stolen, try_all,
    };
    use crate::support::Suite;
    use crate::tests;

    tests![
        requesting_in_another_name_is_refused,
        deciding_in_another_name_is_refused,
        decisions_reserved_for_others_are_refused,
        edits_and_forbidden_metadata_of_grants_are_refused,
        a_fuse_cannot_be_kept_from_expiring,
        bindings_and_roles_cannot_be_detached_or_widened,
        elevated_access_creates_no_persistence,
        authors_cannot_offer_access_that_they_lack,
        stolen_tokens_of_own_accounts_are_limited,
        act_as_accounts_have_no_pods_tokens_or_bindings,
    ];

    async fn try_on_new_scene(
        suite: &Suite,
        family: &'static str,
        attacks: fn(&Ground<'_>) -> Vec<Attack>,
    ) -> anyhow::Result<()> {
        let ground = Ground::prepare(suite).await?;
        try_all(&Callers::new(suite), family, &attacks(&ground)).await?;
        ground.done().await
    }

    async fn requesting_in_another_name_is_refused(suite: &Suite) -> anyhow::Result<()> {
        try_on_new_scene(suite, "identity", identity::of_requesters).await
    }

    async fn deciding_in_another_name_is_refused(suite: &Suite) -> anyhow::Result<()> {
        try_on_new_scene(suite, "decider", identity::of_deciders).await
    }

    async fn decisions_reserved_for_others_are_refused(suite: &Suite) -> anyhow::Result<()> {
        let deciding = Deciding::prepare(suite).await?;
        try_all(&Callers::new(suite), "decision", &deciding.attacks()).await?;
        deciding.done().await
    }

    async fn edits_and_forbidden_metadata_of_grants_are_refused(suite: &Suite) -> anyhow::Result<()> {
        try_on_new_scene(suite, "grant", grant::attacks).await
    }

    async fn a_fuse_cannot_be_kept_from_expiring(suite: &Suite) -> anyhow::Result<()> {
        try_on_new_scene(suite, "fuse", fuse::attacks).await
    }

    async fn bindings_and_roles_cannot_be_detached_or_widened(suite: &Suite) -> anyhow::Result<()> {
        try_on_new_scene(suite, "binding", binding::attacks).await
    }

    async fn stolen_tokens_of_own_accounts_are_limited(suite: &Suite) -> anyhow::Result<()> {
        try_on_new_scene(suite, "stolen tokens", stolen::attacks).await
    }

    async fn elevated_access_creates_no_persistence(suite: &Suite) -> anyhow::Result<()> {
        let elevated = Elevated::prepare(suite).await?;
        try_all(&Callers::new(suite), "persistence", &elevated.attacks()).await?;
        elevated.nobody_else_is_kept().await?;
        elevated.done().await
    }

    async fn authors_cannot_offer_access_that_they_lack(suite: &Suite) -> anyhow::Result<()> {
        let authors = Authors::prepare(suite).await?;
        try_all(&Callers::new(suite), "authors", &authors.attacks()).await?;
        authors.done(suite).await
    }

    async fn act_as_accounts_have_no_pods_tokens_or_bindings(suite: &Suite) -> anyhow::Result<()> {
        try_all(&Callers::new(suite), "act-as accounts", &identities::attacks()).await
    }
}

/// The tests of this part.
pub fn tests() -> Vec<Test> {
    let shared = [refused::tests(), surroundings::tests(), ordinary_use::tests()];
    // No other test may run while guards are deleted, or while only fuses end access.
    let own = needing(Needs::NoOperator, [outlasting::tests(), proof::tests()].concat());
    [shared.concat(), own].concat()
}

/// Prints how many attacks were tried, if any were.
pub fn sum_up() {
    print!("{}", attack::summary());
}
