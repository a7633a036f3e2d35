//! Tests of plans while the clocks differ too much.

use crate::api::{AccessGrantStatus, DecisionKind, reasons};
use crate::core::grant::status;
use crate::core::guard::state::GuardState;
use crate::core::plan::effect::{Effect, Plan};
use crate::core::plan::tests::guarded::{asked, half_made_access_only_ends};
use crate::core::testing::{Situation, condition, grant, now, policy, seconds};

const WHY: &str = "nothing is given while clocks differ by more than 30 s";

fn skewed(situation: Situation) -> Situation {
    situation.but(|situation| situation.skewed = Some(WHY.to_owned()))
}

fn agreeing(situation: Situation) -> Situation {
    situation.but(|situation| situation.skewed = None)
}

#[test]
fn a_request_is_held_while_the_clocks_differ() {
    let too_long = Situation::of(grant("pay-123").lasting("9h"), &policy());
    for request in [asked(), too_long] {
        let plan = skewed(request).plan();
        let wanted = AccessGrantStatus {
            observed_generation: Some(1),
            conditions: vec![
                condition("Accepted", "Unknown", "ClockSkewed", WHY),
                condition("Active", "False", "Pending", WHY),
                condition("Ready", "False", "Pending", WHY),
                condition("Reconciling", "True", "ClockSkewed", WHY),
            ],
            ..AccessGrantStatus::default()
        };
        let expected = Plan {
            stages: vec![vec![Effect::Record(Box::new(wanted))]],
            wake: None,
        };
        assert_eq!(plan, expected);
    }
    let held = skewed(asked()).pass();
    assert_eq!(held.plan(), Plan::default(), "announced twice");
}

#[test]
fn a_held_request_gets_its_full_duration_once_clocks_agree() {
    let held = skewed(asked()).pass();
    let active = agreeing(held.clone()).after(seconds(300)).pass();
    let status = active.grant.at_present();
    assert_eq!(status::state(&active.grant).as_str(), reasons::ACTIVE);
    assert_eq!(status.expires_at.unwrap().0, now() + seconds(300 + 1800));
}

#[test]
fn a_breach_has_priority_over_clock_skew() {
    let breached = skewed(asked())
        .but(|situation| situation.guards = GuardState::Breached("curfew-fuse is absent".to_owned()));
    let held = breached.pass();
    let mark = |situation: &Situation| {
        let conditions = situation.grant.at_present().conditions;
        conditions
            .iter()
            .any(|condition| condition.reason == reasons::GUARDS_NOT_IN_FORCE)
    };
    assert!(mark(&held));
    let denied = agreeing(held.clone())
        .but(|situation| situation.guards = GuardState::InForce)
        .pass();
    assert_eq!(status::state(&denied.grant).as_str(), reasons::DENIED);
    // The guards are in force again, and the clocks still differ.
    let waits = held
        .but(|situation| situation.guards = GuardState::InForce)
        .pass();
    assert_eq!(
        status::state(&waits.grant).as_str(),
        reasons::DENIED,
        "asked in a breach"
    );
}

#[test]
fn half_made_access_stays_unfinished_and_ends_on_time() {
    half_made_access_only_ends(skewed);
}

#[test]
fn an_accepted_request_stays_as_it_is_and_a_revoke_counts() {
    let policy = policy().approved_by(&[("team", 1, "leads")]);
    let waiting = Situation::of(grant("pay-123"), &policy).pass();
    assert_eq!(status::state(&waiting.grant).as_str(), reasons::AWAITING_APPROVAL);
    let approved = waiting.clone().decided(DecisionKind::Approve, "bob", "leads");
    assert!(!approved.plan().stages.is_empty());
    assert_eq!(skewed(approved).plan(), Plan::default());
    let a_day_later = waiting.clone().after(seconds(86_400));
    assert!(!a_day_later.plan().stages.is_empty(), "timed out");
    assert_eq!(skewed(a_day_later).plan(), Plan::default());
    let revoked = skewed(waiting.decided(DecisionKind::Revoke, "bob", "leads")).pass();
    assert_eq!(status::state(&revoked.grant).as_str(), reasons::REVOKED);
}

#[test]
fn active_access_ends_and_no_record_is_deleted() {
    let active = asked().pass();
    let due = active.after(seconds(1800));
    assert_eq!(skewed(due.clone()).plan(), due.plan());
    assert_eq!(skewed(due.clone()).plan_end(), due.plan_end());
    let kept_long_enough = due.pass().after(seconds(366 * 86_400));
    assert_eq!(kept_long_enough.plan().stages, [[Effect::DeleteGrant]]);
    let kept = skewed(kept_long_enough).plan();
    assert_eq!(kept.stages, [[]; 0]);
    assert!(kept.wake.is_some(), "retention is never checked again");
}
