//! What to do about one grant now.

use jiff::{SignedDuration, Timestamp};

use super::announce::Announcement;
use super::artifact::{GrantIdentity, intended};
use super::effect::{Effect, Plan, Target, removal};
use super::facts::{Found, Input, PolicyFacts};
use super::judge::{Answer, Judgement, Waiting, judge, was_denied, was_held_in_a_breach};
use super::live::{Live, ending, next_look};
use super::retention::deletable_at;
use super::self_test::Standing;
use super::status::{self, Waits};
use super::verdict::{judged_of_live, too_late};
use super::{Authority, Decision, Ending, Judged, Refusals, Request};
use crate::api::{AccessGrant, AccessGrantStatus, ArtifactKind, REVOKE_FINALIZER, reasons};
use making::{keep_fused, make};

mod making;

/// Decides. Total: every input has a plan. Applying the plan and planning again gives a plan without effects.
pub fn plan(input: &Input<'_>, now: Timestamp) -> Plan {
    let plan = planned(input, now);
    let unclear = |decision: &&Decision| decision.is_open() && decision.authority == Authority::Unclear;
    match input.decisions.iter().find(unclear) {
        None => plan,
        Some(_) => plan.waking(later(now, ASK_AGAIN)),
    }
}

/// How soon to ask again whether somebody holds the verb `revoke`, when nobody could tell.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// How soon to look whether a record may go, when the clocks differed too much.
const CLOCKS_AGAIN: SignedDuration = SignedDuration::from_mins(10);

fn later(now: Timestamp, pause: SignedDuration) -> Timestamp {
    now.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

fn planned(input: &Input<'_>, now: Timestamp) -> Plan {
    let status = input.grant.status.clone().unwrap_or_default();
    if let Some(ended_at) = status.ended_at.as_ref() {
        return after_the_end(input, &status, ended_at.0, now);
    }
    match Live::of(&status) {
        Some(live) => match ending(input, &live, now) {
            Some(ending) => revoke(input, &live, ending),
            None => carry_on(input, &live, now),
        },
        None => decide(input, now),
    }
}

/// Decides what anybody may do about one grant, be it a leader or not: end what is past its end, and nothing else.
/// When it ends goes by the record alone, so whoever comes to it decides the same.
pub fn plan_end(input: &Input<'_>, now: Timestamp) -> Plan {
    let status = input.grant.status.clone().unwrap_or_default();
    match Live::of(&status) {
        None => Plan::default(),
        Some(live) if now < live.expires_at => Plan::wait_until(live.expires_at),
        Some(live) => {
            let ending = Ending::at_its_time(&live);
            revoke(input, &live, ending)
        }
    }
}

/// A grant that nobody has decided yet.
fn decide(input: &Input<'_>, now: Timestamp) -> Plan {
    if input.grant.metadata.deletion_timestamp.is_some() {
        return remove_everything(input);
    }
    let Judgement { answer, judged } = judge(input, now);
    let plan = match answer {
        Answer::Hold {
            reason,
            message,
            until,
        } => hold(input, reason, &message, now).waking(until),
        Answer::HoldForGuards(reason, why) => hold_for_guards(input, reason, why, now),
        Answer::HoldForClocks(why) => hold(input, reasons::CLOCK_SKEWED, why, now),
        Answer::Stay { until } => until.map_or_else(Plan::default, Plan::wait_until),
        Answer::Deny(refusals) => return deny(input, &refusals, judged, now),
        Answer::Withdraw(ending) => return withdraw(input, ending, judged),
        Answer::Await(waiting) => wait_for_people(input, *waiting, now),
        Answer::Schedule(waiting) => wait_for_its_time(input, *waiting, now),
        Answer::Grant(waiting) => grant_access(input, *waiting, now),
    };
    // Left by a pass that died between a fuse and the record of it; a fuse alone gives nobody anything.
    plan.then_each(removals(input, |_| true))
        .then_each(tell_verdicts(judged))
}

/// Tells what was made of decisions, and then records it on them.
fn tell_verdicts(judged: Vec<Judged>) -> [Vec<Effect>; 2] {
    let news: Vec<Judged> = judged
        .into_iter()
        .filter(|judged| judged.decision.recorded != Some(judged.verdict.standing))
        .collect();
    let tell = |judged: &Judged| Effect::Announce(Announcement::Judged(Box::new(judged.clone())));
    [
        news.iter().map(tell).collect(),
        news.into_iter()
            .map(|judged| Effect::RecordVerdict(Box::new(judged)))
            .collect(),
    ]
}

/// Admitted, and people have to approve it.
fn wait_for_people(input: &Input<'_>, waiting: Waiting, now: Timestamp) -> Plan {
    let Waiting {
        resolved,
        approvals,
        message,
        until,
        ..
    } = waiting;
    let counted = approvals.iter().filter(|record| record.void.is_none()).count();
    let announcement = Announcement::Awaiting {
        step: format!("{counted}-{}", approvals.len() - counted),
        message: message.clone(),
    };
    let waits = Waits::ForPeople(&message);
    let status = status::waiting(input.grant, &resolved, approvals, &waits, now);
    record_waiting(input, status, announcement).waking(until)
}

/// Admitted and approved, as far as people are asked; its time has to come.
fn wait_for_its_time(input: &Input<'_>, waiting: Waiting, now: Timestamp) -> Plan {
    let Waiting {
        resolved,
        approvals,
        asked,
        message,
        until,
    } = waiting;
    let announcement = Announcement::Scheduled {
        step: approvals.len().to_string(),
        message: message.clone(),
    };
    let waits = Waits::ForItsTime {
        message: &message,
        asked,
    };
    let status = status::waiting(input.grant, &resolved, approvals, &waits, now);
    record_waiting(input, status, announcement).waking(until)
}

/// Told and recorded, unless that was done before.
fn record_waiting(input: &Input<'_>, status: AccessGrantStatus, announcement: Announcement) -> Plan {
    let present = input.grant.status.as_ref();
    if present.is_some_and(|present| status::says_the_same(present, &status)) {
        return Plan::default();
    }
    Plan::default()
        .then([Effect::Announce(announcement)])
        .then([Effect::Record(Box::new(status))])
}

/// Somebody took it back before there was access. What the decision stands against is recorded before the grant is
/// over: whoever would make the grant again may be quick.
fn withdraw(input: &Input<'_>, ending: Ending, judged: Vec<Judged>) -> Plan {
    Plan::default()
        .then_each(removals(input, |_| true))
        .then_each(tell_verdicts(judged))
        .then([Effect::Announce(Announcement::Ended(ending.clone()))])
        .then([Effect::RecordEnded(ending)])
}

fn hold(input: &Input<'_>, reason: &'static str, message: &str, now: Timestamp) -> Plan {
    let status = status::held(input.grant, reason, message, now);
    let known = input
        .grant
        .status
        .as_ref()
        .is_some_and(|present| status::says_the_same(present, &status));
    let record = (!known).then(|| Effect::Record(Box::new(status)));
    Plan::default().then(record)
}

/// For as long as it takes; whoever tries the guards looks at the grant again when they stand.
fn hold_for_guards(input: &Input<'_>, reason: &'static str, why: &str, now: Timestamp) -> Plan {
    let message = format!("nothing is given until the admission guards stand: {why}");
    let tells = reason == reasons::GUARDS_NOT_IN_FORCE && !was_held_in_a_breach(input.grant.status.as_ref());
    let record = hold(input, reason, &message, now);
    let announcement = tells.then_some(Effect::Announce(Announcement::Held { message }));
    record
        .stages
        .into_iter()
        .fold(Plan::default().then(announcement), Plan::then)
}

fn deny(input: &Input<'_>, refusals: &Refusals, judged: Vec<Judged>, now: Timestamp) -> Plan {
    let subject = Request::parse(input.grant).ok().map(|request| request.subject);
    Plan::default()
        .then_each(tell_verdicts(judged))
        .then([Effect::Announce(Announcement::Denied {
            reason: refusals.reason(),
            message: refusals.to_string(),
        })])
        .then([Effect::Record(Box::new(status::denied(
            input.grant,
            subject,
            refusals,
            now,
        )))])
        .then_each(removals(input, |_| true))
}

fn grant_access(input: &Input<'_>, waiting: Waiting, now: Timestamp) -> Plan {
    let Waiting {
        resolved, approvals, ..
    } = waiting;
    let expires_at = status::micro_time(resolved.expires_at(now, input.settings));
    let identity = GrantIdentity::from(input.grant);
    let records = intended(&identity, &resolved, input.entropy);
    let intent = status::activating(input.grant, &resolved, approvals, expires_at.0, records, now);
    let live = Live {
        status: &intent,
        expires_at: expires_at.0,
        active: false,
    };
    let making = make(input, &live, &[], now);
    let write_ahead = Effect::Intend(Box::new(intent.clone()));
    let fuses_come_first = live
        .status
        .artifacts
        .iter()
        .any(|record| record.kind == ArtifactKind::Job);
    if !fuses_come_first || !input.found.is_empty() {
        // An attempt failed before: another fuse each time would pile them up.
        return Plan::default()
            .then([write_ahead])
            .then_each(making.stages)
            .waking_if(making.wake)
            .waking(expires_at.0);
    }
    // The write-ahead goes beside the fuse: a fuse alone gives nobody anything, and side by side they take two
    // thirds of the time (12.6 ms instead of 18.7 to the binding).
    let mut stages = making.stages.into_iter();
    let fuses = stages.next().unwrap_or_default();
    let first = std::iter::once(write_ahead).chain(fuses);
    Plan::default()
        .then(first)
        .then_each(stages)
        .waking_if(making.wake)
        .waking(expires_at.0)
}

/// A live grant that nothing speaks against.
fn carry_on(input: &Input<'_>, live: &Live<'_>, now: Timestamp) -> Plan {
    let judged = matches!(
        input.policy,
        PolicyFacts::Ready(_) | PolicyFacts::Unready { policy: Some(_), .. }
    );
    let may_give = *input.guards == Standing::InForce && input.skewed.is_none();
    let plan = if live.active {
        keep_fused(input, live, now)
    } else if judged && may_give {
        make(input, live, input.found, now)
    } else {
        Plan::default()
    };
    plan.then_each(removals(input, |found| !live.records(found)))
        .then_each(tell_verdicts(judged_of_live(input)))
        .waking(next_look(input, live, now))
}

/// Whether our finalizer is on the grant.
fn is_held(grant: &AccessGrant) -> bool {
    grant
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == REVOKE_FINALIZER)
}

/// Takes our finalizer off the grant, if it is there.
fn release(input: &Input<'_>) -> Option<Effect> {
    is_held(input.grant).then_some(Effect::RemoveFinalizer)
}

/// That of these is absent whatever gives access, or keeps its holder from making what outlasts it.
fn proof(targets: impl Iterator<Item = Target>) -> Option<Effect> {
    let targets: Vec<_> = targets
        .filter(|target| target.kind != ArtifactKind::Job)
        .collect();
    (!targets.is_empty()).then_some(Effect::ProveAbsent(targets))
}

/// Ends access: bindings first, then what held them, then the proof, what was made of decisions, the telling, the record
/// and the finalizer. What a Revoke stands against is recorded before the grant is over: whoever would make the grant
/// again may be quick.
fn revoke(input: &Input<'_>, live: &Live<'_>, ending: Ending) -> Plan {
    let targets = live.targets(input.found);
    let proof = proof(targets.iter().cloned());
    let mut judged = judged_of_live(input);
    judged.extend(too_late(input, &judged));
    Plan::default()
        .then_each(removal(targets))
        .then(proof)
        .then_each(tell_verdicts(judged))
        .then([Effect::Announce(Announcement::Ended(ending.clone()))])
        .then([Effect::RecordEnded(ending)])
        .then(release(input))
}

/// An ended grant: nothing of it may stand, and its record goes when it has been kept long enough.
fn after_the_end(input: &Input<'_>, status: &AccessGrantStatus, ended_at: Timestamp, now: Timestamp) -> Plan {
    let denied = was_denied(status);
    let leftovers = remove_everything(input).then_each(tell_verdicts(too_late(input, &[])));
    if input.grant.metadata.deletion_timestamp.is_some() {
        return leftovers;
    }
    match deletable_at(&input.grant.metadata, ended_at, denied, input.policy) {
        // A record that goes by a wrong clock does not come back.
        Some(at) if at <= now && input.skewed.is_some() => leftovers.waking(later(now, CLOCKS_AGAIN)),
        // A leftover that somebody holds back must not outlive its record.
        Some(at) if at <= now && input.found.is_empty() => leftovers.then([Effect::DeleteGrant]),
        Some(at) if at > now => leftovers.waking(at),
        _ => leftovers,
    }
}

/// Removes whatever was found, and lets the grant go when that is proven absent.
fn remove_everything(input: &Input<'_>) -> Plan {
    let plan = Plan::default().then_each(removals(input, |_| true));
    match release(input) {
        None => plan,
        let_go => plan
            .then(proof(input.found.iter().map(Target::from)))
            .then(let_go),
    }
}

/// Removes what was found and stands for nothing, bindings first.
fn removals(input: &Input<'_>, unwanted: impl Fn(&Found) -> bool) -> [Vec<Effect>; 2] {
    let unwanted = input.found.iter().filter(|found| unwanted(found));
    removal(unwanted.map(Target::from))
}

#[cfg(test)]
mod approvals;
#[cfg(test)]
mod decided;
#[cfg(test)]
mod fused;
#[cfg(test)]
mod guarded;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod skewed;
#[cfg(test)]
mod tests;
