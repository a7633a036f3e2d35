//! Transitions of a grant: the Event and the audit record of each.

use crate::core::audit::record::GivenAccess;
use jiff::Timestamp;

use crate::api::{
    AccessGrant, AccessGrantStatus, ArtifactRecord, DecisionKind, ResolvedIdentity, ResolvedRole,
    RevocationCause, RoleKind, Subject, reasons,
};
use crate::core::artifact::key::kind_name;
use crate::core::audit::record::{AuditRecord, DecisionRecord};
use crate::core::conditions::cut;
use crate::core::decision::Decision;
use crate::core::decision::verdict::{Counting, DecisionVerdict};
use crate::core::grant::event::EventText;
use crate::core::grant::revocation::DueRevocation;
use crate::core::grant::status::state;

/// Longest note of an Event, in bytes: the limit of the events.k8s.io API.
const NOTE_LENGTH: usize = 1024;

/// One transition of a grant, to be written as Event and audit record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Held until the guards are in force.
    Held {
        /// What is wrong with the guards.
        message: String,
    },
    /// Denied. Final.
    Denied {
        /// Condition reason.
        reason: &'static str,
        /// All refusals, for people.
        message: String,
    },
    /// Admitted by the policy; approvals are missing.
    Awaiting {
        /// Part of the Event name: the numbers of counted and void approvals.
        step: String,
        /// The missing approvals, for people.
        message: String,
    },
    /// Admitted and approved; waits for its start time.
    Scheduled {
        /// Part of the Event name: the number of approvals.
        step: String,
        /// The start time, for people.
        message: String,
    },
    /// A decision about the grant got a verdict.
    Judged(Box<DecisionVerdict>),
    /// The access came into force.
    Activated {
        /// Who has the access.
        subject: Option<Subject>,
        /// The access, with its rules in full.
        access: Vec<GivenAccess>,
        /// End of the access (UTC).
        expires_at: Timestamp,
    },
    /// A fuse is not lit, and more than a short delay is wrong.
    Unfused {
        /// Condition reason.
        reason: &'static str,
        /// What is wrong with the fuse.
        message: String,
        /// Whether the access is in force without the fuse.
        given: bool,
    },
    /// The access ended and is proven absent.
    Ended(DueRevocation),
}

impl DecisionVerdict {
    /// Part of the Event name: one Event while the decision waits, one when its verdict is final.
    fn transition(&self) -> String {
        let step = match self.verdict.standing {
            Counting::Waiting => "waiting",
            Counting::Counted | Counting::Ignored => "judged",
        };
        format!("{}.{step}", self.decision.uid)
    }

    fn is_ignored(&self) -> bool {
        self.verdict.standing == Counting::Ignored
    }

    /// Decision, decider and verdict, for people.
    fn note(&self) -> String {
        let Self { decision, verdict } = self;
        let kind = match decision.kind {
            DecisionKind::Approve => "Approve",
            DecisionKind::Deny => "Deny",
            DecisionKind::Revoke => "Revoke",
        };
        let effect = match verdict.standing {
            Counting::Counted => "counts",
            Counting::Ignored => "is ignored",
            Counting::Waiting => "waits",
        };
        format!(
            "{kind} by {} {effect}: {}",
            decision.decider.username, verdict.message
        )
    }
}

/// The words that Events and audit records use for one transition.
struct Headline {
    /// State of the grant.
    state: &'static str,
    /// Reason in the audit record.
    reason: &'static str,
    /// Reason of the Event.
    event_reason: &'static str,
    /// Action of the Event.
    action: &'static str,
    /// Last part of the Event name.
    transition: String,
    /// Whether the Event is a `Warning`.
    warning: bool,
}

impl Transition {
    fn headline(&self, grant: &AccessGrant) -> Headline {
        let by_state =
            |state: &'static str, reason: &'static str, action, transition: &str, warning| Headline {
                state,
                reason,
                event_reason: state,
                action,
                transition: transition.to_owned(),
                warning,
            };
        let by_reason = |state, reason: &'static str, action, transition, warning| Headline {
            state,
            reason,
            event_reason: reason,
            action,
            transition,
            warning,
        };
        match self {
            Self::Held { .. } => {
                let reason = reasons::GUARDS_NOT_IN_FORCE;
                by_reason(reasons::PENDING, reason, "Hold", "held".to_owned(), true)
            }
            Self::Denied { reason, .. } => by_state(reasons::DENIED, reason, "Deny", "denied", true),
            Self::Awaiting { step, .. } => {
                let state = reasons::AWAITING_APPROVAL;
                by_state(state, state, "Ask", &format!("awaiting-{step}"), false)
            }
            Self::Scheduled { step, .. } => {
                let state = reasons::SCHEDULED;
                by_state(state, state, "Schedule", &format!("scheduled-{step}"), false)
            }
            Self::Judged(judged) => {
                let (reason, transition) = (judged.verdict.reason, judged.transition());
                by_reason(
                    state(grant).as_str(),
                    reason,
                    "Judge",
                    transition,
                    judged.is_ignored(),
                )
            }
            Self::Activated { .. } => {
                let reason = reasons::POLICY_SATISFIED;
                by_state(reasons::ACTIVE, reason, "Activate", "activated", false)
            }
            Self::Unfused { reason, .. } => {
                let transition = format!("unfused-{}", reason.to_lowercase());
                by_reason(state(grant).as_str(), reason, "Fuse", transition, true)
            }
            Self::Ended(ending) => {
                let early = ending.cause != RevocationCause::DeadlineReached;
                by_state(ending.state().as_str(), ending.reason(), "Revoke", "ended", early)
            }
        }
    }

    /// What happened, for people; `at` is the time of the transition.
    fn note(&self, at: Timestamp) -> String {
        match self {
            Self::Held { message }
            | Self::Denied { message, .. }
            | Self::Awaiting { message, .. }
            | Self::Scheduled { message, .. } => message.clone(),
            Self::Judged(judged) => judged.note(),
            Self::Activated {
                subject,
                access,
                expires_at,
            } => {
                let items = access
                    .iter()
                    .map(|given| named(&given.name, given.role.as_ref(), given.act_as.as_ref()))
                    .collect::<Vec<_>>()
                    .join(", ");
                let subject = subject
                    .as_ref()
                    .map_or_else(|| "no one".to_owned(), ToString::to_string);
                format!("{subject} has {items} until {expires_at}")
            }
            Self::Unfused { message, given, .. } => {
                let access = if *given {
                    "the access has no working fuse"
                } else {
                    "no access is granted until its fuse is lit"
                };
                format!("{access}: {message}")
            }
            Self::Ended(ending) => ending.note(at),
        }
    }

    /// The Event about the grant.
    pub fn event(&self, grant: &AccessGrant, at: Timestamp) -> EventText {
        let headline = self.headline(grant);
        let name = grant.metadata.name.as_deref().unwrap_or_default();
        let uid = grant.metadata.uid.as_deref().unwrap_or_default();
        EventText {
            name: format!("{name}.{uid}.{}", headline.transition),
            warning: headline.warning,
            reason: headline.event_reason,
            action: headline.action,
            note: cut(&self.note(at), NOTE_LENGTH, char::len_utf8),
        }
    }

    /// The Event about the decision; `None` if the transition is not a verdict.
    pub fn event_of_decision(&self, at: Timestamp) -> Option<(&Decision, EventText)> {
        let Self::Judged(judged) = self else { return None };
        let name = &judged.decision.name;
        let text = EventText {
            name: format!("{name}.{}", judged.transition()),
            warning: judged.is_ignored(),
            reason: judged.verdict.reason,
            action: "Judge",
            note: cut(&self.note(at), NOTE_LENGTH, char::len_utf8),
        };
        Some((&judged.decision, text))
    }

    /// The audit record of the transition.
    pub fn audit(&self, grant: &AccessGrant, at: Timestamp) -> AuditRecord {
        let status = grant.status.clone().unwrap_or_default();
        let headline = self.headline(grant);
        let (access, approvals) = match self {
            Self::Activated { access, .. } => (access.clone(), status.approvals.clone()),
            _ => (Vec::new(), Vec::new()),
        };
        let decision = match self {
            Self::Judged(judged) => Some(DecisionRecord::from(judged.as_ref())),
            _ => None,
        };
        let ending = match self {
            Self::Ended(ending) => Some(ending),
            _ => None,
        };
        AuditRecord {
            time: at,
            state: headline.state,
            reason: headline.reason,
            message: self.note(at),
            namespace: grant.metadata.namespace.clone().unwrap_or_default(),
            grant: grant.metadata.name.clone().unwrap_or_default(),
            uid: grant.metadata.uid.clone().unwrap_or_default(),
            policy: grant.spec.policy_ref.name.clone(),
            requester: grant.spec.requester.clone(),
            purpose: grant.spec.reason.clone(),
            references: grant.spec.references.clone(),
            access_hash: status.resolved.as_ref().map(|access| access.hash.clone()),
            entitlements: entitlement_names(&status),
            access,
            approvals,
            decision,
            ended_by: ending.and_then(|ending| ending.by.clone()),
            artifacts: artifact_names(grant, &status),
            expires_at: status.expires_at.map(|end| end.0),
            lag_milliseconds: ending.map(|ending| ending.lag_milliseconds(at)),
            subject: status.subject,
        }
    }
}

fn entitlement_names(status: &AccessGrantStatus) -> Vec<String> {
    let entitlements = status.resolved.iter().flat_map(|access| &access.entitlements);
    entitlements
        .map(|item| named(&item.name, item.role.as_ref(), item.act_as.as_ref()))
        .collect()
}

/// Kind and name of each artifact; with the namespace if it is not the grant's.
fn artifact_names(grant: &AccessGrant, status: &AccessGrantStatus) -> Vec<String> {
    let name = |record: &ArtifactRecord| {
        let kind = kind_name(record.kind);
        if grant.metadata.namespace.as_ref() == Some(&record.namespace) {
            format!("{kind}/{}", record.name)
        } else {
            format!("{kind}/{}/{}", record.namespace, record.name)
        }
    };
    status.artifacts.iter().map(name).collect()
}

fn named(name: &str, role: Option<&ResolvedRole>, act_as: Option<&ResolvedIdentity>) -> String {
    match (role, act_as) {
        (_, Some(identity)) => format!(
            "{name} (acting as service account {}/{})",
            identity.namespace, identity.service_account
        ),
        (None, None) => name.to_owned(),
        (Some(role), None) => {
            let kind = match role.kind {
                RoleKind::ClusterRole => "ClusterRole",
                RoleKind::Role => "Role",
            };
            format!("{name} ({kind} {})", role.name)
        }
    }
}

#[cfg(test)]
#[path = "tests/golden_events.rs"]
mod golden;
#[cfg(test)]
#[path = "tests/transition.rs"]
mod tests;
