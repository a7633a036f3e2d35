//! What is told of a grant: one Event and one audit record for each transition.

use jiff::Timestamp;
use serde::Serialize;

use super::decision::{Decision, Judged, Standing};
use super::ending::Ending;
use super::facts::Roles;
use super::kind_name;
use super::status::state;
use crate::api::{
    AccessGrant, ApprovalRecord, DecisionKind, Reference, ResolvedEntitlement, ResolvedIdentity,
    ResolvedRole, RevocationCause, RoleKind, Rule, Subject, UserInfo, reasons,
};

/// Longest note of an Event, in bytes: the limit of the events.k8s.io API.
const NOTE_LENGTH: usize = 1024;

/// One transition of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// It waits, undecided, until the admission guards stand.
    Held {
        /// What is wrong with them.
        message: String,
    },
    /// It was refused.
    Denied {
        /// Condition reason.
        reason: &'static str,
        /// All refusals.
        message: String,
    },
    /// Its policy admits it, and people are asked.
    Awaiting {
        /// Which step of that it is: how many approvals count, and how many are void.
        step: String,
        /// Who is still missing.
        message: String,
    },
    /// Nothing is missing but its time.
    Scheduled {
        /// How many approvals it has.
        step: String,
        /// When that is.
        message: String,
    },
    /// Something was made of a decision about it.
    Judged(Box<Judged>),
    /// Its access is in force.
    Activated {
        /// Who has it.
        subject: Option<Subject>,
        /// What it is.
        access: Vec<GivenAccess>,
        /// Until when.
        expires_at: Timestamp,
    },
    /// A fuse of it is not lit, and that is no matter of seconds.
    Unfused {
        /// Condition reason.
        reason: &'static str,
        /// What is wrong.
        message: String,
        /// Whether there is access all the same.
        given: bool,
    },
    /// It is over.
    Ended(Ending),
}

/// One item of access that is in force, with its rules in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GivenAccess {
    /// Its name in the policy.
    pub name: String,
    /// The existing role it is, as it was then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<ResolvedRole>,
    /// The service account that role allows to act as, as it was then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act_as: Option<ResolvedIdentity>,
    /// What it allows.
    pub rules: Vec<Rule>,
}

impl GivenAccess {
    /// A resolved entitlement; the rules of an existing role are taken from the role.
    pub fn of(entitlement: ResolvedEntitlement, roles: &Roles) -> Self {
        let ResolvedEntitlement {
            name,
            role,
            act_as,
            rules,
        } = entitlement;
        let there = role
            .as_ref()
            .and_then(|role| roles.get(&(role.kind, role.name.clone())));
        Self {
            rules: there.map_or(rules, |role| role.rules().to_vec()),
            name,
            role,
            act_as,
        }
    }
}

/// The text of a Kubernetes Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventText {
    /// The same transition of the same grant always has the same name, so that telling twice tells once.
    pub name: String,
    /// Whether it is a `Warning`.
    pub warning: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// What was done, in one word.
    pub action: &'static str,
    /// What happened, for people.
    pub note: String,
}

/// What stays when the objects are gone: one line of the log for each transition, with everything an auditor
/// asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// When (UTC).
    pub time: Timestamp,
    /// What happened: a state of the grant.
    pub state: &'static str,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
    /// Namespace of the grant.
    pub namespace: String,
    /// Name of the grant.
    pub grant: String,
    /// Uid of the grant.
    pub uid: String,
    /// Policy it names.
    pub policy: String,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester: Option<UserInfo>,
    /// Who gets the access.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Why it was asked for.
    pub purpose: String,
    /// Tickets and the like.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// Hash of the effective access.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_hash: Option<String>,
    /// Names of the entitlements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entitlements: Vec<String>,
    /// The access in full, told once it is in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<GivenAccess>,
    /// Who approved it, told once it is in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<ApprovalRecord>,
    /// The decision that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionRecord>,
    /// Who decided its end, if somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// Kinds and names of what was made, with the namespace where it is not the grant's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    /// The promised end (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Milliseconds between the moment access was due to end and the proof of its absence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_milliseconds: Option<i64>,
}

/// A decision, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionRecord {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// What was decided.
    pub decision: DecisionKind,
    /// Who decided.
    pub decider: UserInfo,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// Whether it counts; not said while it waits for its stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted: Option<bool>,
}

impl From<&Judged> for DecisionRecord {
    fn from(judged: &Judged) -> Self {
        let decision = &judged.decision;
        Self {
            name: decision.name.clone(),
            uid: decision.uid.clone(),
            decision: decision.kind,
            decider: UserInfo {
                username: decision.decider.username.clone(),
                groups: decision.decider.groups.clone(),
            },
            because: decision.reason.clone(),
            counted: match judged.verdict.standing {
                Standing::Counted => Some(true),
                Standing::Ignored => Some(false),
                Standing::Waiting => None,
            },
        }
    }
}

impl Judged {
    /// The transition of the decision, for the name of its Event: once when it waits, once when it is final.
    fn transition(&self) -> String {
        let step = match self.verdict.standing {
            Standing::Waiting => "waiting",
            Standing::Counted | Standing::Ignored => "judged",
        };
        format!("{}.{step}", self.decision.uid)
    }
}

impl Announcement {
    fn state(&self, grant: &AccessGrant) -> &'static str {
        match self {
            Self::Held { .. } => reasons::PENDING,
            Self::Awaiting { .. } => reasons::AWAITING_APPROVAL,
            Self::Scheduled { .. } => reasons::SCHEDULED,
            Self::Judged(_) | Self::Unfused { .. } => state(grant),
            Self::Denied { .. } => reasons::DENIED,
            Self::Activated { .. } => reasons::ACTIVE,
            Self::Ended(ending) => ending.state(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Held { .. } => reasons::GUARDS_NOT_IN_FORCE,
            Self::Awaiting { .. } => reasons::AWAITING_APPROVAL,
            Self::Scheduled { .. } => reasons::SCHEDULED,
            Self::Judged(judged) => judged.verdict.reason,
            Self::Denied { reason, .. } | Self::Unfused { reason, .. } => reason,
            Self::Activated { .. } => reasons::POLICY_SATISFIED,
            Self::Ended(ending) => ending.reason(),
        }
    }

    /// What happened, told at `at`.
    fn note(&self, at: Timestamp) -> String {
        match self {
            Self::Held { message }
            | Self::Denied { message, .. }
            | Self::Awaiting { message, .. }
            | Self::Scheduled { message, .. } => message.clone(),
            Self::Judged(judged) => {
                let Judged { decision, verdict } = judged.as_ref();
                let said = match decision.kind {
                    DecisionKind::Approve => "Approve",
                    DecisionKind::Deny => "Deny",
                    DecisionKind::Revoke => "Revoke",
                };
                let effect = match verdict.standing {
                    Standing::Counted => "counts",
                    Standing::Ignored => "is ignored",
                    Standing::Waiting => "waits",
                };
                format!(
                    "{said} by {} {effect}: {}",
                    decision.decider.username, verdict.message
                )
            }
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
                    .map_or_else(|| "nobody".to_owned(), ToString::to_string);
                format!("{subject} has {items} until {expires_at}")
            }
            Self::Unfused {
                message, given: true, ..
            } => format!("no fuse holds the access: {message}"),
            Self::Unfused {
                message,
                given: false,
                ..
            } => format!("no access is given before its fuse is lit: {message}"),
            Self::Ended(ending) => {
                let lag = ending.lag_milliseconds(at);
                match ending.cause {
                    RevocationCause::DeadlineReached => format!("the access ended {lag} ms after its time"),
                    _ => format!("{}; proven absent {lag} ms later", ending.message),
                }
            }
        }
    }

    /// The Event that tells it.
    pub fn event(&self, grant: &AccessGrant, at: Timestamp) -> EventText {
        let (transition, action) = match self {
            Self::Held { .. } => ("held".to_owned(), "Hold"),
            Self::Awaiting { step, .. } => (format!("awaiting-{step}"), "Ask"),
            Self::Scheduled { step, .. } => (format!("scheduled-{step}"), "Schedule"),
            Self::Judged(judged) => (judged.transition(), "Judge"),
            Self::Denied { .. } => ("denied".to_owned(), "Deny"),
            Self::Activated { .. } => ("activated".to_owned(), "Activate"),
            Self::Unfused { reason, .. } => (format!("unfused-{}", reason.to_lowercase()), "Fuse"),
            Self::Ended(_) => ("ended".to_owned(), "Revoke"),
        };
        let name = grant.metadata.name.as_deref().unwrap_or_default();
        let uid = grant.metadata.uid.as_deref().unwrap_or_default();
        EventText {
            name: format!("{name}.{uid}.{transition}"),
            warning: match self {
                Self::Awaiting { .. } | Self::Scheduled { .. } | Self::Activated { .. } => false,
                Self::Judged(judged) => judged.verdict.standing == Standing::Ignored,
                Self::Held { .. } | Self::Denied { .. } | Self::Unfused { .. } => true,
                Self::Ended(ending) => ending.cause != RevocationCause::DeadlineReached,
            },
            reason: match self {
                Self::Held { .. } | Self::Judged(_) | Self::Unfused { .. } => self.reason(),
                _ => self.state(grant),
            },
            action,
            note: clipped(self.note(at)),
        }
    }

    /// The same about the decision that it concerns, if it does.
    pub fn event_of_decision(&self, at: Timestamp) -> Option<(&Decision, EventText)> {
        let Self::Judged(judged) = self else { return None };
        let name = &judged.decision.name;
        let text = EventText {
            name: format!("{name}.{}", judged.transition()),
            warning: judged.verdict.standing == Standing::Ignored,
            reason: self.reason(),
            action: "Judge",
            note: clipped(self.note(at)),
        };
        Some((&judged.decision, text))
    }

    /// The audit record that stays.
    pub fn audit(&self, grant: &AccessGrant, at: Timestamp) -> AuditRecord {
        let status = grant.status.clone().unwrap_or_default();
        AuditRecord {
            time: at,
            state: self.state(grant),
            reason: self.reason(),
            message: self.note(at),
            namespace: grant.metadata.namespace.clone().unwrap_or_default(),
            grant: grant.metadata.name.clone().unwrap_or_default(),
            uid: grant.metadata.uid.clone().unwrap_or_default(),
            policy: grant.spec.policy_ref.name.clone(),
            requester: grant.spec.requester.clone(),
            subject: status.subject,
            purpose: grant.spec.reason.clone(),
            references: grant.spec.references.clone(),
            access_hash: status.resolved.as_ref().map(|access| access.hash.clone()),
            entitlements: status
                .resolved
                .iter()
                .flat_map(|access| &access.entitlements)
                .map(|entitlement| {
                    named(
                        &entitlement.name,
                        entitlement.role.as_ref(),
                        entitlement.act_as.as_ref(),
                    )
                })
                .collect(),
            access: match self {
                Self::Activated { access, .. } => access.clone(),
                _ => Vec::new(),
            },
            approvals: match self {
                Self::Activated { .. } => status.approvals,
                _ => Vec::new(),
            },
            decision: match self {
                Self::Judged(judged) => Some(DecisionRecord::from(judged.as_ref())),
                _ => None,
            },
            ended_by: match self {
                Self::Ended(ending) => ending.by.clone(),
                _ => None,
            },
            artifacts: status
                .artifacts
                .iter()
                .map(|record| {
                    let kind = kind_name(record.kind);
                    if grant.metadata.namespace.as_ref() == Some(&record.namespace) {
                        format!("{kind}/{}", record.name)
                    } else {
                        format!("{kind}/{}/{}", record.namespace, record.name)
                    }
                })
                .collect(),
            expires_at: status.expires_at.map(|end| end.0),
            lag_milliseconds: match self {
                Self::Ended(ending) => Some(ending.lag_milliseconds(at)),
                _ => None,
            },
        }
    }
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

fn clipped(note: String) -> String {
    if note.len() <= NOTE_LENGTH {
        return note;
    }
    let room = NOTE_LENGTH - '…'.len_utf8();
    let end = (0..=room)
        .rev()
        .find(|end| note.is_char_boundary(*end))
        .unwrap_or_default();
    note.get(..end).unwrap_or_default().chars().chain(['…']).collect()
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
