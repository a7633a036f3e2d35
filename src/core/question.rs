//! The question whether a policy admits a request at an instant.

use jiff::Timestamp;

use super::{Input, NamespaceFacts, Policy, Request, Settings, Span};

/// What the checks look at.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The request.
    pub request: &'a Request,
    /// The policy it names.
    pub policy: &'a Policy,
    /// Name of the namespace it stands in.
    pub namespace_name: &'a str,
    /// That namespace, unless it is gone.
    pub namespace: Option<&'a NamespaceFacts>,
    /// What the operator was told.
    pub settings: &'a Settings,
    /// The instant of judgement.
    pub now: Timestamp,
    /// When the access would start: now, or when the request asks for it.
    pub start: Timestamp,
}

impl Question<'_> {
    /// How long the access would last.
    pub fn duration(&self) -> Span {
        self.request.duration.unwrap_or(self.policy.default_duration)
    }
}

impl<'a> Input<'a> {
    /// The question whether a policy admits a request of this grant.
    pub(super) fn question(&self, request: &'a Request, policy: &'a Policy, now: Timestamp) -> Question<'a> {
        Question {
            request,
            policy,
            namespace_name: self.grant.metadata.namespace.as_deref().unwrap_or_default(),
            namespace: self.namespace,
            settings: self.settings,
            now,
            start: request.not_before.map_or(now, |not_before| not_before.max(now)),
        }
    }
}
