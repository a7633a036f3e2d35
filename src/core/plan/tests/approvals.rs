//! Tests of plans for requests that need approvals.

use crate::core::decision::verdict::Counting;
use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::api::DecisionKind;
use crate::api::DecisionKind::{Approve, Deny, Revoke};
use crate::api::{
    AccessGrant, AccessGrantStatus, AccessPolicy, OnChange, PrincipalKind, RoleKind, Subject, conditions,
};
use crate::core::decision::Authority;
use crate::core::decision::blocking::Block;
use crate::core::decision::verdict::{DecisionVerdict, Verdict};
use crate::core::facts::PolicyFacts;
use crate::core::grant::status;
use crate::core::grant::transition::Transition;
use crate::core::guard::state::GuardState;
use crate::core::plan::effect::{Effect, Plan};
use crate::core::rbac::roles::RoleFacts;
use crate::core::testing::{Situation, at, grant, now, policy, principal, rule, seconds};

const ALICE: &str = "alice@example.com";
const BOB: &str = "bob@example.com";
const DAVE: &str = "dave@example.com";
const ERIN: &str = "erin@example.com";

/// Requires one approval of the team, then two of security.
fn manual() -> AccessPolicy {
    policy().approved_by(&[("team", 1, "leads"), ("security", 2, "security")])
}

/// Requires one approval of a lead.
fn one_lead() -> AccessPolicy {
    policy().approved_by(&[("team", 1, "leads")])
}

/// A request after its first reconcile: it waits for approvals.
fn awaiting(policy: &AccessPolicy) -> Situation {
    Situation::of(grant("pay-123"), policy).pass()
}

/// The state, and the message of the condition `Approved`.
fn state_and_approval(situation: &Situation) -> (&'static str, String) {
    let approved = situation
        .grant
        .at_present()
        .conditions
        .into_iter()
        .find(|condition| condition.type_ == conditions::APPROVED)
        .map_or_else(String::new, |condition| condition.message);
    (status::state(&situation.grant).as_str(), approved)
}

/// The last announced verdict on the decision of that number.
fn verdict(situation: &Situation, number: usize) -> Verdict {
    let uid = format!("uid-of-decision-{number}");
    let verdict = situation
        .told
        .iter()
        .rev()
        .find_map(|announcement| match announcement {
            Transition::Judged(judged) if judged.decision.uid == uid => Some(judged.verdict.clone()),
            _ => None,
        });
    verdict.unwrap_or_else(|| panic!("no verdict on {uid} in {:#?}", situation.told))
}

fn reason(situation: &Situation) -> String {
    let status = situation.grant.at_present();
    let accepted = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == conditions::ACCEPTED);
    accepted.map_or_else(String::new, |condition| {
        format!("{}: {}", condition.reason, condition.message)
    })
}

fn with_role_changed(mut situation: Situation) -> Situation {
    let facts = RoleFacts::new("uid-of-view", &[rule(&["get"], &["secrets"])]);
    let key = (RoleKind::ClusterRole, "view".to_owned());
    situation.roles.insert(key, facts.into());
    situation
}

fn with_policy(mut situation: Situation, policy: &AccessPolicy) -> Situation {
    let mut edited = policy.clone();
    edited.metadata.generation = Some(4);
    situation.policy = edited.ready();
    situation
}

// Waiting.

#[test]
fn a_request_waits_for_its_first_stage_and_makes_nothing() {
    let waiting = awaiting(&manual());
    assert_eq!(
        state_and_approval(&waiting),
        (
            "AwaitingApproval",
            "0 of 1 from team, until 2026-12-01T09:30:00Z".to_owned()
        )
    );
    assert!(waiting.found.is_empty());
    assert!(waiting.grant.at_present().resolved.is_some());
    assert_eq!(waiting.plan(), Plan::wait_until(at("2026-12-01T09:30:00Z")));
}

#[test]
fn the_last_approval_of_the_last_stage_grants_the_access() {
    let first = awaiting(&manual()).decided(Approve, BOB, "leads").pass();
    assert_eq!(
        state_and_approval(&first),
        (
            "AwaitingApproval",
            format!("0 of 2 from security, until 2026-12-01T09:30:00Z; approved by {BOB} (team)")
        )
    );
    assert_eq!(
        verdict(&first, 1),
        Verdict::counted("approved as group leads (stage team: 1 of 1)")
    );
    let second = first.decided(Approve, DAVE, "security").pass();
    assert_eq!(
        state_and_approval(&second),
        (
            "AwaitingApproval",
            format!(
                "1 of 2 from security, until 2026-12-01T09:30:00Z; approved by {BOB} (team), {DAVE} (security)"
            )
        )
    );
    assert!(second.found.is_empty());
    let active = second.decided(Approve, ERIN, "security").pass();
    assert_eq!(
        state_and_approval(&active),
        (
            "Active",
            format!("approved by {BOB} (team), {DAVE} (security), {ERIN} (security)")
        )
    );
    assert_eq!(active.found.len(), 2, "{:?}", active.found);
    assert!(active.plan().stages.is_empty());
}

#[test]
fn approvals_are_recorded_with_the_write_ahead() {
    let plan = awaiting(&one_lead()).decided(Approve, BOB, "leads").plan();
    let Some(Effect::Intend(status)) = plan.stages[0].first() else {
        panic!("{plan:?}");
    };
    assert_eq!(status.approvals.len(), 1);
    assert_eq!(status.approvals[0].username, BOB);
    assert_eq!(
        status.approvals[0].access_hash,
        status.resolved.as_ref().unwrap().hash
    );
    assert!(matches!(
        plan.stages.last().unwrap()[..],
        [Effect::RecordVerdict(_)]
    ));
}

#[test]
fn a_verdict_lost_in_a_crash_is_recorded_later() {
    let situation = awaiting(&one_lead()).decided(Approve, BOB, "leads");
    let plan = situation.plan();
    let mut died = situation;
    for effect in plan.stages[..plan.stages.len() - 1].iter().flatten() {
        died.apply(effect).unwrap();
    }
    assert!(died.decisions[0].recorded.is_none());
    let after = died.pass();
    assert_eq!(after.decisions[0].recorded, Some(Counting::Counted));
    assert!(after.plan().stages.is_empty());
}

#[test]
fn an_approval_for_a_later_stage_waits_and_then_counts() {
    let early = awaiting(&manual()).decided(Approve, DAVE, "security").pass();
    assert_eq!(
        verdict(&early, 1),
        Verdict::waiting("counts when stage security begins")
    );
    assert!(early.plan().stages.is_empty(), "announced twice");
    let later = early.decided(Approve, BOB, "leads").pass();
    assert_eq!(
        state_and_approval(&later).1,
        format!(
            "1 of 2 from security, until 2026-12-01T09:30:00Z; approved by {BOB} (team), {DAVE} (security)"
        )
    );
    assert_eq!(later.decisions[0].recorded, Some(Counting::Counted));
}

#[test]
fn simultaneous_approvals_count_in_any_order() {
    let all = awaiting(&manual())
        .decided(Approve, ERIN, "security")
        .decided(Approve, DAVE, "security")
        .decided(Approve, BOB, "leads")
        .pass();
    assert_eq!(state_and_approval(&all).0, "Active");
}

#[test]
fn an_ignored_approval_changes_nothing_and_says_why() {
    let table: [(&str, &str, &str, &str); 4] = [
        (
            ALICE,
            "leads",
            "SelfDecision",
            "cannot decide on this request; to withdraw it, create a decision Revoke",
        ),
        (
            "mallory@example.com",
            "devs",
            "DeciderNotListed",
            "mallory@example.com is not an approver of this policy; stage team lists group leads; stage security lists \
             group security",
        ),
        // A service account in the group is not a person.
        (
            "system:serviceaccount:prod:robot",
            "leads",
            "DeciderNotListed",
            "is not an approver of this policy",
        ),
        (
            BOB,
            "leads",
            "AccessChanged",
            "look at the grant again and approve that",
        ),
    ];
    for (username, group, reason, message) in table {
        let mut situation = awaiting(&manual()).decided(Approve, username, group);
        if reason == "AccessChanged" {
            situation.decisions[0].access_hash = Some("sha256:0".to_owned());
        }
        let before = situation.grant.status.clone();
        let after = situation.pass();
        assert_eq!(after.grant.status, before, "{username}");
        let verdict = verdict(&after, 1);
        assert_eq!((verdict.standing, verdict.reason), (Counting::Ignored, reason));
        assert!(verdict.message.contains(message), "{}", verdict.message);
        assert!(after.plan().stages.is_empty());
    }
}

#[test]
fn each_person_counts_once_and_extra_approvals_are_ignored() {
    let policy = policy().approved_by(&[("first", 1, "leads"), ("second", 1, "leads")]);
    let twice = awaiting(&policy)
        .decided(Approve, BOB, "leads")
        .decided(Approve, BOB, "leads")
        .pass();
    assert_eq!(state_and_approval(&twice).0, "AwaitingApproval");
    assert_eq!(verdict(&twice, 2).reason, "AlreadyApproved");
    let enough = twice
        .decided(Approve, DAVE, "leads")
        .decided(Approve, ERIN, "leads")
        .pass();
    assert_eq!(state_and_approval(&enough).0, "Active");
    assert_eq!(verdict(&enough, 4).reason, "NotAsked");
}

#[test]
fn the_subject_cannot_approve() {
    let for_dave = grant("pay-123").given_to(Subject::user(DAVE));
    let situation = Situation::of(for_dave, &one_lead())
        .pass()
        .decided(Approve, DAVE, "leads");
    assert_eq!(verdict(&situation.pass(), 1).reason, "SelfDecision");
}

#[test]
fn a_deleted_approval_still_counts() {
    let mut first = awaiting(&manual()).decided(Approve, BOB, "leads").pass();
    first.decisions.clear();
    assert_eq!(
        state_and_approval(&first.pass()).1,
        format!("0 of 2 from security, until 2026-12-01T09:30:00Z; approved by {BOB} (team)")
    );
}

// Deny.

#[test]
fn one_deny_of_an_approver_denies_despite_approvals() {
    let denied = awaiting(&manual())
        .decided(Approve, BOB, "leads")
        .pass()
        .decided(Approve, DAVE, "security")
        .decided(Deny, ERIN, "security")
        .pass();
    assert_eq!(state_and_approval(&denied).0, "Denied");
    assert_eq!(
        reason(&denied),
        format!("DeniedByApprover: {ERIN} denied it: so says {ERIN}")
    );
    assert_eq!(verdict(&denied, 3), Verdict::counted("denies the request"));
    assert_eq!(verdict(&denied, 2).reason, "TooLate");
}

#[test]
fn a_deny_by_no_approver_is_ignored() {
    for (username, group, reason) in [
        (ALICE, "leads", "SelfDecision"),
        ("mallory@example.com", "devs", "DeciderNotListed"),
    ] {
        let after = awaiting(&manual()).decided(Deny, username, group).pass();
        assert_eq!(state_and_approval(&after).0, "AwaitingApproval");
        assert_eq!(verdict(&after, 1).reason, reason);
    }
}

#[test]
fn an_unanswered_request_is_denied_at_its_timeout_and_not_before() {
    let waiting = awaiting(&manual());
    assert!(waiting.clone().after(seconds(1799)).plan().stages.is_empty());
    let late = waiting.after(seconds(1800)).pass();
    assert_eq!(
        reason(&late),
        "ApprovalTimedOut: not approved in time, 0 of 1 from team, until 2026-12-01T09:30:00Z; ask again"
    );
    let condition = late.grant.at_present().conditions;
    assert!(
        condition
            .iter()
            .any(|condition| condition.type_ == "Approved" && condition.status == "False")
    );
}

#[test]
fn an_approval_made_before_the_timeout_counts_even_if_read_later() {
    let waiting = awaiting(&one_lead()).after(seconds(1799));
    let in_time = waiting.clone().decided(Approve, BOB, "leads").after(seconds(900));
    assert_eq!(state_and_approval(&in_time.pass()).0, "Active");
    let late = waiting
        .after(seconds(1))
        .decided(Approve, BOB, "leads")
        .after(seconds(900))
        .pass();
    assert_eq!(state_and_approval(&late).0, "Denied");
    assert_eq!(
        verdict(&late, 1),
        Verdict::ignored("TooLate", "approvers had until 2026-12-01T09:30:00Z")
    );
}

#[test]
fn approvals_are_kept_while_none_are_required() {
    let policy = policy()
        .approved_by(&[("team", 2, "leads")])
        .when("now < timestamp('2026-12-01T09:05:00Z') || now > timestamp('2026-12-01T09:10:00Z')");
    let asked = grant("pay-123").starting("2026-12-01T09:20:00Z");
    let one = Situation::of(asked, &policy)
        .pass()
        .decided(Approve, BOB, "leads")
        .pass();
    let unasked = one.after(seconds(360)).pass();
    assert_eq!(state_and_approval(&unasked).0, "Scheduled");
    let again = unasked.after(seconds(300)).decided(Approve, DAVE, "leads").pass();
    assert_eq!(state_and_approval(&again).0, "Scheduled");
    assert_eq!(again.grant.at_present().approvals.len(), 2);
}

#[test]
fn approvers_have_until_not_after_or_the_end_of_the_window() {
    let until = |situation: Situation| state_and_approval(&situation.pass()).1;
    let asked = grant("pay-123").until("2026-12-01T09:10:00Z");
    assert_eq!(
        until(Situation::of(asked, &one_lead())),
        "0 of 1 from team, until 2026-12-01T09:10:00Z"
    );
    let window = one_lead().open(&[], "08:00", "09:20");
    assert_eq!(
        until(Situation::of(grant("pay-123"), &window)),
        "0 of 1 from team, until 2026-12-01T09:20:00Z"
    );
}

// Void.

#[test]
fn an_approval_of_other_access_is_void_and_can_be_repeated() {
    let approved = awaiting(&manual()).decided(Approve, BOB, "leads").pass();
    let void = with_role_changed(approved).pass();
    let why = format!("{BOB}'s approval is void: the access has changed since the approval");
    assert_eq!(
        state_and_approval(&void).1,
        format!("0 of 1 from team, until 2026-12-01T09:30:00Z; {why}")
    );
    let conditions = void.grant.at_present().conditions;
    assert!(
        conditions
            .iter()
            .any(|condition| condition.reason == "ApprovalVoid")
    );
    assert!(void.plan().stages.is_empty(), "announced twice");
    let late = void.clone().after(seconds(1800)).pass();
    assert!(reason(&late).starts_with("ApprovalVoid: "), "{}", reason(&late));
    let again = void.decided(Approve, BOB, "leads").pass();
    assert!(
        state_and_approval(&again).1.starts_with("0 of 2 from security"),
        "{:?}",
        state_and_approval(&again)
    );
    let late = again.after(seconds(1800)).pass();
    assert!(
        reason(&late).starts_with("ApprovalTimedOut: "),
        "{}",
        reason(&late)
    );
}

#[test]
fn an_approval_by_a_removed_approver_is_void() {
    let approved = awaiting(&manual()).decided(Approve, BOB, "leads").pass();
    let others = policy().approved_by(&[("team", 1, "owners"), ("security", 2, "security")]);
    let void = with_policy(approved, &others).pass();
    let message = state_and_approval(&void).1;
    assert!(
        message.ends_with(&format!(
            "{BOB}'s approval is void: stage team no longer lists group leads"
        )),
        "{message}"
    );
}

#[test]
fn an_edited_policy_decides_how_many_approvals_are_missing() {
    let approved = awaiting(&manual()).decided(Approve, BOB, "leads").pass();
    let more = policy().approved_by(&[("team", 2, "leads"), ("security", 2, "security")]);
    assert_eq!(
        state_and_approval(&with_policy(approved.clone(), &more).pass()).1,
        format!("1 of 2 from team, until 2026-12-01T09:30:00Z; approved by {BOB} (team)")
    );
    assert_eq!(
        state_and_approval(&with_policy(approved.clone(), &one_lead()).pass()).0,
        "Active"
    );
    assert_eq!(
        state_and_approval(&with_policy(approved, &policy()).pass()).0,
        "Active"
    );
}

#[test]
fn a_policy_edit_can_deny_a_waiting_request() {
    let narrowed = manual().with(|spec| spec.requesters = vec![principal(PrincipalKind::Group, "others")]);
    let denied = with_policy(awaiting(&manual()), &narrowed).pass();
    assert!(
        reason(&denied).starts_with("RequesterNotListed"),
        "{}",
        reason(&denied)
    );
}

#[test]
fn access_ends_if_an_edit_requires_more_approvals_unless_keep() {
    let active = awaiting(&one_lead()).decided(Approve, BOB, "leads").pass();
    let ended = with_policy(active.clone(), &manual()).pass();
    assert_eq!(state_and_approval(&ended).0, "Revoked");
    let revocation = ended.grant.at_present().revocation.unwrap();
    assert_eq!(
        revocation.message,
        "policy prod-debug would deny it now: it requires 2 approvals from security now; this access has 0"
    );
    let keeping = manual().with(|spec| spec.on_policy_change = OnChange::Keep);
    assert_eq!(
        state_and_approval(&with_policy(active, &keeping).pass()).0,
        "Active"
    );
}

#[test]
fn a_waiting_request_survives_a_missing_policy_for_60s() {
    let absent = awaiting(&manual()).after(seconds(60)).but(|situation| {
        situation.policy = PolicyFacts::Absent {
            since: situation.now,
            why: "does not exist".to_owned(),
            text: None,
        };
    });
    let since = absent.now;
    assert_eq!(
        absent.plan(),
        Plan::wait_until(since.checked_add(seconds(5)).unwrap())
    );
    let held = absent.after(seconds(5)).pass();
    assert_eq!(state_and_approval(&held).0, "Pending");
    let back = held
        .clone()
        .after(seconds(54))
        .but(|situation| situation.policy = manual().ready())
        .pass();
    assert_eq!(state_and_approval(&back).0, "AwaitingApproval");
    assert_eq!(state_and_approval(&held.after(seconds(55)).pass()).0, "Denied");
}

// SelfServe.

#[test]
fn a_self_serve_request_waits_only_if_its_expression_says_so() {
    let policy = one_lead().when("request.duration > duration('1h')");
    let short = Situation::of(grant("pay-123").lasting("1h"), &policy).pass();
    assert_eq!(state_and_approval(&short), ("Active", String::new()));
    let long = Situation::of(grant("pay-123").lasting("2h"), &policy).pass();
    assert_eq!(state_and_approval(&long).0, "AwaitingApproval");
    assert_eq!(
        state_and_approval(&long.decided(Approve, BOB, "leads").pass()).0,
        "Active"
    );
}

#[test]
fn an_expression_that_fails_requires_approval() {
    let policy = one_lead().when("namespaceObject.labels['tier'] == 'high'");
    assert_eq!(state_and_approval(&awaiting(&policy)).0, "AwaitingApproval");
}

#[test]
fn an_approval_that_is_not_required_is_ignored() {
    let later = Situation::of(grant("pay-123").starting("2026-12-01T10:00:00Z"), &policy()).pass();
    let ignored = later.decided(Approve, BOB, "leads").pass();
    assert_eq!(verdict(&ignored, 1).reason, "NotAsked");
    let active = Situation::of(grant("pay-123"), &policy()).pass();
    assert_eq!(
        verdict(&active.decided(Deny, BOB, "leads").pass(), 1).reason,
        "TooLate"
    );
}

// Start later.

#[test]
fn approved_access_starts_at_not_before() {
    let asked = grant("pay-123").starting("2026-12-01T09:20:00Z");
    let approved = Situation::of(asked, &one_lead())
        .pass()
        .decided(Approve, BOB, "leads")
        .pass();
    assert_eq!(
        state_and_approval(&approved),
        ("Scheduled", format!("approved by {BOB} (team)"))
    );
    assert!(approved.found.is_empty());
    assert_eq!(approved.plan(), Plan::wait_until(at("2026-12-01T09:20:00Z")));
    let started = approved.after(seconds(1200)).pass();
    assert_eq!(state_and_approval(&started).0, "Active");
    assert_eq!(
        started.grant.at_present().expires_at.unwrap().0,
        at("2026-12-01T09:50:00Z"),
        "the duration runs from the start"
    );
}

#[test]
fn a_change_before_the_start_voids_approvals() {
    let asked = grant("pay-123").starting("2026-12-01T09:20:00Z");
    let approved = Situation::of(asked, &one_lead())
        .pass()
        .decided(Approve, BOB, "leads")
        .pass();
    let void = with_role_changed(approved.after(seconds(1200))).pass();
    assert_eq!(state_and_approval(&void).0, "AwaitingApproval");
    assert!(void.found.is_empty());
}

#[test]
fn conditions_are_evaluated_at_request_and_at_start_only() {
    let policy = one_lead().demanding("early", "now < timestamp('2026-12-01T09:10:00Z')", "come early");
    let asked = grant("pay-123").starting("2026-12-01T09:20:00Z");
    let waiting = Situation::of(asked, &policy).pass();
    let approved = waiting.after(seconds(900)).decided(Approve, BOB, "leads").pass();
    assert_eq!(state_and_approval(&approved).0, "Scheduled");
    let denied = approved.after(seconds(300)).pass();
    assert!(
        reason(&denied).starts_with("ConditionNotMet"),
        "{}",
        reason(&denied)
    );
}

#[test]
fn a_window_must_be_open_at_the_start_only() {
    let policy = policy().open(&[], "10:00", "11:00");
    let ask = |start| Situation::of(grant("pay-123").starting(start), &policy).pass();
    assert_eq!(state_and_approval(&ask("2026-12-01T10:30:00Z")).0, "Scheduled");
    let denied = ask("2026-12-01T12:00:00Z");
    assert!(
        reason(&denied).starts_with("OutsideWindows: spec.notBefore"),
        "{}",
        reason(&denied)
    );
}

#[test]
fn not_before_is_within_30_days_and_before_not_after() {
    let ask = |grant: AccessGrant| reason(&Situation::of(grant, &policy()).pass());
    assert!(ask(grant("g").starting("2026-12-31T09:00:00Z")).starts_with("PolicySatisfied"));
    assert!(ask(grant("g").starting("2026-12-31T09:00:01Z")).starts_with("NotBeforeInvalid"));
    let backwards = grant("g")
        .starting("2026-12-02T09:00:00Z")
        .until("2026-12-02T09:00:00Z");
    assert!(ask(backwards).starts_with("NotBeforeInvalid"));
}

// Limits.

#[test]
fn pending_requests_of_one_requester_are_limited() {
    let full: Vec<_> = (1..=5).map(|number| format!("prod/g{number}")).collect();
    let crowded = |policy: &AccessPolicy| {
        Situation::of(grant("pay-123"), policy).but(|situation| situation.pending.clone_from(&full))
    };
    let denied = crowded(&manual()).pass();
    assert!(
        reason(&denied)
            .contains("alice@example.com has 5 requests waiting under policy prod-debug (prod/g1, prod/g2,"),
        "{}",
        reason(&denied)
    );
    assert_eq!(
        state_and_approval(&crowded(&policy()).pass()).0,
        "Active",
        "it does not wait"
    );
    let waiting = awaiting(&manual()).but(|situation| situation.pending = full.clone());
    assert!(waiting.plan().stages.is_empty(), "it waited before");
}

#[test]
fn the_live_limit_is_checked_when_a_scheduled_request_starts() {
    let busy = |grant| {
        Situation::of(grant, &policy()).but(|situation| situation.rivals = vec!["prod/other".to_owned()])
    };
    let later = busy(grant("pay-123").starting("2026-12-01T10:00:00Z")).pass();
    assert_eq!(state_and_approval(&later).0, "Scheduled");
    assert!(reason(&later.after(seconds(3600)).pass()).starts_with("LimitReached"));
    assert!(reason(&busy(grant("pay-123")).pass()).starts_with("LimitReached"));
}

// Revoke.

#[test]
fn a_revoke_withdraws_a_request_whatever_it_waits_for() {
    let later = || Situation::of(grant("pay-123").starting("2026-12-01T10:00:00Z"), &manual()).pass();
    let held = || {
        Situation::of(grant("pay-123"), &manual()).but(|situation| {
            situation.policy = PolicyFacts::Absent {
                since: now(),
                why: "does not exist".to_owned(),
                text: None,
            };
        })
    };
    for situation in [awaiting(&manual()), later(), held().pass()] {
        let ended = situation.decided(Revoke, ALICE, "payments-devs").pass();
        assert_eq!(state_and_approval(&ended).0, "Revoked");
        let revocation = ended.grant.at_present().revocation.unwrap();
        assert_eq!(revocation.by.as_deref(), Some(ALICE));
        assert_eq!(revocation.message, format!("{ALICE} revoked it: so says {ALICE}"));
        assert!(
            ended.plan().stages.iter().flatten().next().is_none(),
            "{:?}",
            ended.plan()
        );
    }
}

#[test]
fn requester_subject_approver_and_holder_of_the_verb_may_revoke() {
    let for_dave = grant("pay-123").given_to(Subject::user(DAVE));
    let active = Situation::of(for_dave, &one_lead())
        .pass()
        .decided(Approve, BOB, "leads")
        .pass();
    assert_eq!(state_and_approval(&active).0, "Active");
    let table = [
        (ALICE, "payments-devs", Authority::NotHeld),
        (DAVE, "nobody", Authority::NotHeld),
        (ERIN, "leads", Authority::NotHeld),
        ("system:serviceaccount:soc:alarm", "nobody", Authority::Held),
    ];
    for (username, group, authority) in table {
        let mut revoked = active.clone().decided(Revoke, username, group);
        revoked.decisions[1].authority = authority;
        let ended = revoked.pass();
        assert_eq!(state_and_approval(&ended).0, "Revoked", "{username}");
        assert!(ended.found.is_empty());
        assert_eq!(ended.decisions[1].recorded, Some(Counting::Counted));
    }
    let mut stranger = active
        .clone()
        .decided(Revoke, "mallory@example.com", "devs")
        .pass();
    assert_eq!(state_and_approval(&stranger).0, "Active");
    assert_eq!(verdict(&stranger, 2).reason, "MayNotRevoke");
    // A service account in the group of the approvers is no approver.
    stranger = active
        .clone()
        .decided(Revoke, "system:serviceaccount:prod:robot", "leads")
        .pass();
    assert_eq!(state_and_approval(&stranger).0, "Active");
    let mut unclear = active.decided(Revoke, "mallory@example.com", "devs");
    unclear.decisions[1].authority = Authority::Unclear;
    let plan = unclear.plan();
    assert!(plan.stages.is_empty());
    assert_eq!(plan.wake, now().checked_add(seconds(1)).ok());
}

#[test]
fn the_block_of_a_revoke_is_recorded_before_the_grant_ends() {
    let pipeline = grant("pay-123").asked_by_pipeline().until("2026-12-01T18:00:00Z");
    for (policy, ends) in [(policy(), true), (manual(), false)] {
        let situation = Situation::of(pipeline.clone(), &policy).pass();
        let plan = situation
            .decided(Revoke, "system:serviceaccount:ci:deployer", "x")
            .plan();
        let effects: Vec<_> = plan.stages.iter().flatten().collect();
        let place = |wanted: fn(&Effect) -> bool| effects.iter().position(|effect| wanted(effect));
        let verdict = place(|effect| matches!(effect, Effect::RecordVerdict(_))).unwrap();
        let over = place(|effect| matches!(effect, Effect::RecordEnded(_))).unwrap();
        let removal = place(|effect| matches!(effect, Effect::Delete(_)));
        assert_eq!(removal.is_some(), ends);
        assert!(removal.is_none_or(|removal| removal < verdict) && verdict < over);
        let Effect::RecordVerdict(judged) = effects[verdict] else {
            unreachable!()
        };
        let against = judged.verdict.blocks.clone().unwrap();
        assert_eq!(against.requester, "system:serviceaccount:ci:deployer");
        assert_eq!(against.until.0, at("2026-12-01T18:00:00Z"));
    }
}

#[test]
fn a_revoke_blocks_the_same_request_of_a_service_account() {
    let pipeline = grant("pay-123").asked_by_pipeline().until("2026-12-01T18:00:00Z");
    let ended = Situation::of(pipeline.clone(), &policy())
        .pass()
        .decided(Revoke, "system:serviceaccount:ci:deployer", "x")
        .pass();
    let against = verdict(&ended, 1).blocks.unwrap();
    let again = |grant: AccessGrant, objected: bool| {
        let mut situation = Situation::of(grant, &policy());
        if objected {
            situation.objections.push(Block {
                decision: "decision-1".to_owned(),
                decider: ERIN.to_owned(),
                against: against.clone(),
            });
        }
        state_and_approval(&situation.pass()).0
    };
    assert_eq!(again(pipeline.clone(), true), "Denied");
    assert_eq!(again(pipeline.clone(), false), "Active");
    assert_eq!(
        again(pipeline.clone().because("PAY-124 another deployment"), true),
        "Active"
    );
    assert_eq!(
        again(pipeline.clone().until("2026-12-02T18:00:00Z"), true),
        "Active"
    );
    let by_alice = pipeline.asked_by(ALICE, &["payments-devs"]);
    assert_eq!(again(by_alice, true), "Active");
}

#[test]
fn a_revoke_of_a_persons_request_blocks_nothing() {
    let ended = awaiting(&manual()).decided(Revoke, ALICE, "payments-devs").pass();
    assert_eq!(verdict(&ended, 1).blocks, None);
}

// Guards not in force.

#[test]
fn a_decision_made_in_a_breach_never_counts() {
    let breached = awaiting(&one_lead())
        .but(|situation| situation.guards = GuardState::Breached("curfew-decider is absent".to_owned()))
        .decided(Approve, BOB, "leads")
        .pass();
    assert_eq!(verdict(&breached, 1).reason, "NotAttested");
    assert!(breached.found.is_empty());
    let after = breached
        .but(|situation| situation.guards = GuardState::InForce)
        .pass();
    assert_eq!(state_and_approval(&after).0, "AwaitingApproval");
    let active = after.decided(Approve, BOB, "leads").pass();
    assert_eq!(state_and_approval(&active).0, "Active");
}

#[test]
fn a_waiting_request_stays_as_it_is_while_guards_are_unproven() {
    let unproven = awaiting(&one_lead())
        .but(|situation| situation.guards = GuardState::unasked())
        .decided(Approve, BOB, "leads");
    assert!(unproven.plan().stages.is_empty());
    assert_eq!(
        state_and_approval(
            &unproven
                .but(|situation| situation.guards = GuardState::InForce)
                .pass()
        )
        .0,
        "Active"
    );
}

// Verdicts.

/// An Approve, a Deny and a Revoke by someone who may not decide anything.
fn with_decisions_of_a_stranger(situation: Situation) -> Situation {
    let mallory = "mallory@example.com";
    situation
        .decided(Approve, mallory, "devs")
        .decided(Deny, mallory, "devs")
        .decided(Revoke, mallory, "devs")
}

/// Reasons of the verdicts that a plan records, by the number of the decision. Each verdict is announced before it is
/// recorded, and recorded before `end`.
fn recorded_verdicts(plan: &Plan, end: impl Fn(&Effect) -> bool) -> Vec<(String, &'static str)> {
    let effects: Vec<_> = plan.stages.iter().flatten().collect();
    let end = effects
        .iter()
        .position(|effect| end(effect))
        .unwrap_or(effects.len());
    let announced = |verdict: &DecisionVerdict| {
        let announcement = Effect::Announce(Transition::Judged(Box::new(verdict.clone())));
        effects.iter().position(|effect| **effect == announcement)
    };
    let mut reasons = Vec::new();
    for (position, effect) in effects.iter().enumerate() {
        if let Effect::RecordVerdict(judged) = effect {
            assert!(
                announced(judged).is_some_and(|before| before < position),
                "{judged:?}"
            );
            assert!(position < end, "{judged:?} comes after the end");
            reasons.push((judged.decision.uid.clone(), judged.verdict.reason));
        }
    }
    reasons.sort();
    reasons
}

#[test]
fn every_open_decision_has_a_verdict_before_the_grant_is_over() {
    let later = grant("pay-123").starting("2026-12-01T09:20:00Z");
    let scheduled = Situation::of(later, &policy()).pass();
    let active = Situation::of(grant("pay-123"), &policy()).pass();
    let table: [(&str, Situation, [&str; 3]); 9] = [
        (
            "denied by the policy",
            Situation::of(grant("pay-123").lasting("5h"), &manual()),
            ["TooLate"; 3],
        ),
        (
            "denied by an approver",
            awaiting(&manual()).decided(Deny, BOB, "leads"),
            ["TooLate"; 3],
        ),
        (
            "denied at the timeout",
            awaiting(&manual()).after(seconds(1800)),
            ["TooLate", "DeciderNotListed", "MayNotRevoke"],
        ),
        (
            "denied at the limit",
            scheduled
                .after(seconds(1200))
                .but(|situation| situation.rivals = vec!["prod/other".to_owned()]),
            ["NotAsked", "NotAsked", "MayNotRevoke"],
        ),
        (
            "not attested",
            Situation::of(grant("pay-123"), &manual())
                .but(|situation| situation.guards = GuardState::Breached("a guard is absent".to_owned()))
                .pass()
                .but(|situation| situation.guards = GuardState::InForce),
            ["TooLate"; 3],
        ),
        (
            "withdrawn",
            awaiting(&manual()).decided(Revoke, ALICE, "payments-devs"),
            ["TooLate"; 3],
        ),
        (
            "revoked",
            active.clone().decided(Revoke, ALICE, "payments-devs"),
            ["TooLate", "TooLate", "MayNotRevoke"],
        ),
        (
            "expired",
            active.clone().after(seconds(1800)),
            ["TooLate", "TooLate", "MayNotRevoke"],
        ),
        ("over before", active.after(seconds(1800)).pass(), ["TooLate"; 3]),
    ];
    for (name, situation, expected) in table {
        let own = situation.decisions.len();
        let situation = with_decisions_of_a_stranger(situation);
        let ends = |effect: &Effect| match effect {
            Effect::RecordEnded(_) => true,
            Effect::Record(status) => status.ended_at.is_some(),
            _ => false,
        };
        let recorded = recorded_verdicts(&situation.plan(), ends);
        let uids: Vec<_> = situation
            .decisions
            .iter()
            .map(|decision| decision.uid.clone())
            .collect();
        let recorded_uids: Vec<_> = recorded.iter().map(|(uid, _)| uid.clone()).collect();
        assert_eq!(recorded_uids, uids, "{name}");
        let reasons: Vec<_> = recorded[own..].iter().map(|(_, reason)| *reason).collect();
        assert_eq!(reasons, expected, "{name}");
        if name == "expired" {
            assert_eq!(
                recorded_verdicts(&situation.plan_end(), ends),
                recorded,
                "every replica"
            );
        }
        let over = situation.pass();
        assert!(over.grant.at_present().ended_at.is_some(), "{name}");
        assert!(
            over.decisions.iter().all(|decision| !decision.is_open()),
            "{name}"
        );
    }
}

#[test]
fn a_decision_stays_open_only_while_its_grant_is_held_or_unproven() {
    let held = |reason: &str| -> Situation {
        let waiting = Situation::of(grant("pay-123"), &manual());
        match reason {
            "policy" => waiting.but(|situation| {
                situation.policy = PolicyFacts::Absent {
                    since: now(),
                    why: "does not exist".to_owned(),
                    text: None,
                };
            }),
            "guards" => waiting.but(|situation| situation.guards = GuardState::unasked()),
            "clocks" => waiting.but(|situation| situation.skewed = Some("31 s".to_owned())),
            "accepted" => waiting
                .pass()
                .but(|situation| situation.guards = GuardState::unasked()),
            other => panic!("{other}"),
        }
    };
    for reason in ["policy", "guards", "clocks", "accepted"] {
        let situation = with_decisions_of_a_stranger(held(reason));
        assert_eq!(recorded_verdicts(&situation.plan(), |_| false), [], "{reason}");
    }
    let uid = |number: usize| format!("uid-of-decision-{number}");
    let breach = Situation::of(grant("pay-123"), &manual())
        .but(|situation| situation.guards = GuardState::Breached("a guard is absent".to_owned()));
    let breach = with_decisions_of_a_stranger(breach);
    assert_eq!(
        recorded_verdicts(&breach.plan(), |_| false),
        [(uid(1), "NotAttested"), (uid(2), "NotAttested")],
        "a Revoke stays open"
    );
    let waiting = with_decisions_of_a_stranger(awaiting(&manual()));
    assert_eq!(
        recorded_verdicts(&waiting.plan(), |_| false),
        [
            (uid(1), "DeciderNotListed"),
            (uid(2), "DeciderNotListed"),
            (uid(3), "MayNotRevoke")
        ]
    );
    let granted = with_decisions_of_a_stranger(Situation::of(grant("pay-123"), &policy()));
    assert_eq!(
        recorded_verdicts(&granted.plan(), |_| false),
        [
            (uid(1), "NotAsked"),
            (uid(2), "NotAsked"),
            (uid(3), "MayNotRevoke")
        ]
    );
    let live = Situation::of(grant("pay-123"), &policy()).pass();
    assert_eq!(
        recorded_verdicts(&with_decisions_of_a_stranger(live).plan(), |_| false),
        [(uid(1), "TooLate"), (uid(2), "TooLate"), (uid(3), "MayNotRevoke")]
    );
}

// Any sequence of steps.

#[derive(Clone, Debug)]
enum Step {
    Decide(DecisionKind, usize, bool),
    Reconcile,
    Crash(usize),
    ChangeRole(bool),
    Edit(usize),
    Later(i64),
    Forget(usize),
}

const PEOPLE: [(&str, &str); 6] = [
    (ALICE, "leads"),
    (BOB, "leads"),
    ("carol@example.com", "leads"),
    (DAVE, "security"),
    (ERIN, "security"),
    ("system:serviceaccount:prod:robot", "security"),
];

fn policies() -> [AccessPolicy; 3] {
    [
        manual(),
        policy().approved_by(&[("team", 2, "leads"), ("security", 1, "security")]),
        policy().approved_by(&[("security", 2, "security")]),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (
            prop_oneof![12 => Just(Approve), 1 => Just(Deny), 1 => Just(Revoke)],
            0..PEOPLE.len(),
            prop::bool::weighted(0.1)
        )
            .prop_map(|(kind, who, stale)| Step::Decide(kind, who, stale)),
        6 => Just(Step::Reconcile),
        2 => (0..8_usize).prop_map(Step::Crash),
        1 => any::<bool>().prop_map(Step::ChangeRole),
        1 => (0..3_usize).prop_map(Step::Edit),
        1 => (0..900_i64).prop_map(Step::Later),
        1 => (0..8_usize).prop_map(Step::Forget),
    ];
    prop::collection::vec(step, 1..40)
}

/// S3: access implies all approvals that its policy requires now. They are by different people, none of them requester
/// or subject, and each is of exactly this access.
fn approved(situation: &Situation, status: &AccessGrantStatus) {
    let PolicyFacts::Ready(policy) = &situation.policy else {
        panic!("no policy")
    };
    let hash = &status.resolved.as_ref().unwrap().hash;
    let counted: Vec<_> = status
        .approvals
        .iter()
        .filter(|record| record.void.is_none())
        .collect();
    let people: BTreeSet<_> = counted.iter().map(|record| &record.username).collect();
    assert_eq!(
        people.len(),
        counted.len(),
        "one person counts twice: {counted:?}"
    );
    for record in &counted {
        assert_eq!(&record.access_hash, hash);
        assert_ne!(record.username, ALICE);
        assert!(!record.username.starts_with("system:"));
    }
    for stage in &policy.approval.demands().unwrap().stages {
        let of_stage = counted.iter().filter(|record| record.stage == stage.name);
        let listed = of_stage.filter(|record| stage.approvers.contains(&record.approver));
        assert!(
            listed.count() >= stage.required,
            "stage {}: {counted:?}",
            stage.name
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn access_is_granted_only_with_enough_different_approvers(steps in steps(), first in 0..3_usize) {
        let mut situation = Situation::of(grant("pay-123"), &policies()[first]);
        for step in steps {
            match step {
                Step::Decide(kind, who, stale) => {
                    let (username, group) = PEOPLE[who];
                    situation = situation.decided(kind, username, group);
                    if stale && let Some(decision) = situation.decisions.last_mut() {
                        decision.access_hash = Some("sha256:0".to_owned());
                    }
                }
                Step::Reconcile | Step::Crash(_) => {
                    let done = if let Step::Crash(done) = step { done } else { usize::MAX };
                    let plan = situation.plan();
                    for effect in plan.stages.iter().flatten().take(done) {
                        if let Effect::Intend(status) = effect {
                            approved(&situation, status);
                        }
                        situation.apply(effect).unwrap();
                    }
                    if matches!(step, Step::Reconcile) && situation.grant.at_present().ended_at.is_none() {
                        let again = situation.plan();
                        prop_assert!(again.stages.is_empty(), "not settled: {:?}", again.stages);
                    }
                }
                Step::ChangeRole(wider) => {
                    if wider {
                        situation = with_role_changed(situation);
                    } else {
                        situation.roles = crate::core::testing::roles();
                    }
                }
                Step::Edit(which) => {
                    let generation = match &situation.policy {
                        PolicyFacts::Ready(policy) => policy.generation + 1,
                        _ => 1,
                    };
                    let mut edited = policies()[which].clone();
                    edited.metadata.generation = Some(generation);
                    situation.policy = edited.ready();
                }
                Step::Later(time) => situation = situation.after(seconds(time)),
                Step::Forget(which) => {
                    if which < situation.decisions.len() {
                        situation.decisions.remove(which);
                    }
                }
            }
        }
        // L1: the grant ends if nobody does anything more.
        situation = situation.after(seconds(4 * 3600 + 1800)).pass().after(seconds(4 * 3600)).pass();
        prop_assert!(situation.grant.at_present().ended_at.is_some(), "{:?}", status::state(&situation.grant));
        prop_assert!(situation.found.is_empty());
    }
}
