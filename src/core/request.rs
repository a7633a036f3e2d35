//! A request, parsed: who asks, for whom, for what and until when.

use jiff::Timestamp;

use super::status::micro_time;
use super::{Refusal, Refusals, Span};
use crate::api::{
    AccessGrant, DurationText, EntitlementRequest, Principal, PrincipalKind, Reference, Subject, UserInfo,
    reasons,
};

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

impl From<&UserInfo> for Identity {
    fn from(user: &UserInfo) -> Self {
        Self {
            username: user.username.clone(),
            groups: user.groups.clone(),
        }
    }
}

impl Identity {
    /// Namespace and name, if this is a service account.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.username
            .strip_prefix(SERVICE_ACCOUNT_PREFIX)?
            .split_once(':')
    }

    /// The first of these that is this identity, or a group it is in.
    pub fn listed_in<'a>(&self, principals: &'a [Principal]) -> Option<&'a Principal> {
        principals.iter().find(|principal| match principal.kind {
            PrincipalKind::User => self.service_account().is_none() && principal.name == self.username,
            PrincipalKind::Group => self.groups.contains(&principal.name),
            PrincipalKind::ServiceAccount => {
                self.service_account()
                    == Some((
                        principal.namespace.as_deref().unwrap_or_default(),
                        principal.name.as_str(),
                    ))
            }
        })
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
    /// Not before.
    pub not_before: Option<Timestamp>,
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
        let requester = spec.requester.as_ref().map(Identity::from);
        if requester.is_none() {
            refusals.push(Refusal::new(
                reasons::REQUESTER_UNKNOWN,
                "spec.requester",
                "Curfew cannot verify who made this request: create it again. Before Kubernetes 1.36, also set username and \
                 groups exactly as `kubectl auth whoami` prints them",
            ));
        }
        let duration = parse_duration(spec.duration.as_ref(), &mut refusals);
        let mut time = |field: &str, reason: &'static str, text: &Option<String>| {
            parse_time(field, reason, text.as_deref(), &mut refusals)
        };
        let not_before = time("spec.notBefore", reasons::NOT_BEFORE_INVALID, &spec.not_before);
        let not_after = time("spec.notAfter", reasons::NOT_AFTER_INVALID, &spec.not_after);
        refusals.extend(out_of_order(not_before, not_after));
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
            not_before,
            not_after,
            references: spec.references.clone(),
        })
    }
}

fn parse_duration(text: Option<&DurationText>, refusals: &mut Vec<Refusal>) -> Option<Span> {
    match Span::try_from(text?) {
        Ok(duration) => Some(duration),
        Err(error) => {
            refusals.push(Refusal::new(
                reasons::DURATION_INVALID,
                "spec.duration",
                error.to_string(),
            ));
            None
        }
    }
}

fn parse_time(
    field: &str,
    reason: &'static str,
    text: Option<&str>,
    refusals: &mut Vec<Refusal>,
) -> Option<Timestamp> {
    let text = text?;
    match text.parse::<Timestamp>() {
        // Microseconds, as recorded: otherwise an end within the current microsecond would pass as a future one.
        Ok(timestamp) => Some(micro_time(timestamp).0),
        Err(error) => {
            let message = format!("{text:?} is not a time: write it as 2026-12-01T18:00:00Z ({error})");
            refusals.push(Refusal::new(reason, field, message));
            None
        }
    }
}

fn out_of_order(not_before: Option<Timestamp>, not_after: Option<Timestamp>) -> Option<Refusal> {
    let (start, end) = (not_before?, not_after?);
    (start >= end).then(|| {
        Refusal::new(
            reasons::NOT_BEFORE_INVALID,
            "spec.notBefore",
            format!("{start} is not before spec.notAfter: name a time before {end}"),
        )
    })
}
