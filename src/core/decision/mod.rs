//! Decisions about a grant, and verdicts on them.

pub mod blocking;
pub mod count;
pub mod records;
pub mod verdict;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::{AccessDecision, AccessGrant, Blocks, DecisionKind, conditions, reasons};
use crate::core::decision::blocking::spec_hash;
use crate::core::decision::verdict::{Counting, Verdict};
use crate::core::policy::approval::ApprovalRequirement;
use crate::core::request::Request;
use crate::core::request::caller::Caller;
use crate::core::time::timestamp;

/// Longest message of a verdict, in characters.
const MESSAGE_LENGTH: usize = 512;

/// One person's Approve, Deny or Revoke of one grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `metadata.name` of the decision.
    pub name: String,
    /// `metadata.uid` of the decision.
    pub uid: String,
    /// Name of the grant that is decided on.
    pub grant: String,
    /// Uid of that grant. A grant recreated under the same name is not affected.
    pub grant_uid: String,
    /// When the API server created the decision (UTC, whole seconds).
    pub made_at: Timestamp,
    /// Approve, Deny or Revoke.
    pub kind: DecisionKind,
    /// Hash of the approved access; only an Approve has one.
    pub access_hash: Option<String>,
    /// The decider, attested by the API server. The user name is empty if the guards were not in force.
    pub decider: Caller,
    /// Reason of the decider; may be empty.
    pub reason: String,
    /// The recorded verdict; `None` before there is one.
    pub recorded: Option<Counting>,
    /// Whether the decider holds the verb `revoke` on the grant.
    pub authority: Authority,
}

/// Whether a user holds the verb `revoke` on a grant, as the API server answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authority {
    /// The API server was not asked.
    #[default]
    Unasked,
    /// The API server did not answer.
    Unclear,
    /// The user holds the verb.
    Held,
    /// The user does not hold the verb.
    NotHeld,
}

impl From<&AccessDecision> for Decision {
    fn from(decision: &AccessDecision) -> Self {
        let (meta, spec) = (&decision.metadata, &decision.spec);
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            grant: spec.grant_ref.name.clone(),
            grant_uid: spec.grant_ref.uid.clone(),
            made_at: meta
                .creation_timestamp
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            kind: spec.decision,
            access_hash: spec.access_hash.clone(),
            decider: Caller::from(&spec.decider.clone().unwrap_or_default()),
            reason: spec.reason.clone().unwrap_or_default(),
            recorded: decision
                .status
                .as_ref()
                .and_then(|status| recorded_standing(&status.conditions)),
            authority: Authority::default(),
        }
    }
}

fn recorded_standing(conditions: &[Condition]) -> Option<Counting> {
    let counted = conditions
        .iter()
        .find(|condition| condition.type_ == conditions::COUNTED)?;
    [Counting::Counted, Counting::Ignored, Counting::Waiting]
        .into_iter()
        .find(|standing| standing.status() == counted.status)
}

impl Decision {
    /// Whether the decision has no final verdict yet.
    pub fn is_open(&self) -> bool {
        !matches!(self.recorded, Some(Counting::Counted | Counting::Ignored))
    }

    /// Whether the decider is the requester or the subject.
    fn is_own(&self, request: &Request) -> bool {
        self.decider.username == request.requester.username || self.decider.as_subject() == request.subject
    }

    /// Verdict on an Approve or Deny by the requester or the subject; `None` if the decider is neither.
    pub fn about_oneself(&self, request: &Request) -> Option<Verdict> {
        self.is_own(request).then(|| {
            Verdict::ignored(
                reasons::SELF_DECISION,
                format!(
                    "{} is the requester or the subject and cannot decide on this request; \
                     to withdraw it, create a decision Revoke",
                    self.decider.username
                ),
            )
        })
    }

    /// Verdict on a decision by a person whom no stage lists.
    pub fn not_listed(&self, demands: &ApprovalRequirement) -> Verdict {
        let stages: Vec<_> = demands
            .stages
            .iter()
            .map(|stage| {
                let approvers: Vec<_> = stage.approvers.iter().map(ToString::to_string).collect();
                format!("{} lists {}", stage.name, approvers.join(", "))
            })
            .collect();
        Verdict::ignored(
            reasons::DECIDER_NOT_LISTED,
            format!(
                "{} is not an approver of this policy; stage {}",
                self.decider.username,
                stages.join("; stage ")
            ),
        )
    }

    /// Whether the decision revokes this grant. Requester, subject, approvers of the policy and holders of
    /// the verb `revoke` can revoke. A Revoke that has counted keeps its effect, even if the decider has lost
    /// that right since.
    pub fn revokes(&self, request: &Request, demands: Option<&ApprovalRequirement>) -> bool {
        self.kind == DecisionKind::Revoke
            && match self.recorded {
                Some(Counting::Counted) => true,
                Some(Counting::Ignored) => false,
                Some(Counting::Waiting) | None => {
                    self.is_own(request)
                        || demands.is_some_and(|demands| demands.lists(&self.decider))
                        || self.authority == Authority::Held
                }
            }
    }

    /// Whether the decision counts only if the decider holds the verb `revoke`. The lists of the policy are
    /// not considered here.
    pub fn needs_authority(&self, request: &Request) -> bool {
        self.kind == DecisionKind::Revoke && self.is_open() && !self.is_own(request)
    }

    /// Verdict on a Revoke by a person who may not revoke; `None` while that is not known.
    pub fn may_not_revoke(&self) -> Option<Verdict> {
        let verdict = Verdict::ignored(
            reasons::MAY_NOT_REVOKE,
            format!(
                "{} may not revoke this grant: only its requester, its subject, approvers of its policy and holders of \
                 the verb revoke on accessgrants/{} may",
                self.decider.username, self.grant
            ),
        );
        (self.authority == Authority::NotHeld).then_some(verdict)
    }

    /// Verdict on a Revoke that ends the grant; `effect` says what it did. If a service account made the
    /// request, the Revoke also blocks the same request, because tools recreate it. The block lasts until
    /// `spec.notAfter` of the request.
    pub fn counts_against(&self, grant: &AccessGrant, request: &Request, effect: &str) -> Verdict {
        let automation = request.requester.service_account().is_some();
        let until = request.not_after.filter(|_| automation);
        Verdict {
            blocks: until.map(|until| Blocks {
                requester: request.requester.username.clone(),
                spec_hash: spec_hash(grant),
                until: timestamp::micro_time(until),
            }),
            ..Verdict::counted(until.map_or_else(
                || effect.to_owned(),
                |until| {
                    format!(
                        "{effect}, and blocks the same request of {} until {until}",
                        request.requester.username
                    )
                },
            ))
        }
    }
}
