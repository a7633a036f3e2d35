//! The plan for one grant: what to do now, as data.

pub mod answer;
pub mod decide;
pub mod effect;
pub mod end;
pub mod gates;
pub mod intent;
pub mod limits;
mod make;
pub mod orphan;
mod verdicts;

use jiff::{SignedDuration, Timestamp};

use crate::api::{AccessGrantStatus, ArtifactKind, reasons};
use crate::core::artifact::GrantIdentity;
use crate::core::decision::verdict::DecisionVerdict;
use crate::core::decision::{Authority, Decision};
use crate::core::facts::{Input, PolicyFacts};
use crate::core::grant::live::{Live, next_look};
use crate::core::grant::revocation::DueRevocation;
use crate::core::grant::revocation_cause::ending;
use crate::core::grant::status;
use crate::core::grant::status::Waits;
use crate::core::grant::transition::Transition;
use crate::core::guard::state::GuardState;
use crate::core::plan::answer::{Accepted, Counted, Decided, Evaluation, Waiting};
use crate::core::plan::decide::decide;
use crate::core::plan::effect::{Effect, Plan};
use crate::core::plan::end::{after_the_end, removals, remove_everything, revoke, withdraw};
use crate::core::plan::gates::was_held_in_a_breach;
use crate::core::plan::intent::intended;
use crate::core::plan::make::{keep_fused, make};
use crate::core::plan::verdicts::{Phase, verdicts};
use crate::core::request::Request;
use crate::core::request::refusal::Refusals;
use crate::core::time::timestamp;
use crate::core::time::timestamp::later;

/// The plan for a grant at the instant `now`.
///
/// # Guarantees
/// - Every input has a plan; nothing fails.
/// - After the plan is applied, the plan of the new state has no effects.
/// - A crash after any effect is safe: the next plan does the rest.
/// - What will be made, and when it expires, is recorded before anything gives access. Access is proven absent before
///   its end is recorded.
///
/// # Caveats
/// A plan may wait for fuses and record nothing after that (`Plan::is_to_be_continued`): then the caller plans again.
pub fn plan(input: &Input<'_>, now: Timestamp) -> Plan {
    let (phase, counted) = phase(input, now);
    let plan = plan_of(input, phase, counted, now);
    let unclear = |decision: &Decision| decision.is_open() && decision.authority == Authority::Unclear;
    let ask_again = input.decisions.iter().any(unclear).then(|| later(now, ASK_AGAIN));
    Plan {
        wake: earliest(plan.wake, ask_again),
        ..plan
    }
}

/// How long to wait before the API server is asked again who holds the verb `revoke`, if it did not answer.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// How long to wait before the retention of a record is looked at again, while the clocks differ too much.
const CLOCKS_AGAIN: SignedDuration = SignedDuration::from_mins(10);

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}

/// State of the grant, and the verdicts that its evaluation gave, if it was evaluated.
fn phase<'a>(input: &Input<'a>, now: Timestamp) -> (Phase<'a>, Counted) {
    let status = input.grant.status.as_ref();
    let phase = if let Some(ended_at) = status.and_then(|status| status.ended_at.as_ref()) {
        Phase::Over(ended_at.0)
    } else if let Some(live) = status.and_then(Live::of) {
        match ending(input, &live, now) {
            Some(ending) => Phase::Ending(live, ending),
            None => Phase::Live(live),
        }
    } else if input.grant.metadata.deletion_timestamp.is_some() {
        Phase::Deleted
    } else {
        let Decided { answer, counted } = decide(input, now);
        return (Phase::Undecided(answer), counted);
    };
    (phase, Counted::default())
}

fn plan_of(input: &Input<'_>, phase: Phase<'_>, counted: Counted, now: Timestamp) -> Plan {
    let verdicts = verdict_stages(verdicts(input, &phase, counted));
    match phase {
        Phase::Deleted => Plan::new(remove_everything(input), None),
        Phase::Undecided(answer) => plan_undecided(input, answer, verdicts, now),
        Phase::Live(live) => continue_access(input, &live, verdicts, now),
        Phase::Ending(live, ending) => revoke(input, &live, ending, verdicts),
        Phase::Over(ended_at) => after_the_end(input, ended_at, verdicts, now),
    }
}

/// The plan of any replica, leader or not: it ends access that has expired, and does nothing else. It goes by the
/// recorded expiry time alone, so every replica plans the same.
pub fn plan_end(input: &Input<'_>, now: Timestamp) -> Plan {
    match input.grant.status.as_ref().and_then(Live::of) {
        None => Plan::default(),
        Some(live) if now < live.expires_at => Plan::wait_until(live.expires_at),
        Some(live) => {
            let phase = Phase::Ending(live, DueRevocation::at_its_time(&live));
            plan_of(input, phase, Counted::default(), now)
        }
    }
}

/// Announces new verdicts in a first stage, and records them on the decisions in a second.
fn verdict_stages(verdicts: Vec<DecisionVerdict>) -> [Vec<Effect>; 2] {
    let news: Vec<DecisionVerdict> = verdicts
        .into_iter()
        .filter(|judged| judged.decision.recorded != Some(judged.verdict.standing))
        .collect();
    let announcement =
        |judged: &DecisionVerdict| Effect::Announce(Transition::Judged(Box::new(judged.clone())));
    [
        news.iter().map(announcement).collect(),
        news.into_iter()
            .map(|judged| Effect::RecordVerdict(Box::new(judged)))
            .collect(),
    ]
}

/// Plan for a grant that is neither live nor over.
fn plan_undecided(
    input: &Input<'_>,
    answer: Evaluation<'_>,
    verdicts: [Vec<Effect>; 2],
    now: Timestamp,
) -> Plan {
    let Plan { stages, wake } = match answer {
        Evaluation::Deny(refusals) => return deny(input, &refusals, verdicts, now),
        Evaluation::Withdraw(ending) => return withdraw(input, ending, verdicts),
        Evaluation::Hold {
            reason,
            message,
            until,
        } => Plan::new([hold(input, reason, &message, now)], Some(until)),
        Evaluation::HoldInBreach(why) => hold_for_guards(input, reasons::GUARDS_NOT_IN_FORCE, why, now),
        Evaluation::HoldForGuards(reason, why) => hold_for_guards(input, reason, why, now),
        Evaluation::HoldForClocks(why) => Plan::new([hold(input, reasons::CLOCK_SKEWED, why, now)], None),
        Evaluation::Stay { until } => Plan::new([], until),
        Evaluation::Await(waiting) => wait_for_people(input, *waiting, now),
        Evaluation::Schedule(waiting) => wait_for_its_time(input, *waiting, now),
        Evaluation::Grant(accepted) => grant_access(input, *accepted, now),
    };
    // An operator may have died after it made a fuse and before it recorded that. A fuse alone gives no access.
    let leftovers = removals(input, |_| true);
    Plan::new(stages.into_iter().chain(leftovers).chain(verdicts), wake)
}

/// Accepted, and waiting for approvals.
fn wait_for_people(input: &Input<'_>, waiting: Waiting, now: Timestamp) -> Plan {
    let Accepted { resolved, approvals } = waiting.accepted;
    let counted = approvals.iter().filter(|record| record.void.is_none()).count();
    let announcement = Transition::Awaiting {
        step: format!("{counted}-{}", approvals.len() - counted),
        message: waiting.message.clone(),
    };
    let waits = Waits::ForPeople(&waiting.message);
    let status = status::waiting(input.grant, &resolved, approvals, &waits, now);
    Plan::new(record_waiting(input, status, announcement), Some(waiting.until))
}

/// Accepted, approved where approvals are required, and waiting for its start.
fn wait_for_its_time(input: &Input<'_>, waiting: Waiting, now: Timestamp) -> Plan {
    let Accepted { resolved, approvals } = waiting.accepted;
    let announcement = Transition::Scheduled {
        step: approvals.len().to_string(),
        message: waiting.message.clone(),
    };
    let waits = Waits::ForItsTime {
        message: &waiting.message,
        asked: waiting.asked,
    };
    let status = status::waiting(input.grant, &resolved, approvals, &waits, now);
    Plan::new(record_waiting(input, status, announcement), Some(waiting.until))
}

/// Announces and records that a request waits, unless its status says so already.
fn record_waiting(
    input: &Input<'_>,
    status: AccessGrantStatus,
    announcement: Transition,
) -> [Vec<Effect>; 2] {
    if is_recorded(input, &status) {
        return [Vec::new(), Vec::new()];
    }
    [
        vec![Effect::Announce(announcement)],
        vec![Effect::Record(Box::new(status))],
    ]
}

fn is_recorded(input: &Input<'_>, status: &AccessGrantStatus) -> bool {
    let present = input.grant.status.as_ref();
    present.is_some_and(|present| status::says_the_same(present, status))
}

/// Records that the request is held, unless its status says so already.
fn hold(input: &Input<'_>, reason: &'static str, message: &str, now: Timestamp) -> Vec<Effect> {
    let status = status::held(input.grant, reason, message, now);
    if is_recorded(input, &status) {
        Vec::new()
    } else {
        vec![Effect::Record(Box::new(status))]
    }
}

/// Holds a request until the guards are in force. The self-test of the guards has all held grants planned again then.
fn hold_for_guards(input: &Input<'_>, reason: &'static str, why: &str, now: Timestamp) -> Plan {
    let message = format!("no access is granted until the admission guards are in force: {why}");
    let announces =
        reason == reasons::GUARDS_NOT_IN_FORCE && !was_held_in_a_breach(input.grant.status.as_ref());
    let record = hold(input, reason, &message, now);
    let announcement = announces.then_some(Effect::Announce(Transition::Held { message }));
    Plan::new([Vec::from_iter(announcement), record], None)
}

/// Denies the request, for good.
fn deny(input: &Input<'_>, refusals: &Refusals, verdicts: [Vec<Effect>; 2], now: Timestamp) -> Plan {
    let subject = Request::parse(input.grant).ok().map(|request| request.subject);
    let status = status::denied(input.grant, subject, refusals, now);
    let denial = [
        vec![Effect::Announce(Transition::Denied {
            reason: refusals.reason(),
            message: refusals.to_string(),
        })],
        vec![Effect::Record(Box::new(status))],
    ];
    let leftovers = removals(input, |_| true);
    Plan::new(verdicts.into_iter().chain(denial).chain(leftovers), None)
}

/// Grants the access: the write-ahead, then everything that it names.
fn grant_access(input: &Input<'_>, accepted: Accepted, now: Timestamp) -> Plan {
    let Accepted { resolved, approvals } = accepted;
    let expires_at = timestamp::micro_time(resolved.expires_at(now, input.settings));
    let identity = GrantIdentity::from(input.grant);
    let records = intended(&identity, &resolved, input.entropy);
    let has_fuses = records.iter().any(|record| record.kind == ArtifactKind::Job);
    let intent = status::activating(input.grant, &resolved, approvals, expires_at.0, records, now);
    let live = Live {
        status: &intent,
        expires_at: expires_at.0,
        active: false,
    };
    let making = make(input, &live, &[], now);
    let wake = earliest(making.wake, Some(expires_at.0));
    let mut stages = making.stages.into_iter();
    let mut first = vec![Effect::Intend(Box::new(intent.clone()))];
    // The write-ahead is written beside the fuses. A fuse alone gives no access, and side by side they take two thirds
    // of the time (12.6 ms instead of 18.7 until the binding). Not after an attempt that failed: each attempt would
    // leave another fuse.
    if has_fuses && input.found.is_empty() {
        first.extend(stages.next().unwrap_or_default());
    }
    Plan::new(std::iter::once(first).chain(stages), wake)
}

/// Live, and nothing ends it.
fn continue_access(input: &Input<'_>, live: &Live<'_>, verdicts: [Vec<Effect>; 2], now: Timestamp) -> Plan {
    let policy_is_known = matches!(
        input.policy,
        PolicyFacts::Ready(_) | PolicyFacts::Unready { policy: Some(_), .. }
    );
    let may_make = *input.guards == GuardState::InForce && input.skewed.is_none();
    let making = if live.active {
        keep_fused(input, live, now)
    } else if policy_is_known && may_make {
        make(input, live, input.found, now)
    } else {
        Plan::default()
    };
    let strays = removals(input, |found| !live.records(found));
    let wake = earliest(making.wake, Some(next_look(input, live, now)));
    Plan::new(making.stages.into_iter().chain(strays).chain(verdicts), wake)
}

#[cfg(test)]
mod tests;
