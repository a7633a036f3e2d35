//! Tests of plans while the admission guards are not in force.

use jiff::Timestamp;

use crate::api::{AccessGrantStatus, ArtifactKind, reasons};
use crate::core::facts::PolicyFacts;
use crate::core::grant::status;
use crate::core::grant::transition::Transition;
use crate::core::guard::state::GuardState;
use crate::core::plan::effect::{Effect, Plan};
use crate::core::testing::{Situation, condition, grant, now, policy, seconds};

type Change = fn(Situation) -> Situation;

const MESSAGE: &str = "no access is granted until the admission guards are in force: curfew-fuse is absent";

fn breached() -> GuardState {
    GuardState::Breached("curfew-fuse is absent".to_owned())
}

pub(crate) fn asked() -> Situation {
    Situation::of(grant("pay-123"), &policy())
}

fn in_breach(situation: Situation) -> Situation {
    situation.but(|situation| situation.guards = breached())
}

#[test]
fn a_request_is_held_during_a_breach_and_announced_once() {
    let plan = in_breach(asked()).plan();
    let message = || MESSAGE.to_owned();
    let wanted = AccessGrantStatus {
        observed_generation: Some(1),
        conditions: vec![
            condition("Accepted", "Unknown", "GuardsNotInForce", MESSAGE),
            condition("Active", "False", "Pending", MESSAGE),
            condition("Ready", "False", "Pending", MESSAGE),
            condition("Reconciling", "True", "GuardsNotInForce", MESSAGE),
        ],
        ..AccessGrantStatus::default()
    };
    let expected = Plan {
        stages: vec![
            vec![Effect::Announce(Transition::Held { message: message() })],
            vec![Effect::Record(Box::new(wanted))],
        ],
        wake: None,
    };
    assert_eq!(plan, expected);
    let held = in_breach(asked()).pass();
    assert_eq!(held.plan(), Plan::default());
    let a_day_later = held.after(seconds(86_400));
    assert_eq!(
        a_day_later.plan(),
        Plan::default(),
        "the request is held for as long as it takes"
    );
}

#[test]
fn another_breach_is_recorded_but_not_announced_again() {
    let held = in_breach(asked()).pass();
    let other =
        held.but(|situation| situation.guards = GuardState::Breached("curfew-role is absent".to_owned()));
    let plan = other.plan();
    assert!(
        matches!(plan.stages.as_slice(), [stage] if matches!(stage.as_slice(), [Effect::Record(_)])),
        "{plan:#?}"
    );
}

#[test]
fn a_request_made_in_a_breach_is_denied_afterwards() {
    let held = in_breach(asked()).pass();
    let silent = held.but(|situation| situation.guards = GuardState::Unproven("no answer".to_owned()));
    let back = silent
        .pass()
        .but(|situation| situation.guards = GuardState::InForce);
    let denied = back.pass();
    assert_eq!(status::state(&denied.grant).as_str(), reasons::DENIED);
    let accepted = denied.grant.at_present().conditions;
    let accepted = accepted
        .iter()
        .find(|condition| condition.type_ == "Accepted")
        .unwrap();
    assert_eq!(accepted.reason, reasons::NOT_ATTESTED);
    assert!(accepted.message.contains("ask again"), "{}", accepted.message);
}

#[test]
fn a_request_held_for_unproven_guards_is_granted_afterwards() {
    let held = asked()
        .but(|situation| situation.guards = GuardState::Unproven("no answer".to_owned()))
        .pass();
    let recorded = held.grant.at_present().conditions;
    assert!(
        recorded
            .iter()
            .any(|condition| condition.reason == reasons::GUARDS_UNPROVEN)
    );
    let back = held
        .but(|situation| situation.guards = GuardState::InForce)
        .after(seconds(300));
    let active = back.pass();
    let status = active.grant.at_present();
    assert_eq!(status::state(&active.grant).as_str(), reasons::ACTIVE);
    let half_an_hour = now().checked_add(seconds(300 + 1800)).unwrap();
    assert_eq!(
        status.expires_at.unwrap().0,
        half_an_hour,
        "the duration runs from the start of the access"
    );
}

#[test]
fn a_breach_holds_a_request_that_would_be_denied() {
    let too_long = Situation::of(grant("pay-123").lasting("9h"), &policy());
    let without_policy = asked().but(|situation| {
        situation.policy = PolicyFacts::Absent {
            since: Timestamp::MIN,
            why: "does not exist".to_owned(),
            text: None,
        };
    });
    for refused in [too_long, without_policy.after(seconds(10))] {
        assert!(matches!(
            refused.plan().stages[0][0],
            Effect::Announce(Transition::Denied { .. })
        ));
        let plan = in_breach(refused).plan();
        assert!(
            matches!(plan.stages[0][0], Effect::Announce(Transition::Held { .. })),
            "{plan:#?}"
        );
    }
}

/// A hindrance (breach, clock skew) stops half-made access from being finished, and stops nothing else.
pub(crate) fn half_made_access_only_ends(hindered: fn(Situation) -> Situation) {
    let mut half_made = asked();
    let first_stage = half_made.plan().stages[0].clone();
    for effect in &first_stage {
        half_made.apply(effect).unwrap();
    }
    assert!(!half_made.plan().stages.is_empty());
    let end = half_made.grant.at_present().expires_at.unwrap().0;
    let half_made = hindered(half_made);
    assert_eq!(half_made.plan(), Plan::wait_until(end));
    let over = half_made.after(seconds(1800)).pass();
    assert_eq!(over.found, []);
    assert!(over.grant.at_present().ended_at.is_some());
}

#[test]
fn half_made_access_stays_unfinished_and_ends_on_time() {
    half_made_access_only_ends(in_breach);
}

#[test]
fn active_access_is_checked_and_ended_during_a_breach() {
    let active = asked().pass();
    let changes: [Change; 5] = [
        |situation| situation,
        |situation| situation.after(seconds(1800)),
        |situation| situation.but(|situation| situation.grant = situation.grant.clone().being_deleted()),
        |situation| {
            situation.but(|situation| {
                situation
                    .found
                    .retain(|found| found.kind() != ArtifactKind::RoleBinding);
            })
        },
        |situation| situation.but(|situation| situation.roles.clear()),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let guarded = change(active.clone());
        let expected = guarded.plan();
        assert_eq!(expected.stages.is_empty(), number == 0, "{number}");
        assert_eq!(in_breach(guarded).plan(), expected, "{number}");
    }
    let ended = active.after(seconds(1800)).pass();
    assert_eq!(in_breach(ended.clone()).plan(), ended.plan());
}
