//! Evaluation of a grant that is neither live nor over.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::admit::{admit, readmit};
use super::approval::{Demands, Missing, describe_approvals, describe_void};
use super::condition::{demanded, unmet};
use super::decision::{Judged, Verdict};
use super::facts::{Input, NamespaceFacts, PolicyFacts};
use super::live::{POLICY_GONE_GRACE, POLICY_GRACE};
use super::question::Question;
use super::self_test::Standing;
use super::tally::{Ballot, tally};
use super::verdict::{denied, known_demands};
use super::{Decision, Ending, Policy, Refusal, Refusals, Request, Resolved, resolve};
use crate::api::{AccessGrantStatus, ApprovalRecord, RevocationCause, conditions, reasons};

/// Evaluation of a grant that is neither live nor over.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    /// Held: the policy has to come or to become usable.
    Hold {
        reason: &'static str,
        message: String,
        until: Timestamp,
    },
    /// Held: the guards are in breach. The text says why.
    HoldInBreach(&'a str),
    /// Held with this reason until the guards are proven. The text says why they are not.
    HoldForGuards(&'static str, &'a str),
    /// Held: the clocks have to agree. The text says how they differ.
    HoldForClocks(&'a str),
    /// Accepted before, and at the moment it cannot be evaluated again. Its status stays as it is.
    Stay {
        /// When to evaluate it again, although nothing has changed.
        until: Option<Timestamp>,
    },
    /// Denied. This is final.
    Deny(Refusals),
    /// Withdrawn by a Revoke before there was access.
    Withdraw(Ending),
    /// Waits for approvals.
    Await(Box<Waiting>),
    /// Waits for its start.
    Schedule(Box<Waiting>),
    /// Granted now.
    Grant(Box<Accepted>),
}

/// A request that its policy accepts.
#[derive(Debug)]
pub(super) struct Accepted {
    /// The access that it would give now.
    pub resolved: Resolved,
    /// The approvals on record, void ones included.
    pub approvals: Vec<ApprovalRecord>,
}

/// An accepted request that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub accepted: Accepted,
    /// Whether the policy asks for approvals.
    pub asked: bool,
    /// What the request waits for, for people.
    pub message: String,
    /// When to evaluate it again.
    pub until: Timestamp,
}

/// The evaluation, and the verdicts that it gave on the way.
pub(super) struct Judgement<'a> {
    pub answer: Answer<'a>,
    pub counted: Counted,
}

/// Verdicts that an evaluation gave itself. All other open decisions get theirs afterwards, by the answer.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub verdicts: Vec<Judged>,
    /// Whether the evaluation got as far as the approvals, so that every Approve and Deny had its chance to count.
    pub complete: bool,
}

impl<'a> From<Answer<'a>> for Judgement<'a> {
    /// An answer in which no decision had a part.
    fn from(answer: Answer<'a>) -> Self {
        Self {
            answer,
            counted: Counted::default(),
        }
    }
}

/// Whether the policy accepted the request before: then its status has the resolved access.
pub(super) fn is_accepted(status: Option<&AccessGrantStatus>) -> bool {
    status.is_some_and(|status| status.resolved.is_some())
}

/// Whether the grant was seen while the guards were in breach. Anybody may have created it then, in any name. The mark
/// is in the status, so it survives a restart and the end of the breach.
pub(super) fn was_held_in_a_breach(status: Option<&AccessGrantStatus>) -> bool {
    status
        .iter()
        .flat_map(|status| &status.conditions)
        .any(|condition| condition.reason == reasons::GUARDS_NOT_IN_FORCE)
}

/// Evaluates a grant that is neither live nor over. The first step that has an answer gives it, in the order of
/// `docs/architecture.md`, "What decides first".
pub(super) fn judge<'a>(input: &Input<'a>, now: Timestamp) -> Judgement<'a> {
    if let Some(judgement) = withdrawn(input, now) {
        return judgement;
    }
    if let Some(answer) = held_for_guards(input).or_else(|| held_for_clocks(input)) {
        return answer.into();
    }
    let policy = match usable_policy(input, now) {
        Ok(policy) => policy,
        Err(answer) => return answer.into(),
    };
    match Request::parse(input.grant) {
        Ok(request) => evaluate(input, &request, policy, now),
        Err(refusals) => Answer::Deny(refusals).into(),
    }
}

/// Step 1: a Revoke withdraws a request at any time. It only takes away, so it needs neither guards nor policy.
fn withdrawn<'a>(input: &Input<'a>, now: Timestamp) -> Option<Judgement<'a>> {
    let request = Request::parse(input.grant).ok()?;
    let demands = known_demands(input);
    let decision = input
        .decisions
        .iter()
        .find(|decision| decision.revokes(&request, demands))?;
    let verdict = Judged {
        decision: decision.clone(),
        verdict: decision.counts_against(input.grant, &request, "ends the access before it begins"),
    };
    Some(Judgement {
        answer: Answer::Withdraw(Ending::decided(decision, now, false)),
        counted: Counted {
            verdicts: vec![verdict],
            complete: false,
        },
    })
}

/// Step 2: holds the request while the guards are not proven. `spec.requester` may be forged, and a denial is final.
/// The requester of an accepted request was attested; decisions that were made during a breach are not.
fn held_for_guards<'a>(input: &Input<'a>) -> Option<Answer<'a>> {
    let status = input.grant.status.as_ref();
    let accepted = is_accepted(status);
    let unattested = was_held_in_a_breach(status) && !accepted;
    match input.guards {
        Standing::Breached(why) => Some(Answer::HoldInBreach(why)),
        // A request that was seen in a breach keeps the reason that says so.
        Standing::Unproven(why) if unattested => {
            Some(Answer::HoldForGuards(reasons::GUARDS_NOT_IN_FORCE, why))
        }
        Standing::Unproven(_) if accepted => Some(Answer::Stay { until: None }),
        Standing::Unproven(why) => Some(Answer::HoldForGuards(reasons::GUARDS_UNPROVEN, why)),
        Standing::InForce if unattested => Some(Answer::Deny(
            Refusal::new(
                reasons::NOT_ATTESTED,
                "spec.requester",
                "cannot verify the requester: the admission guards were not in force when this was asked; ask again",
            )
            .into(),
        )),
        Standing::InForce => None,
    }
}

/// Step 2 as well: holds the request while the clocks differ too much. Without the time nobody knows if the request is
/// too late, or when its access would expire.
fn held_for_clocks<'a>(input: &Input<'a>) -> Option<Answer<'a>> {
    let why = input.skewed?;
    Some(if is_accepted(input.grant.status.as_ref()) {
        Answer::Stay { until: None }
    } else {
        Answer::HoldForClocks(why)
    })
}

/// Step 3: the policy, or the answer while it is missing or not usable. A new request waits `POLICY_GRACE` for it. An
/// accepted one waits `POLICY_GONE_GRACE`, as long as live access does.
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
    // An edited policy is checked again in a moment, and so is every policy after a start of the operator. For
    // `POLICY_GRACE` accepted requests do not say that they wait: there may be a thousand.
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

/// Steps 4 to 9: evaluates a request under a usable policy.
fn evaluate<'a>(input: &Input<'a>, request: &Request, policy: &Policy, now: Timestamp) -> Judgement<'a> {
    let case = Case {
        input,
        request,
        policy,
        question: input.question(request, policy, now),
        first: !is_accepted(input.grant.status.as_ref()),
        now,
    };
    let resolved = match case.resolve() {
        Ok(resolved) => resolved,
        Err(refusals) => return Answer::Deny(refusals).into(),
    };
    let denials = denied(input.decisions, request, policy.approval.demands());
    if let Some(refusal) = denials.refusal {
        return Judgement {
            answer: Answer::Deny(refusal.into()),
            counted: Counted {
                verdicts: denials.verdicts,
                complete: false,
            },
        };
    }
    let count = case.count(&resolved);
    let accepted = Accepted {
        resolved,
        approvals: count.approvals,
    };
    let answer = match count.missing {
        Some((missing, until)) => case.await_approvals(accepted, &missing, until),
        None if case.starts_later() => case.schedule(accepted, count.asked),
        None => case.grant(accepted),
    };
    Judgement {
        answer: answer.unwrap_or_else(Answer::Deny),
        counted: Counted {
            verdicts: denials.verdicts.into_iter().chain(count.verdicts).collect(),
            complete: true,
        },
    }
}

/// A request under a usable policy, at one instant.
struct Case<'a> {
    input: &'a Input<'a>,
    request: &'a Request,
    policy: &'a Policy,
    question: Question<'a>,
    /// Whether the request has not been accepted before.
    first: bool,
    now: Timestamp,
}

/// Approvals of a request, counted.
struct Count {
    /// Whether the policy asks for approvals.
    asked: bool,
    /// All approvals on record, void ones included.
    approvals: Vec<ApprovalRecord>,
    /// Verdicts on the decisions that were looked at.
    verdicts: Vec<Judged>,
    /// The approvals that are missing, and until when people are asked for them.
    missing: Option<(Missing, Timestamp)>,
}

impl Case<'_> {
    fn starts_later(&self) -> bool {
        self.question.start > self.now
    }

    /// Steps 4 and 5: no earlier Revoke blocks the request, the policy admits it, and the access is resolved.
    fn resolve(&self) -> Result<Resolved, Refusals> {
        let Self { input, policy, .. } = self;
        revoked_before(input, self.request, self.now)?;
        let admission = if self.first {
            admit(&self.question)?
        } else {
            readmit(&self.question)?
        };
        let nothing = NamespaceFacts::default();
        let namespace = input.namespace.unwrap_or(&nothing);
        resolve(admission, policy, namespace, input.roles, input.identities)
    }

    /// Step 7: counts the approvals, if the policy asks for any now.
    fn count(&self, resolved: &Resolved) -> Count {
        let Self { input, request, .. } = self;
        let status = input.grant.status.as_ref();
        let recorded = status.map_or(&[][..], |status| &status.approvals);
        let Some(demands) = demanded(&self.question) else {
            // An expression may ask for approvals at one instant and not at another: recorded ones are kept.
            return Count {
                asked: false,
                approvals: recorded.to_vec(),
                verdicts: Vec::new(),
                missing: None,
            };
        };
        let until = awaited_until(input, request, demands, resolved);
        let ballot = Ballot {
            demands,
            request,
            hash: &resolved.access.hash,
            until,
        };
        let tally = tally(&ballot, recorded, input.decisions);
        let with_its_decision = |(uid, verdict): (String, Verdict)| {
            let decision = input.decisions.iter().find(|decision| decision.uid == uid)?;
            Some(Judged {
                decision: decision.clone(),
                verdict,
            })
        };
        Count {
            asked: true,
            approvals: tally.approvals,
            verdicts: tally.verdicts.into_iter().filter_map(with_its_decision).collect(),
            missing: tally.missing.map(|missing| (missing, until)),
        }
    }

    /// Step 7, approvals missing: waits for them, if there is time left and the limits allow it. A request that would
    /// start at once is checked against the limit of live access before approvers are asked.
    fn await_approvals(
        &self,
        accepted: Accepted,
        missing: &Missing,
        until: Timestamp,
    ) -> Result<Answer<'static>, Refusals> {
        if self.now >= until {
            return Err(timed_out(missing, until, &accepted.approvals).into());
        }
        few_are_pending(self.input, self.policy, self.request, self.first)?;
        if self.first && !self.starts_later() {
            within_limits(self.policy, &accepted.resolved, self.input.rivals)?;
        }
        Ok(Answer::Await(Box::new(Waiting {
            message: missing.message(until, &accepted.approvals),
            asked: true,
            accepted,
            until,
        })))
    }

    /// Step 8: waits for the start that the request names.
    fn schedule(&self, accepted: Accepted, asked: bool) -> Result<Answer<'static>, Refusals> {
        few_are_pending(self.input, self.policy, self.request, self.first)?;
        Ok(Answer::Schedule(Box::new(Waiting {
            accepted,
            asked,
            message: format!("starts at {}", self.question.start),
            until: self.question.start,
        })))
    }

    /// Step 9: checks the conditions again if the request has waited, and the limit of live access.
    fn grant(&self, accepted: Accepted) -> Result<Answer<'static>, Refusals> {
        if !self.first {
            Refusals::from_list(unmet(&self.question))?;
        }
        within_limits(self.policy, &accepted.resolved, self.input.rivals)?;
        Ok(Answer::Grant(Box::new(accepted)))
    }
}

/// Step 4: an earlier Revoke blocks the same request of the same service account.
fn revoked_before(input: &Input<'_>, request: &Request, now: Timestamp) -> Result<(), Refusal> {
    let concerns = |objection: &&super::Objection| objection.concerns(input.grant, request, now);
    let Some(objection) = input.objections.iter().find(concerns) else {
        return Ok(());
    };
    Err(Refusal::new(
        reasons::REVOKED_BEFORE,
        "metadata.name",
        format!(
            "{} revoked the same request ({}), which is blocked until {}; change the request or its name, or delete \
             that decision",
            objection.decider, objection.decision, objection.against.until.0
        ),
    ))
}

/// Until when approvers can decide: the timeout of the policy, `notAfter` or the end of the window, whichever comes
/// first.
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
    /// Says which approvals are missing, then which are recorded, then which are void.
    fn message(&self, until: Timestamp, approvals: &[ApprovalRecord]) -> String {
        let Self {
            stage,
            counted,
            required,
        } = self;
        let asked = format!("{counted} of {required} from {stage}, until {until}");
        let recorded = [describe_approvals(approvals), describe_void(approvals)];
        [Some(asked)]
            .into_iter()
            .chain(recorded)
            .flatten()
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// Denial of a request whose approvals did not come in time.
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

/// Limit of requests of one requester that wait under one policy. Checked when a request begins to wait.
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

/// Limit of live grants of one subject under one policy.
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

/// A number with its noun: `1 request`, `2 requests`.
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
    /// Revocation by a Revoke decision. It is due at once.
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
