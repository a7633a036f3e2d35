//! Guards: admission policies with which the API server itself denies requests that would get around Curfew.
//!
//! A guard applies to everyone, to cluster administrators and to Curfew too, and needs no running operator. It is an
//! admission policy of Kubernetes and its binding: no webhook, no certificate.
//!
//! All guards are generated here, for two reasons. Names, labels and the fuse cap occur in many of them, and the
//! operator compares the installed guards with the generated ones.
//!
//! # Caveats
//!
//! No guard has a list of accounts that may reduce access. Such a list would have to name the TTL controller: if it
//! cannot delete a fuse, the fuse does not end access.

mod attestation;
mod authors;
mod binding;
mod canary;
mod cel;
mod decision;
mod fuse;
mod grant;
mod identities;
mod manifest;
mod own_accounts;
mod persistence;
mod pods;
mod requester;
mod reserved_names;
mod role;
pub mod self_test;
pub mod state;
mod status;
#[cfg(test)]
mod tests;

use crate::api::NAME_PREFIX;
use crate::core::time::duration::AccessDuration;

/// Name of the canary's `ServiceAccount`, in the operator's namespace, and of its `ClusterRole`. The operator tests the
/// guards as the canary. The operator may create tokens for no other `ServiceAccount`.
pub const CANARY: &str = "curfew-canary";

/// Names and limits of an installation that the guards contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardSettings {
    /// The operator's namespace.
    pub namespace: String,
    /// Name of the operator's `ServiceAccount` there.
    pub operator: String,
    /// Name of the sweeper's `ServiceAccount` there.
    pub sweeper: String,
    /// Namespace of the act-as accounts.
    pub identities: String,
    /// Fuse cap: the longest access duration in this cluster.
    pub cap: AccessDuration,
    /// User names that may also create objects with Curfew's label, such as the service account of a backup tool. The
    /// other guards apply to these objects too.
    pub creators: Vec<String>,
}

impl GuardSettings {
    /// The operator's user name.
    pub fn operator_username(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.operator)
    }

    /// The sweeper's user name.
    pub fn sweeper_username(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.sweeper)
    }

    /// The canary's user name.
    pub fn canary_username(&self) -> String {
        format!("system:serviceaccount:{}:{CANARY}", self.namespace)
    }

    /// Prefix of the user names of the act-as accounts.
    fn identity_prefix(&self) -> String {
        format!("system:serviceaccount:{}:", self.identities)
    }
}

/// Kind of a [`Guard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuardKind {
    /// `MutatingAdmissionPolicy`, since Kubernetes 1.36.
    MutatingPolicy,
    /// `MutatingAdmissionPolicyBinding`, since Kubernetes 1.36.
    MutatingBinding,
    /// `ValidatingAdmissionPolicy`, since Kubernetes 1.30.
    ValidatingPolicy,
    /// `ValidatingAdmissionPolicyBinding`, since Kubernetes 1.30.
    ValidatingBinding,
}

impl GuardKind {
    /// The `kind` field in Kubernetes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MutatingPolicy => "MutatingAdmissionPolicy",
            Self::MutatingBinding => "MutatingAdmissionPolicyBinding",
            Self::ValidatingPolicy => "ValidatingAdmissionPolicy",
            Self::ValidatingBinding => "ValidatingAdmissionPolicyBinding",
        }
    }

    /// True for the guards that fill in `spec.requester` and `spec.decider`. They are a convenience and check nothing.
    pub const fn mutates(self) -> bool {
        matches!(self, Self::MutatingPolicy | Self::MutatingBinding)
    }
}

/// One object of a guard: an admission policy or its binding.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// Kind of the object.
    pub kind: GuardKind,
    /// Name of the object; a policy and its binding have the same name.
    pub name: String,
    /// The whole object. Its `spec` sets each field that the API server would default, so the `spec` that is read back
    /// equals it.
    pub manifest: serde_json::Value,
}

/// All guards, always in the same order; each policy comes before its binding.
pub fn guards(settings: &GuardSettings) -> Vec<Guard> {
    let filling = [requester::fills_in(), decision::fills_in()];
    let validating = [
        requester::states_themselves(),
        grant::metadata(settings),
        decision::states_themselves(),
        decision::metadata(),
        status::by_the_operator(settings),
        fuse::only_burns(settings),
        pods::none_of_a_fuse(),
        binding::only_narrows(settings),
        role::never_changes(settings),
        reserved_names::reserved(settings),
        own_accounts::labelled_only(settings),
        own_accounts::limits(settings),
        persistence::none(settings),
        persistence::no_token_secrets(settings),
        authors::hold_what_they_hand_out(settings),
        identities::nothing_lives_there(settings),
        canary::dry_runs_only(settings),
    ];
    filling.into_iter().chain(validating).flatten().collect()
}

/// Name of a guard: the prefix of all guards and `suffix`.
fn named(suffix: &str) -> String {
    format!("{NAME_PREFIX}{suffix}")
}
