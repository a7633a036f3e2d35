//! Tests of verdicts while the policy is unknown, and of verdicts after the end.

use crate::core::decision::verdict::Counting;
use std::sync::Arc;

use crate::api::{
    AccessPolicy, ApprovalSpec, ApprovalStage, DecisionKind, DurationText, Path, PrincipalKind, conditions,
};
use crate::core::decision::verdict::Counting as Counts;
use crate::core::decision::{Authority, Decision};
use crate::core::facts::PolicyFacts;
use crate::core::request::caller::Caller;
use crate::core::testing::{Situation, grant, now, policy, principal, seconds};

/// Requires one approval of a lead.
fn asking() -> AccessPolicy {
    policy().with(|spec| {
        spec.path = Path::Manual;
        spec.approval = Some(ApprovalSpec {
            required_when: None,
            timeout: DurationText::from("1h"),
            stages: vec![ApprovalStage {
                name: "team".to_owned(),
                required: 1,
                approvers: vec![principal(PrincipalKind::Group, "leads")],
            }],
        });
    })
}

fn by_bob(situation: &Situation, kind: DecisionKind) -> Decision {
    let resolved = situation.grant.at_present().resolved;
    Decision {
        name: format!("{kind:?}"),
        uid: format!("uid-of-{kind:?}"),
        grant: "pay-123".to_owned(),
        grant_uid: "uid-of-pay-123".to_owned(),
        made_at: now(),
        kind,
        access_hash: resolved
            .map(|access| access.hash)
            .filter(|_| kind == DecisionKind::Approve),
        decider: Caller {
            username: "bob@example.com".to_owned(),
            groups: vec!["leads".to_owned()],
        },
        reason: "enough".to_owned(),
        recorded: None,
        authority: Authority::NotHeld,
    }
}

/// The same situation with a decision of Bob.
fn decided(situation: Situation, kind: DecisionKind) -> Situation {
    let decision = by_bob(&situation, kind);
    situation.but(|situation| situation.decisions.push(decision))
}

fn approved() -> Situation {
    decided(
        Situation::of(grant("pay-123"), &asking()).pass(),
        DecisionKind::Approve,
    )
    .pass()
}

/// The policy is not checked yet: the operator has just started.
fn before_the_policy_check(situation: Situation) -> Situation {
    situation.but(|situation| {
        situation.policy = PolicyFacts::Absent {
            since: situation.now,
            why: "has not been judged yet".to_owned(),
            text: Some(Arc::new(asking().parsed())),
        };
    })
}

/// The policy is being replaced: its text is unknown.
fn without_policy(situation: Situation) -> Situation {
    situation.but(|situation| {
        situation.policy = PolicyFacts::Absent {
            since: situation.now,
            why: "does not exist".to_owned(),
            text: None,
        };
    })
}

fn verdicts(situation: &Situation) -> Vec<(DecisionKind, Option<Counts>)> {
    let decisions = situation.decisions.iter();
    decisions
        .map(|decision| (decision.kind, decision.recorded))
        .collect()
}

fn state(situation: &Situation) -> String {
    let status = situation.grant.at_present();
    let active = status
        .conditions
        .into_iter()
        .find(|condition| condition.type_ == conditions::ACTIVE);
    active.map(|active| active.reason).unwrap_or_default()
}

#[test]
fn an_approver_can_revoke_before_the_policy_is_checked() {
    let active = approved();
    assert_eq!(state(&active).as_str(), "Active");
    let over = before_the_policy_check(decided(active, DecisionKind::Revoke)).pass();
    assert_eq!(state(&over).as_str(), "Revoked");
    assert_eq!(
        verdicts(&over),
        [
            (DecisionKind::Approve, Some(Counting::Counted)),
            (DecisionKind::Revoke, Some(Counting::Counted))
        ]
    );
}

/// Another operator died while it revoked the access.
#[test]
fn a_half_done_revocation_keeps_its_revoker() {
    let half = decided(approved(), DecisionKind::Revoke).but(|situation| situation.found.clear());
    let over = before_the_policy_check(half).pass();
    let revocation = over.grant.at_present().revocation.unwrap();
    assert_eq!(
        revocation.by.as_deref(),
        Some("bob@example.com"),
        "{revocation:?}"
    );
}

#[test]
fn a_revoke_by_an_approver_waits_for_a_replaced_policy() {
    let waiting = without_policy(decided(approved(), DecisionKind::Revoke)).pass();
    assert_eq!(state(&waiting).as_str(), "Active");
    assert_eq!(
        verdicts(&waiting),
        [
            (DecisionKind::Approve, Some(Counting::Counted)),
            (DecisionKind::Revoke, None)
        ],
        "it is unknown if the policy lists bob"
    );
    let over = waiting
        .but(|situation| situation.policy = asking().ready())
        .pass();
    assert_eq!(state(&over).as_str(), "Revoked");
    assert_eq!(
        verdicts(&over),
        [
            (DecisionKind::Approve, Some(Counting::Counted)),
            (DecisionKind::Revoke, Some(Counting::Counted))
        ]
    );
}

#[test]
fn a_revoke_that_waited_for_its_policy_is_too_late_after_expiry() {
    let active = without_policy(decided(approved(), DecisionKind::Revoke)).pass();
    let over = active.after(seconds(1800)).pass();
    assert_eq!(state(&over).as_str(), "Expired");
    assert_eq!(
        verdicts(&over),
        [
            (DecisionKind::Approve, Some(Counting::Counted)),
            (DecisionKind::Revoke, Some(Counting::Ignored))
        ]
    );
}

/// A crash came between the record of the approval and its verdict.
#[test]
fn a_recorded_approval_counts_even_if_announced_after_the_end() {
    let untold = approved().but(|situation| situation.decisions[0].recorded = None);
    let unknown = without_policy(untold.clone()).after(seconds(1800)).pass();
    let known = untold.clone().after(seconds(1800)).pass();
    let after = untold
        .but(|situation| situation.decisions.clear())
        .after(seconds(1800))
        .pass();
    let after = decided(after, DecisionKind::Approve).pass();
    for over in [unknown, known, after] {
        assert_eq!(state(&over).as_str(), "Expired");
        assert_eq!(
            verdicts(&over),
            [(DecisionKind::Approve, Some(Counting::Counted))],
            "{:?}",
            over.told
        );
    }
}
