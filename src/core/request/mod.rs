//! A request, parsed: requester, subject, access and times.

pub mod caller;
pub mod refusal;

use jiff::Timestamp;

use crate::api::{AccessGrant, DurationText, EntitlementRequest, Reference, Subject, reasons};
use crate::core::request::caller::Caller;
use crate::core::request::refusal::{Refusal, Refusals};
use crate::core::time::duration::AccessDuration;
use crate::core::time::timestamp::micro_time;

/// Prefix of the user name under which the API server authenticates a service account.
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// A parsed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Name of the grant.
    pub name: String,
    /// The requester, attested by the API server.
    pub requester: Caller,
    /// User or service account that receives the access; the requester unless the grant names another one.
    pub subject: Subject,
    /// Requested entitlements; `None` means the policy's defaults.
    pub entitlements: Option<Vec<EntitlementRequest>>,
    /// Reason for the request, as written.
    pub reason: String,
    /// Requested access duration; `None` means the policy's default.
    pub duration: Option<AccessDuration>,
    /// Earliest start of the access; `None` means as soon as it is approved.
    pub not_before: Option<Timestamp>,
    /// Latest end of the access, whatever the duration.
    pub not_after: Option<Timestamp>,
    /// References to things outside the cluster, such as a ticket.
    pub references: Vec<Reference>,
}

impl Request {
    /// Parses the spec of a grant.
    ///
    /// # Errors
    /// Returns a refusal for each field that is missing or malformed.
    pub fn parse(grant: &AccessGrant) -> Result<Self, Refusals> {
        let spec = &grant.spec;
        let mut refusals = Vec::new();
        let requester = spec.requester.as_ref().map(Caller::from);
        if requester.is_none() {
            refusals.push(Refusal::new(
                reasons::REQUESTER_UNKNOWN,
                "spec.requester",
                "Curfew cannot verify who made this request: create it again. \
                 Before Kubernetes 1.36, also set username and groups exactly as `kubectl auth whoami` prints them",
            ));
        }
        let duration = parse_duration(spec.duration.as_ref(), &mut refusals);
        let mut time = |field: &str, reason: &'static str, text: &Option<String>| {
            parse_time(field, reason, text.as_deref(), &mut refusals)
        };
        let not_before = time("spec.notBefore", reasons::NOT_BEFORE_INVALID, &spec.not_before);
        let not_after = time("spec.notAfter", reasons::NOT_AFTER_INVALID, &spec.not_after);
        refusals.extend(start_after_end(not_before, not_after));
        Refusals::from_list(refusals)?;
        // Never the default: a missing requester was refused above.
        let requester = requester.unwrap_or(Caller {
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

fn parse_duration(text: Option<&DurationText>, refusals: &mut Vec<Refusal>) -> Option<AccessDuration> {
    match AccessDuration::try_from(text?) {
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
        // Microseconds, as recorded. Otherwise an end later in the current microsecond would count as a
        // future end.
        Ok(timestamp) => Some(micro_time(timestamp).0),
        Err(error) => {
            let message = format!("{text:?} is not a time: write it as 2026-12-01T18:00:00Z ({error})");
            refusals.push(Refusal::new(reason, field, message));
            None
        }
    }
}

fn start_after_end(not_before: Option<Timestamp>, not_after: Option<Timestamp>) -> Option<Refusal> {
    let (start, end) = (not_before?, not_after?);
    (start >= end).then(|| {
        Refusal::new(
            reasons::NOT_BEFORE_INVALID,
            "spec.notBefore",
            format!("{start} is not before spec.notAfter: name a time before {end}"),
        )
    })
}
