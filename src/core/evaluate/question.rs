//! Input of the checks: one request, its policy and one instant.

use jiff::Timestamp;

use crate::core::facts::{Input, NamespaceFacts};
use crate::core::policy::Policy;
use crate::core::request::Request;
use crate::core::settings::Settings;
use crate::core::time::duration::AccessDuration;

/// Everything that the checks read.
#[derive(Clone, Copy, Debug)]
pub struct CheckInput<'a> {
    /// The request.
    pub request: &'a Request,
    /// The policy that the request names.
    pub policy: &'a Policy,
    /// Name of the grant's namespace.
    pub namespace_name: &'a str,
    /// Facts about that namespace; `None` if it is gone.
    pub namespace: Option<&'a NamespaceFacts>,
    /// Configuration of the operator.
    pub settings: &'a Settings,
    /// Instant of the evaluation (UTC).
    pub now: Timestamp,
    /// When the access would start: `now`, or `spec.notBefore` if that is later.
    pub start: Timestamp,
}

impl CheckInput<'_> {
    /// Access duration: as requested, or the policy's default.
    pub fn duration(&self) -> AccessDuration {
        self.request.duration.unwrap_or(self.policy.default_duration)
    }
}

impl<'a> Input<'a> {
    /// Input for the checks of this grant's request at `now`. The start is never before `now`.
    pub(crate) fn question(
        &self,
        request: &'a Request,
        policy: &'a Policy,
        now: Timestamp,
    ) -> CheckInput<'a> {
        CheckInput {
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
