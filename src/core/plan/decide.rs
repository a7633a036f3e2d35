//! Evaluation of a grant that is neither live nor over.

use jiff::Timestamp;

use crate::api::{AccessGrantStatus, ApprovalRecord, RevocationCause, conditions, reasons};
use crate::core::decision::Decision;
use crate::core::decision::count::{ApprovalContext, count_approvals};
use crate::core::decision::records::{MissingApprovals, describe_approvals, describe_void};
use crate::core::decision::verdict::{DecisionVerdict, Verdict};
use crate::core::evaluate::admit::{admit, readmit};
use crate::core::evaluate::conditions::{approval_requirement, unmet_conditions};
use crate::core::evaluate::question::CheckInput;
use crate::core::evaluate::resolve::{Resolved, resolve};
use crate::core::facts::{Input, NamespaceFacts};
use crate::core::grant::decisions::{denials, known_approval_requirement};
use crate::core::grant::revocation::DueRevocation;
use crate::core::plan::answer::{Accepted, Counted, Decided, Evaluation, Waiting};
use crate::core::plan::gates::{created, held_for_clocks, held_for_guards, is_accepted, usable_policy};
use crate::core::plan::limits::{live_limit, pending_limit};
use crate::core::policy::Policy;
use crate::core::policy::approval::ApprovalRequirement;
use crate::core::request::Request;
use crate::core::request::refusal::{Refusal, Refusals};

/// Evaluates a grant that is neither live nor over. The first step that has an answer gives it, in the order of
/// `docs/architecture.md`, "What decides first".
pub(crate) fn decide<'a>(input: &Input<'a>, now: Timestamp) -> Decided<'a> {
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
        Err(refusals) => Evaluation::Deny(refusals).into(),
    }
}

/// Step 1: a Revoke withdraws a request at any time. It only takes away, so it needs neither guards nor policy.
fn withdrawn<'a>(input: &Input<'a>, now: Timestamp) -> Option<Decided<'a>> {
    let request = Request::parse(input.grant).ok()?;
    let demands = known_approval_requirement(input);
    let decision = input
        .decisions
        .iter()
        .find(|decision| decision.revokes(&request, demands))?;
    let verdict = DecisionVerdict {
        decision: decision.clone(),
        verdict: decision.counts_against(input.grant, &request, "ends the access before it begins"),
    };
    Some(Decided {
        answer: Evaluation::Withdraw(DueRevocation::decided(decision, now, false)),
        counted: Counted {
            verdicts: vec![verdict],
            complete: false,
        },
    })
}

/// Steps 4 to 9: evaluates a request under a usable policy.
fn evaluate<'a>(input: &Input<'a>, request: &Request, policy: &Policy, now: Timestamp) -> Decided<'a> {
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
        Err(refusals) => return Evaluation::Deny(refusals).into(),
    };
    let denials = denials(input.decisions, request, policy.approval.demands());
    if let Some(refusal) = denials.refusal {
        return Decided {
            answer: Evaluation::Deny(refusal.into()),
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
    Decided {
        answer: answer.unwrap_or_else(Evaluation::Deny),
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
    question: CheckInput<'a>,
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
    verdicts: Vec<DecisionVerdict>,
    /// The approvals that are missing, and until when people are asked for them.
    missing: Option<(MissingApprovals, Timestamp)>,
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
        let Some(demands) = approval_requirement(&self.question) else {
            // An expression may ask for approvals at one instant and not at another: recorded ones are kept.
            return Count {
                asked: false,
                approvals: recorded.to_vec(),
                verdicts: Vec::new(),
                missing: None,
            };
        };
        let until = awaited_until(input, request, demands, resolved);
        let ballot = ApprovalContext {
            demands,
            request,
            hash: &resolved.access.hash,
            until,
        };
        let approval_count = count_approvals(&ballot, recorded, input.decisions);
        let with_its_decision = |(uid, verdict): (String, Verdict)| {
            let decision = input.decisions.iter().find(|decision| decision.uid == uid)?;
            Some(DecisionVerdict {
                decision: decision.clone(),
                verdict,
            })
        };
        Count {
            asked: true,
            approvals: approval_count.approvals,
            verdicts: approval_count
                .verdicts
                .into_iter()
                .filter_map(with_its_decision)
                .collect(),
            missing: approval_count.missing.map(|missing| (missing, until)),
        }
    }

    /// Step 7, approvals missing: waits for them, if there is time left and the limits allow it. A request that would
    /// start at once is checked against the limit of live access before approvers are asked.
    fn await_approvals(
        &self,
        accepted: Accepted,
        missing: &MissingApprovals,
        until: Timestamp,
    ) -> Result<Evaluation<'static>, Refusals> {
        if self.now >= until {
            return Err(timed_out(missing, until, &accepted.approvals).into());
        }
        pending_limit(self.input, self.policy, self.request, self.first)?;
        if self.first && !self.starts_later() {
            live_limit(self.policy, &accepted.resolved, self.input.rivals)?;
        }
        Ok(Evaluation::Await(Box::new(Waiting {
            message: missing.message(until, &accepted.approvals),
            asked: true,
            accepted,
            until,
        })))
    }

    /// Step 8: waits for the start that the request names.
    fn schedule(&self, accepted: Accepted, asked: bool) -> Result<Evaluation<'static>, Refusals> {
        pending_limit(self.input, self.policy, self.request, self.first)?;
        Ok(Evaluation::Schedule(Box::new(Waiting {
            accepted,
            asked,
            message: format!("starts at {}", self.question.start),
            until: self.question.start,
        })))
    }

    /// Step 9: checks the conditions again if the request has waited, and the limit of live access.
    fn grant(&self, accepted: Accepted) -> Result<Evaluation<'static>, Refusals> {
        if !self.first {
            Refusals::from_list(unmet_conditions(&self.question))?;
        }
        live_limit(self.policy, &accepted.resolved, self.input.rivals)?;
        Ok(Evaluation::Grant(Box::new(accepted)))
    }
}

/// Step 4: an earlier Revoke blocks the same request of the same service account.
fn revoked_before(input: &Input<'_>, request: &Request, now: Timestamp) -> Result<(), Refusal> {
    let concerns =
        |objection: &&crate::core::decision::blocking::Block| objection.concerns(input.grant, request, now);
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
fn awaited_until(
    input: &Input<'_>,
    request: &Request,
    demands: &ApprovalRequirement,
    resolved: &Resolved,
) -> Timestamp {
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

impl MissingApprovals {
    /// Says which approvals are missing, then which are recorded, then which are void.
    pub(crate) fn message(&self, until: Timestamp, approvals: &[ApprovalRecord]) -> String {
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
fn timed_out(missing: &MissingApprovals, until: Timestamp, approvals: &[ApprovalRecord]) -> Refusal {
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

/// Whether the grant was denied.
pub(crate) fn was_denied(status: &AccessGrantStatus) -> bool {
    status
        .conditions
        .iter()
        .any(|condition| condition.type_ == conditions::ACCEPTED && condition.status == "False")
}

impl DueRevocation {
    /// Revocation by a Revoke decision. It is due at once.
    pub(crate) fn decided(decision: &Decision, now: Timestamp, was_active: bool) -> Self {
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
