//! A request, parsed: who asks, for whom, for what and until when.

use jiff::Timestamp;

use super::status::micro_time;
use super::{Refusal, Refusals, Span};
use crate::api::{AccessGrant, EntitlementRequest, Reference, Subject, reasons};

/// Prefix by which the API server names service accounts as users.
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Somebody as the API server authenticated them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User name.
    pub username: String,
    /// All groups.
    pub groups: Vec<String>,
}

impl Identity {
    /// Namespace and name, if this is a service account.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.username
            .strip_prefix(SERVICE_ACCOUNT_PREFIX)?
            .split_once(':')
    }

    /// This identity as the subject of access.
    pub fn as_subject(&self) -> Subject {
        match self.service_account() {
            Some((namespace, name)) => Subject::service_account(namespace, name),
            None => Subject::user(self.username.clone()),
        }
    }
}

/// A parsed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Name of the grant.
    pub name: String,
    /// Who asks.
    pub requester: Identity,
    /// Who gets the access.
    pub subject: Subject,
    /// What is asked for; `None` means the policy's default.
    pub entitlements: Option<Vec<EntitlementRequest>>,
    /// Why.
    pub reason: String,
    /// For how long; `None` means the policy's default.
    pub duration: Option<Span>,
    /// Hard end.
    pub not_after: Option<Timestamp>,
    /// What it belongs to outside the cluster.
    pub references: Vec<Reference>,
}

impl Request {
    /// Parses a grant's spec, or says everything in it that cannot be read.
    pub fn parse(grant: &AccessGrant) -> Result<Self, Refusals> {
        let spec = &grant.spec;
        let mut refusals = Vec::new();
        let requester = spec.requester.as_ref().map(|requester| Identity {
            username: requester.username.clone(),
            groups: requester.groups.clone(),
        });
        if requester.is_none() {
            refusals.push(Refusal::new(
                reasons::REQUESTER_UNKNOWN,
                "spec.requester",
                "nobody attested who asks: give username and groups exactly as `kubectl auth whoami` prints them \
                 (clusters from 1.36 on fill them in)",
            ));
        }
        let duration = spec
            .duration
            .as_ref()
            .and_then(|text| match Span::try_from(text) {
                Ok(span) => Some(span),
                Err(error) => {
                    refusals.push(Refusal::new(
                        reasons::DURATION_INVALID,
                        "spec.duration",
                        error.to_string(),
                    ));
                    None
                }
            });
        let not_after = spec
            .not_after
            .as_ref()
            .and_then(|text| match text.parse::<Timestamp>() {
                // As it will be recorded: an end within the present microsecond has passed.
                Ok(timestamp) => Some(micro_time(timestamp).0),
                Err(error) => {
                    refusals.push(Refusal::new(
                        reasons::NOT_AFTER_INVALID,
                        "spec.notAfter",
                        format!("{text:?} is not a time: write it as 2026-12-01T18:00:00Z ({error})"),
                    ));
                    None
                }
            });
        Refusals::from_list(refusals)?;
        // Both hold a value here: an absent requester was refused above.
        let requester = requester.unwrap_or(Identity {
            username: String::new(),
            groups: Vec::new(),
        });
        let subject = spec.subject.clone().unwrap_or_else(|| requester.as_subject());
        Ok(Self {
            name: grant.metadata.name.clone().unwrap_or_default(),
            requester,
            subject,
            entitlements: spec.entitlements.clone(),
            reason: spec.reason.clone(),
            duration,
            not_after,
            references: spec.references.clone(),
        })
    }
}
