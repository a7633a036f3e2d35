//! What people decided about a grant, and what is made of it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::approval::Demands;
use super::status;
use super::{Identity, Request};
use crate::api::{
    AccessDecision, AccessDecisionStatus, AccessGrant, DecisionKind, StandsAgainst, conditions, reasons,
};

/// Longest message of a verdict.
const MESSAGE_LENGTH: usize = 512;

/// One person's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Name of the grant it is about.
    pub grant: String,
    /// Uid of that grant.
    pub grant_uid: String,
    /// When it was made, to the second.
    pub made_at: Timestamp,
    /// What was decided.
    pub kind: DecisionKind,
    /// The access that was approved.
    pub access_hash: Option<String>,
    /// Who decided. Nobody, if nobody vouches for it.
    pub decider: Identity,
    /// Why.
    pub reason: String,
    /// What was made of it, as far as it is recorded.
    pub recorded: Option<Standing>,
    /// Whether the decider holds the verb `revoke` on the grant.
    pub authority: Authority,
}

/// Whether somebody holds the verb `revoke` on a grant, as the API server answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authority {
    /// It was not asked.
    #[default]
    Unasked,
    /// It did not answer.
    Unclear,
    /// Yes.
    Held,
    /// No.
    NotHeld,
}

/// Whether a decision counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It changed something. Final.
    Counted,
    /// It changes nothing. Final.
    Ignored,
    /// Its stage has not come yet.
    Waiting,
}

impl Standing {
    /// The status of the condition `Counted`.
    const fn status(self) -> &'static str {
        match self {
            Self::Counted => "True",
            Self::Ignored => "False",
            Self::Waiting => "Unknown",
        }
    }
}

/// What was made of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it counts.
    pub standing: Standing,
    /// Condition reason.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
    /// The request it stands against from now on.
    pub stands_against: Option<StandsAgainst>,
}

impl Verdict {
    /// It changed something.
    pub fn counted(message: impl Into<String>) -> Self {
        Self::new(Standing::Counted, reasons::COUNTED, message)
    }

    /// It changes nothing.
    pub fn ignored(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Standing::Ignored, reason, message)
    }

    /// It waits for its stage.
    pub fn waiting(message: impl Into<String>) -> Self {
        Self::new(Standing::Waiting, reasons::STAGE_NOT_REACHED, message)
    }

    fn new(standing: Standing, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            standing,
            reason,
            message: message.into().chars().take(MESSAGE_LENGTH).collect(),
            stands_against: None,
        }
    }

    /// As the status of the decision.
    pub fn status(&self, at: Timestamp) -> AccessDecisionStatus {
        // The spec never changes.
        let generation = Some(1);
        let wanted = (
            conditions::COUNTED,
            self.standing.status(),
            self.reason,
            self.message.as_str(),
        );
        AccessDecisionStatus {
            observed_generation: generation,
            conditions: vec![status::condition(&[], &wanted, generation, at)],
            stands_against: self.stands_against.clone(),
        }
    }
}

/// A decision and what was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The decision.
    pub decision: Decision,
    /// What was made of it.
    pub verdict: Verdict,
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
            decider: Identity::from(&spec.decider.clone().unwrap_or_default()),
            reason: spec.reason.clone().unwrap_or_default(),
            recorded: decision
                .status
                .as_ref()
                .and_then(|status| recorded(&status.conditions)),
            authority: Authority::default(),
        }
    }
}

fn recorded(conditions: &[Condition]) -> Option<Standing> {
    let counted = conditions
        .iter()
        .find(|condition| condition.type_ == conditions::COUNTED)?;
    [Standing::Counted, Standing::Ignored, Standing::Waiting]
        .into_iter()
        .find(|standing| standing.status() == counted.status)
}

impl Decision {
    /// Whether nothing final was made of it yet.
    pub fn is_open(&self) -> bool {
        !matches!(self.recorded, Some(Standing::Counted | Standing::Ignored))
    }

    /// Whether it is by whoever asked or gets the access.
    fn is_own(&self, request: &Request) -> bool {
        self.decider.username == request.requester.username || self.decider.as_subject() == request.subject
    }

    /// What is made of an Approve or Deny about one's own request.
    pub fn about_oneself(&self, request: &Request) -> Option<Verdict> {
        self.is_own(request).then(|| {
            Verdict::ignored(
                reasons::SELF_DECISION,
                format!(
                    "{} is the requester or the subject and cannot decide on this request; to withdraw it, create a decision Revoke",
                    self.decider.username
                ),
            )
        })
    }

    /// What is made of it if no stage lists the decider.
    pub fn not_listed(&self, demands: &Demands) -> Verdict {
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

    /// Whether it ends this grant: a Revoke by the requester, the subject, an approver of the policy, or whoever holds
    /// the verb `revoke`. One that has counted before ends it still, whatever became of the decider since.
    pub fn revokes(&self, request: &Request, demands: Option<&Demands>) -> bool {
        self.kind == DecisionKind::Revoke
            && match self.recorded {
                Some(Standing::Counted) => true,
                Some(Standing::Ignored) => false,
                Some(Standing::Waiting) | None => {
                    self.is_own(request)
                        || demands.is_some_and(|demands| demands.lists(&self.decider))
                        || self.authority == Authority::Held
                }
            }
    }

    /// Whether it takes the verb `revoke` for it to count: nothing else that is known of the decider suffices.
    pub fn needs_authority(&self, request: &Request) -> bool {
        self.kind == DecisionKind::Revoke && self.is_open() && !self.is_own(request)
    }

    /// What is made of a Revoke by somebody who may not; nothing, while it is unclear whether they may.
    pub fn may_not_revoke(&self) -> Option<Verdict> {
        let verdict = Verdict::ignored(
            reasons::MAY_NOT_REVOKE,
            format!(
                "{} neither asked for this access nor gets it, is no approver of its policy, and does not hold the \
                 verb revoke on accessgrants/{} here",
                self.decider.username, self.grant
            ),
        );
        (self.authority == Authority::NotHeld).then_some(verdict)
    }

    /// What is made of a Revoke that ends the grant, which is told as `effect`. It stands against the same request of the
    /// same automation, which would only make it again, until the end that the request itself names.
    pub fn counts_against(&self, grant: &AccessGrant, request: &Request, effect: &str) -> Verdict {
        let automation = request.requester.service_account().is_some();
        let until = request.not_after.filter(|_| automation);
        Verdict {
            stands_against: until.map(|until| StandsAgainst {
                requester: request.requester.username.clone(),
                spec_hash: spec_hash(grant),
                until: status::micro_time(until),
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

/// SHA-256 over what a grant asks for. Who asks is compared by name: the groups of a service account are the API
/// server's to say.
pub fn spec_hash(grant: &AccessGrant) -> String {
    let spec = crate::api::AccessGrantSpec {
        requester: None,
        ..grant.spec.clone()
    };
    super::digest::sha256(&spec)
}

/// A Revoke that stands against a request made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// Name of the decision.
    pub decision: String,
    /// Who decided.
    pub decider: String,
    /// Against what.
    pub against: StandsAgainst,
}

impl Objection {
    /// Whether it stands against this request now.
    pub fn concerns(&self, grant: &AccessGrant, request: &Request, now: Timestamp) -> bool {
        now < self.against.until.0
            && self.against.requester == request.requester.username
            && self.against.spec_hash == spec_hash(grant)
    }
}
