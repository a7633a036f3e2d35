//! Guards: what the API server itself refuses, for everybody and for Curfew as well, whether or not an operator runs.
//!
//! Each is an admission policy of Kubernetes and its binding: nothing to run, no certificates. They are generated
//! from one place, because names, labels and the cap of the cluster stand in many of them, and because the operator
//! compares what the cluster has with what it should have.
//!
//! None lists who may make access smaller: a guard that forbids the TTL controller to delete a fuse disarms it.

mod authors;
mod binding;
mod canary;
mod decision;
mod expression;
mod fuse;
mod grant;
mod hands;
mod identities;
mod identity;
mod manifest;
mod names;
mod pods;
mod requester;
mod role;
mod souvenirs;
mod status;
#[cfg(test)]
mod tests;

use super::Span;
use crate::api::NAME_PREFIX;

/// Name of the `ServiceAccount`, in the operator's namespace, as which the operator tries whether the guards hold, and
/// of its `ClusterRole`. No other `ServiceAccount` gives the operator a token.
pub const CANARY: &str = "curfew-canary";

/// What the guards are made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardSettings {
    /// The operator's namespace.
    pub namespace: String,
    /// Name of the operator's ServiceAccount there.
    pub operator: String,
    /// Name of the sweeper's ServiceAccount there.
    pub sweeper: String,
    /// Namespace of the identities that people act as.
    pub identities: String,
    /// The longest any access may last in this cluster.
    pub cap: Span,
    /// User names of others who may create what carries our label, such as a backup tool that restores. What they
    /// create is held to the same rules.
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

    /// The user name of the canary, as which the operator tries whether the guards hold.
    pub fn canary_username(&self) -> String {
        format!("system:serviceaccount:{}:{CANARY}", self.namespace)
    }

    /// What the user names of the identities start with.
    fn identity_prefix(&self) -> String {
        format!("system:serviceaccount:{}:", self.identities)
    }
}

/// Kind of a [`Guard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuardKind {
    /// A `MutatingAdmissionPolicy` (Kubernetes 1.36).
    MutatingPolicy,
    /// A `MutatingAdmissionPolicyBinding` (Kubernetes 1.36).
    MutatingBinding,
    /// A `ValidatingAdmissionPolicy` (Kubernetes 1.30).
    ValidatingPolicy,
    /// A `ValidatingAdmissionPolicyBinding` (Kubernetes 1.30).
    ValidatingBinding,
}

impl GuardKind {
    /// As Kubernetes writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MutatingPolicy => "MutatingAdmissionPolicy",
            Self::MutatingBinding => "MutatingAdmissionPolicyBinding",
            Self::ValidatingPolicy => "ValidatingAdmissionPolicy",
            Self::ValidatingBinding => "ValidatingAdmissionPolicyBinding",
        }
    }

    /// Whether it belongs to the part that fills in who asks, which is a convenience and no check.
    pub const fn mutates(self) -> bool {
        matches!(self, Self::MutatingPolicy | Self::MutatingBinding)
    }
}

/// One object of the API server that guards.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// Its kind.
    pub kind: GuardKind,
    /// Its name.
    pub name: String,
    /// The object. Its `spec` states every field that the API server would fill in, so that what is read back equals
    /// it.
    pub manifest: serde_json::Value,
}

/// Every guard, in an order that does not change, a policy before its binding.
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
        names::reserved(settings),
        hands::labelled_only(settings),
        hands::limits(settings),
        souvenirs::none(settings),
        souvenirs::no_token_secrets(settings),
        authors::hold_what_they_hand_out(settings),
        identities::nothing_lives_there(settings),
        canary::dry_runs_only(settings),
    ];
    filling.into_iter().chain(validating).flatten().collect()
}

/// Every guard is called so; what follows says which.
fn named(what: &str) -> String {
    format!("{NAME_PREFIX}{what}")
}
