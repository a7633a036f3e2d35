//! Waiting for a policy.

use super::*;

#[test]
fn a_request_waits_five_seconds_for_its_policy_and_says_so_once() {
    let until = at("2026-12-01T09:00:05Z");
    for (facts, reason, message) in [
        (absent(), "PolicyNotFound", "policy prod-debug does not exist"),
        (
            unready(None),
            "PolicyNotReady",
            "policy prod-debug cannot be used: ClusterRole view does not exist",
        ),
        (
            unready(Some(policy().parsed())),
            "PolicyNotReady",
            "policy prod-debug cannot be used: ClusterRole view does not exist",
        ),
    ] {
        let waiting = asked().but(|situation| situation.policy = facts);
        let held = format!("spec.policyRef.name: {message}; waiting for it until 2026-12-01T09:00:05Z");
        let status = AccessGrantStatus {
            observed_generation: Some(1),
            conditions: vec![
                condition("Accepted", "Unknown", reason, &held),
                condition("Active", "False", "Pending", &held),
                condition("Ready", "False", "Pending", &held),
                condition("Reconciling", "True", reason, &held),
            ],
            ..AccessGrantStatus::default()
        };
        assert_eq!(
            waiting.plan(),
            Plan {
                stages: vec![vec![Effect::Record(Box::new(status))]],
                wake: Some(until),
            }
        );
        let waiting = waiting.pass();
        assert_eq!(waiting.plan(), nothing_before(until));
        let waiting = waiting.after(SignedDuration::from_millis(4_999));
        assert_eq!(waiting.plan(), nothing_before(until));
        let waiting = waiting.after(SignedDuration::from_millis(1));
        assert_eq!(
            denial(&waiting),
            (reason, format!("spec.policyRef.name: {message}"))
        );
    }
}

#[test]
fn the_wait_for_a_policy_starts_when_the_policy_disappeared() {
    let asked_at = at("2026-12-01T08:00:00Z");
    let waiting = asked().but(|situation| {
        situation.policy = absent();
        situation.grant.metadata.creation_timestamp.as_mut().unwrap().0 = asked_at;
    });
    assert_eq!(waiting.plan().wake, Some(at("2026-12-01T09:00:05Z")));
}

#[test]
fn the_wait_for_a_policy_starts_at_the_creation_of_a_newer_request() {
    let waiting = asked().but(|situation| {
        situation.policy = PolicyFacts::Absent {
            since: at("2026-12-01T08:00:00Z"),
            why: "does not exist".to_owned(),
            text: None,
        };
    });
    assert_eq!(waiting.plan().wake, Some(at("2026-12-01T09:00:05Z")));
}

#[test]
fn a_held_request_is_granted_as_usual_once_its_policy_exists() {
    let granted = asked_for_both()
        .but(|situation| situation.policy = absent())
        .pass()
        .after(seconds(2));
    let granted = granted.but(|situation| situation.policy = policy().ready());
    let plan = granted.plan();
    assert_eq!(
        intent(&plan).expires_at,
        Some(MicroTime(at("2026-12-01T09:30:02Z")))
    );
    assert_eq!(granted.pass().found.len(), 5);
}

#[test]
fn a_request_deleted_before_it_is_decided_has_an_empty_plan() {
    let situation = Situation::of(grant("pay-123").being_deleted(), &policy());
    assert_eq!(situation.plan(), Plan::default());
}
