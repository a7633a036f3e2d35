//! Verdicts on the decisions about a grant, whatever its state.

use jiff::Timestamp;

use crate::api::{DecisionKind, reasons};
use crate::core::decision::Decision;
use crate::core::decision::records::describe_counted;
use crate::core::decision::verdict::{DecisionVerdict, Verdict};
use crate::core::facts::Input;
use crate::core::grant::decisions::{known_approval_requirement, known_policy};
use crate::core::grant::live::Live;
use crate::core::grant::revocation::DueRevocation;
use crate::core::plan::answer::{Counted, Evaluation};
use crate::core::request::Request;

/// State of a grant at this moment. It decides what is done about the grant, and the verdicts on its decisions.
pub(super) enum Phase<'a> {
    /// Deleted before it was decided.
    Deleted,
    /// Neither live nor over; with its evaluation.
    Undecided(Evaluation<'a>),
    /// Live, and nothing ends it.
    Live(Live<'a>),
    /// Live, and its access ends now.
    Ending(Live<'a>, DueRevocation),
    /// Over, denied or withdrawn since that time.
    Over(Timestamp),
}

/// The verdicts on all decisions about a grant: those that its evaluation `counted`, then one for every other open
/// decision that can have one now.
///
/// # Guarantees
/// This is the only place where a plan gets its verdicts. Both matches are exhaustive: a new phase or a new answer
/// does not compile before it says what becomes of open decisions. Once a grant is over, every open decision has a
/// verdict.
pub(super) fn verdicts(input: &Input<'_>, phase: &Phase<'_>, counted: Counted) -> Vec<DecisionVerdict> {
    let verdict = |decision: &Decision| match phase {
        Phase::Over(_) => Some(too_late(input, decision)),
        Phase::Ending(..) => Some(of_live(input, decision).unwrap_or_else(|| too_late(input, decision))),
        Phase::Live(_) => of_live(input, decision),
        // The decisions go with the grant.
        Phase::Deleted => None,
        Phase::Undecided(answer) => match answer {
            Evaluation::Deny(_) | Evaluation::Withdraw(_) if counted.complete => {
                Some(without_effect(decision).unwrap_or_else(|| too_late(input, decision)))
            }
            Evaluation::Deny(_) | Evaluation::Withdraw(_) => Some(too_late(input, decision)),
            Evaluation::HoldInBreach(_) => unattested(decision),
            Evaluation::Await(_) | Evaluation::Schedule(_) | Evaluation::Grant(_) => without_effect(decision),
            Evaluation::Hold { .. }
            | Evaluation::HoldForGuards(..)
            | Evaluation::HoldForClocks(_)
            | Evaluation::Stay { .. } => None,
        },
    };
    let has_none = |decision: &&Decision| {
        let same = |judged: &DecisionVerdict| judged.decision.uid == decision.uid;
        decision.is_open() && !counted.verdicts.iter().any(same)
    };
    let others: Vec<_> = input
        .decisions
        .iter()
        .filter(has_none)
        .filter_map(|decision| {
            Some(DecisionVerdict {
                verdict: verdict(decision)?,
                decision: decision.clone(),
            })
        })
        .collect();
    counted.verdicts.into_iter().chain(others).collect()
}

/// Verdict once the grant is decided: too late. Exception: an approval that the grant has on record counted; a crash
/// came between that record and the verdict.
fn too_late(input: &Input<'_>, decision: &Decision) -> Verdict {
    on_record(input, decision)
        .unwrap_or_else(|| Verdict::ignored(reasons::TOO_LATE, "the grant was already decided"))
}

/// Verdict on an approval that the grant has on record: it counts.
fn on_record(input: &Input<'_>, decision: &Decision) -> Option<Verdict> {
    let approvals = &input.grant.status.as_ref()?.approvals;
    let record = approvals
        .iter()
        .find(|record| record.decision_uid == decision.uid)?;
    let message = describe_counted(record, approvals, known_approval_requirement(input));
    Some(Verdict::counted(message))
}

/// Verdict while the guards are in breach: the decider may be forged. A Revoke only takes away, so it stays open.
fn unattested(decision: &Decision) -> Option<Verdict> {
    let verdict = Verdict::ignored(
        reasons::NOT_ATTESTED,
        "cannot verify the decider: the admission guards were not in force when this was decided; decide again",
    );
    (decision.kind != DecisionKind::Revoke).then_some(verdict)
}

/// Verdict on a decision that the evaluation did not count: an approval that is not asked for, or a Revoke by someone
/// who may not. A Revoke stays open while the API server has not said if its decider may.
fn without_effect(decision: &Decision) -> Option<Verdict> {
    match decision.kind {
        DecisionKind::Revoke => decision.may_not_revoke(),
        DecisionKind::Approve | DecisionKind::Deny => {
            Some(Verdict::ignored(reasons::NOT_ASKED, "no approval is required"))
        }
    }
}

/// Verdict on a decision about a live grant. While the policy is unknown, so are its approvers: then a Revoke by
/// someone who may be an approver stays open, and so does an approval that is on record.
fn of_live(input: &Input<'_>, decision: &Decision) -> Option<Verdict> {
    let policy = known_policy(input);
    let too_late = |message| Verdict::ignored(reasons::TOO_LATE, message);
    match decision.kind {
        DecisionKind::Approve => match on_record(input, decision) {
            Some(counted) => policy.map(|_| counted),
            None => Some(too_late("the grant was already decided")),
        },
        DecisionKind::Revoke => match Request::parse(input.grant) {
            Ok(request) if decision.revokes(&request, known_approval_requirement(input)) => {
                Some(decision.counts_against(input.grant, &request, "ends the access"))
            }
            Ok(_) | Err(_) => policy.and_then(|_| decision.may_not_revoke()),
        },
        DecisionKind::Deny => Some(too_late(
            "the access was already granted; to end it, create a decision with Revoke",
        )),
    }
}
