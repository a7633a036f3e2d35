//! Evaluation: hold, deny, await, grant ...

use jiff::Timestamp;

use crate::api::ApprovalRecord;
use crate::core::decision::verdict::DecisionVerdict;
use crate::core::evaluate::resolve::Resolved;
use crate::core::grant::revocation::DueRevocation;
use crate::core::request::refusal::Refusals;

/// Evaluation of a grant that is neither live nor over.
#[derive(Debug)]
pub(crate) enum Evaluation<'a> {
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
    Withdraw(DueRevocation),
    /// Waits for approvals.
    Await(Box<Waiting>),
    /// Waits for its start.
    Schedule(Box<Waiting>),
    /// Granted now.
    Grant(Box<Accepted>),
}

/// A request that its policy accepts.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The access that it would give now.
    pub resolved: Resolved,
    /// The approvals on record, void ones included.
    pub approvals: Vec<ApprovalRecord>,
}

/// An accepted request that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub accepted: Accepted,
    /// Whether the policy asks for approvals.
    pub asked: bool,
    /// What the request waits for, for people.
    pub message: String,
    /// When to evaluate it again.
    pub until: Timestamp,
}

/// The evaluation, and the verdicts that it gave on the way.
pub(crate) struct Decided<'a> {
    pub answer: Evaluation<'a>,
    pub counted: Counted,
}

/// Verdicts that an evaluation gave itself. All other open decisions get theirs afterwards, by the answer.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub verdicts: Vec<DecisionVerdict>,
    /// Whether the evaluation got as far as the approvals, so that every Approve and Deny had its chance to count.
    pub complete: bool,
}

impl<'a> From<Evaluation<'a>> for Decided<'a> {
    /// An answer in which no decision had a part.
    fn from(answer: Evaluation<'a>) -> Self {
        Self {
            answer,
            counted: Counted::default(),
        }
    }
}
