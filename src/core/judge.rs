//! What to answer to a grant that nobody has decided yet.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::admit::{admit, readmit};
use super::approval::{Demands, Missing, describe_approvals, describe_void};
use super::condition::{demanded, unmet};
use super::decision::Judged;
use super::facts::{Input, NamespaceFacts, PolicyFacts};
use super::live::{POLICY_GONE_GRACE, POLICY_GRACE};
use super::self_test::Standing;
use super::tally::{Ballot, tally};
use super::verdict::{denied, known_demands, too_late, unattested_decisions, without_effect};
use super::{Decision, Ending, Policy, Refusal, Refusals, Request, Resolved, resolve};
use crate::api::{AccessGrantStatus, ApprovalRecord, RevocationCause, conditions, reasons};

/// The answer.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    /// Something has to come that is nobody's mistake.
    Hold {
        reason: &'static str,
        message: String,
        until: Timestamp,
    },
    /// The admission guards have to stand.
    HoldForGuards(&'static str, &'a str),
    /// The clocks have to agree.
    HoldForClocks(&'a str),
    /// It was admitted before, and for the moment nobody knows whether it would be now: nothing is said anew.
    Stay {
        /// When to look again though nothing has changed.
        until: Option<Timestamp>,
    },
    /// No, for good.
    Deny(Refusals),
    /// Somebody who may took it back.
    Withdraw(Ending),
    /// People are asked.
    Await(Box<Waiting>),
    /// Its time has to come.
    Schedule(Box<Waiting>),
    /// Yes, now.
    Grant(Box<Waiting>),
}

/// A request that its policy admits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// What it would give.
    pub resolved: Resolved,
    /// Who approved that so far.
    pub approvals: Vec<ApprovalRecord>,
    /// Whether people are asked at all.
    pub asked: bool,
    /// What it waits for, for people.
    pub message: String,
    /// When to look again.
    pub until: Timestamp,
}

/// The answer, and what was made of each decision that was open.
pub(super) struct Judgement<'a> {
    pub answer: Answer<'a>,
    pub judged: Vec<Judged>,
}

/// Whether its policy admitted the request before: what access it would give is recorded.
pub(super) fn is_accepted(status: Option<&AccessGrantStatus>) -> bool {
    status.is_some_and(|status| status.resolved.is_some())
}

/// Whether the grant was seen while the guards were in breach. It may have been made then, by anybody, in any name: what
/// is recorded outlasts this process and the breach.
pub(super) fn was_held_in_a_breach(status: Option<&AccessGrantStatus>) -> bool {
    status
        .iter()
        .flat_map(|status| &status.conditions)
        .any(|condition| condition.reason == reasons::GUARDS_NOT_IN_FORCE)
}

/// Answers a grant that is neither live nor over.
pub(super) fn judge<'a>(input: &Input<'a>, now: Timestamp) -> Judgement<'a> {
    if let Some(withdrawn) = withdrawn(input, now) {
        return withdrawn;
    }
    if let Some(held) = held_for_guards(input).or_else(|| held_for_clocks(input)) {
        return held;
    }
    let policy = match usable_policy(input, now) {
        Ok(policy) => policy,
        Err(answer) => return concluded(input, answer),
    };
    match Request::parse(input.grant) {
        Ok(request) => weigh(input, &request, policy, now),
        Err(refusals) => concluded(input, Answer::Deny(refusals)),
    }
}

/// An answer that no decision had a part in; if it is final, those that are open come too late.
fn concluded<'a>(input: &Input<'a>, answer: Answer<'a>) -> Judgement<'a> {
    let judged = match answer {
        Answer::Deny(_) | Answer::Withdraw(_) => too_late(input, &[]),
        _ => Vec::new(),
    };
    Judgement { answer, judged }
}

/// A Revoke takes a request back, whatever it waits for.
fn withdrawn<'a>(input: &Input<'a>, now: Timestamp) -> Option<Judgement<'a>> {
    let request = Request::parse(input.grant).ok()?;
    let demands = known_demands(input);
    let decision = input
        .decisions
        .iter()
        .find(|decision| decision.revokes(&request, demands))?;
    let mut judged = vec![Judged {
        decision: decision.clone(),
        verdict: decision.counts_against(input.grant, &request, "ends the access before it begins"),
    }];
    judged.extend(too_late(input, &judged));
    Some(Judgement {
        answer: Answer::Withdraw(Ending::decided(decision, now, false)),
        judged,
    })
}

/// While nobody vouches for who asks, there is nothing to judge: a refusal would stand in the name of somebody who may
/// never have asked. What was admitted before was vouched for; what is decided about it meanwhile is not.
fn held_for_guards<'a>(input: &Input<'a>) -> Option<Judgement<'a>> {
    let status = input.grant.status.as_ref();
    let accepted = is_accepted(status);
    let unattested = was_held_in_a_breach(status) && !accepted;
    let judgement = |answer| Some(concluded(input, answer));
    match input.guards {
        Standing::Breached(why) => Some(Judgement {
            answer: Answer::HoldForGuards(reasons::GUARDS_NOT_IN_FORCE, why),
            judged: unattested_decisions(input.decisions),
        }),
        // What was seen in a breach stays marked by it.
        Standing::Unproven(why) if unattested => {
            judgement(Answer::HoldForGuards(reasons::GUARDS_NOT_IN_FORCE, why))
        }
        Standing::Unproven(_) if accepted => judgement(Answer::Stay { until: None }),
        Standing::Unproven(why) => judgement(Answer::HoldForGuards(reasons::GUARDS_UNPROVEN, why)),
        Standing::InForce if unattested => judgement(Answer::Deny(
            Refusal::new(
                reasons::NOT_ATTESTED,
                "spec.requester",
                "the admission guards were not in force when this was asked, so nobody can vouch for who asked; ask \
                 again",
            )
            .into(),
        )),
        Standing::InForce => None,
    }
}

/// While nobody knows what time it is, nobody knows whether it is too late for something, or when access would end.
fn held_for_clocks<'a>(input: &Input<'a>) -> Option<Judgement<'a>> {
    let why = input.skewed?;
    let answer = if is_accepted(input.grant.status.as_ref()) {
        Answer::Stay { until: None }
    } else {
        Answer::HoldForClocks(why)
    };
    Some(concluded(input, answer))
}

fn usable_policy<'a>(input: &Input<'a>, now: Timestamp) -> Result<&'a Policy, Answer<'a>> {
    let name = &input.grant.spec.policy_ref.name;
    let (reason, since, why) = match input.policy {
        PolicyFacts::Ready(policy) => return Ok(policy),
        PolicyFacts::Absent { since, why, .. } => (reasons::POLICY_NOT_FOUND, *since, why.clone()),
        PolicyFacts::Unready { since, why, .. } => (
            reasons::POLICY_NOT_READY,
            *since,
            format!("cannot be used: {why}"),
        ),
    };
    let since = since.max(created(input));
    let after = |grace| since.saturating_add(grace).unwrap_or(Timestamp::MAX);
    // What people have looked at already waits as long as live access would. A policy that was edited, or an operator
    // that has just begun, is judged in a moment: a thousand requests that wait need not say so.
    let until = if is_accepted(input.grant.status.as_ref()) {
        let soon = after(POLICY_GRACE);
        if now < soon {
            return Err(Answer::Stay { until: Some(soon) });
        }
        after(POLICY_GONE_GRACE)
    } else {
        after(POLICY_GRACE)
    };
    let refusal = Refusal::new(reason, "spec.policyRef.name", format!("policy {name} {why}"));
    Err(if now < until {
        Answer::Hold {
            reason,
            message: format!("{refusal}; waiting for it until {until}"),
            until,
        }
    } else {
        Answer::Deny(refusal.into())
    })
}

fn created(input: &Input<'_>) -> Timestamp {
    let created: Option<&Time> = input.grant.metadata.creation_timestamp.as_ref();
    created.map_or(Timestamp::MIN, |time| time.0)
}

/// Answers a request by a policy that can be used.
fn weigh<'a>(input: &Input<'a>, request: &Request, policy: &Policy, now: Timestamp) -> Judgement<'a> {
    let mut judged = Vec::new();
    let answer = answer(input, request, policy, now, &mut judged).unwrap_or_else(Answer::Deny);
    if matches!(answer, Answer::Deny(_)) {
        judged.extend(too_late(input, &judged));
    }
    Judgement { answer, judged }
}

fn answer<'a>(
    input: &Input<'a>,
    request: &Request,
    policy: &Policy,
    now: Timestamp,
    judged: &mut Vec<Judged>,
) -> Result<Answer<'a>, Refusals> {
    let question = input.question(request, policy, now);
    let status = input.grant.status.as_ref();
    let first = !is_accepted(status);
    revoked_before(input, request, now)?;
    let admission = if first {
        admit(&question)?
    } else {
        readmit(&question)?
    };
    let nothing = NamespaceFacts::default();
    let namespace = input.namespace.unwrap_or(&nothing);
    let resolved = resolve(admission, policy, namespace, input.roles, input.identities)?;
    denied(input.decisions, request, policy.approval.demands(), judged)?;

    let demands = demanded(&question);
    let recorded = status.map_or(&[][..], |status| &status.approvals);
    let (approvals, missing) = match demands {
        // What an expression asks for at one instant it may ask for again at another.
        None => (recorded.to_vec(), None),
        Some(demands) => {
            let ballot = Ballot {
                demands,
                request,
                hash: &resolved.access.hash,
                until: awaited_until(input, request, demands, &resolved),
            };
            let tally = tally(&ballot, recorded, input.decisions);
            judged.extend(tally.verdicts.into_iter().filter_map(|(uid, verdict)| {
                let decision = input.decisions.iter().find(|decision| decision.uid == uid)?;
                Some(Judged {
                    decision: decision.clone(),
                    verdict,
                })
            }));
            (tally.approvals, tally.missing)
        }
    };
    judged.extend(without_effect(input.decisions, judged));
    let waiting = |message: String, until: Timestamp| {
        Box::new(Waiting {
            asked: demands.is_some(),
            resolved: resolved.clone(),
            approvals: approvals.clone(),
            message,
            until,
        })
    };
    let starts_later = question.start > now;
    if let (Some(missing), Some(demands)) = (missing, demands) {
        let until = awaited_until(input, request, demands, &resolved);
        let message = missing.message(until, &approvals);
        if now >= until {
            return Err(timed_out(&missing, until, &approvals).into());
        }
        few_are_pending(input, policy, request, first)?;
        if first && !starts_later {
            within_limits(policy, &resolved, input.rivals)?;
        }
        return Ok(Answer::Await(waiting(message, until)));
    }
    if starts_later {
        few_are_pending(input, policy, request, first)?;
        let message = format!("starts at {}", question.start);
        return Ok(Answer::Schedule(waiting(message, question.start)));
    }
    if !first {
        Refusals::from_list(unmet(&question))?;
    }
    within_limits(policy, &resolved, input.rivals)?;
    Ok(Answer::Grant(waiting(String::new(), now)))
}

fn revoked_before(input: &Input<'_>, request: &Request, now: Timestamp) -> Result<(), Refusal> {
    let concerns = |objection: &&super::Objection| objection.concerns(input.grant, request, now);
    let Some(objection) = input.objections.iter().find(concerns) else {
        return Ok(());
    };
    Err(Refusal::new(
        reasons::REVOKED_BEFORE,
        "metadata.name",
        format!(
            "{} revoked this very request ({}), which stands until {}; ask for something else or under another name, \
             or have that decision deleted",
            objection.decider, objection.decision, objection.against.until.0
        ),
    ))
}

/// Until when people are asked: the policy's timeout, and no longer than the access could be.
fn awaited_until(input: &Input<'_>, request: &Request, demands: &Demands, resolved: &Resolved) -> Timestamp {
    [
        Some(demands.timeout.after(created(input))),
        request.not_after,
        resolved.window_end,
    ]
    .into_iter()
    .flatten()
    .min()
    .unwrap_or(Timestamp::MIN)
}

impl Missing {
    fn message(&self, until: Timestamp, approvals: &[ApprovalRecord]) -> String {
        let Self {
            stage,
            counted,
            required,
        } = self;
        let asked = format!("{counted} of {required} from {stage}, until {until}");
        let told = [describe_approvals(approvals), describe_void(approvals)];
        [Some(asked)]
            .into_iter()
            .chain(told)
            .flatten()
            .collect::<Vec<_>>()
            .join("; ")
    }
}

fn timed_out(missing: &Missing, until: Timestamp, approvals: &[ApprovalRecord]) -> Refusal {
    let void = describe_void(approvals);
    let reason = if void.is_some() {
        reasons::APPROVAL_VOID
    } else {
        reasons::APPROVAL_TIMED_OUT
    };
    Refusal::new(
        reason,
        "",
        format!(
            "not approved in time, {}{}; ask again",
            missing.message(until, &[]),
            void.map_or_else(String::new, |void| format!("; {void}")),
        ),
    )
}

fn few_are_pending(
    input: &Input<'_>,
    policy: &Policy,
    request: &Request,
    first: bool,
) -> Result<(), Refusal> {
    let pending = input.pending;
    if !first || pending.len() < usize::from(policy.pending_per_requester) {
        return Ok(());
    }
    Err(Refusal::new(
        reasons::TOO_MANY_PENDING,
        "spec.policyRef.name",
        format!(
            "{} has {} waiting under policy {} ({}), at most {} allowed; revoke one first",
            request.requester.username,
            several(pending.len(), "request"),
            policy.name,
            pending.join(", "),
            policy.pending_per_requester
        ),
    ))
}

fn within_limits(policy: &Policy, resolved: &Resolved, rivals: &[String]) -> Result<(), Refusal> {
    if rivals.len() < usize::from(policy.active_per_subject) {
        return Ok(());
    }
    Err(Refusal::new(
        reasons::LIMIT_REACHED,
        "spec.policyRef.name",
        format!(
            "{} has {} under policy {} ({}), at most {} allowed; end one first",
            resolved.subject,
            several(rivals.len(), "live grant"),
            policy.name,
            rivals.join(", "),
            policy.active_per_subject
        ),
    ))
}

/// `1 request`, `2 requests`.
fn several(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Whether the grant was denied.
pub(super) fn was_denied(status: &AccessGrantStatus) -> bool {
    status
        .conditions
        .iter()
        .any(|condition| condition.type_ == conditions::ACCEPTED && condition.status == "False")
}

impl Ending {
    /// Somebody decided so.
    pub(super) fn decided(decision: &Decision, now: Timestamp, was_active: bool) -> Self {
        let username = &decision.decider.username;
        Self {
            cause: RevocationCause::RevokeDecision,
            message: format!("{username} revoked it: {}", decision.reason),
            by: Some(username.clone()),
            due: now,
            was_active,
        }
    }
}

#[cfg(test)]
mod wording;
