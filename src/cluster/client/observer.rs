//! Observers of effects and transitions, for metrics.

use crate::cluster::client::error::Error;
use crate::core::decision::verdict::DecisionVerdict;
use crate::core::grant::revocation::DueRevocation;
use crate::core::guard::self_test::forgery::Forgery;
use crate::core::guard::self_test::trial::TrialOutcome;
use crate::core::plan::effect::EffectKind;
use crate::core::replica::retry::Class;

/// The outcome of one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Outcome {
    Applied,
    AlreadySo,
    Refused,
    Conflict,
    Failed,
    TimedOut,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 6] = [
        Self::Applied,
        Self::AlreadySo,
        Self::Refused,
        Self::Conflict,
        Self::Failed,
        Self::TimedOut,
    ];

    /// The outcome of an effect that failed.
    pub(crate) fn of(error: &Error) -> Self {
        match (error, error.class()) {
            (Error::TimedOut { .. }, _) => Self::TimedOut,
            (_, Class::Conflict) => Self::Conflict,
            (_, Class::Denied | Class::Invalid) => Self::Refused,
            (_, Class::Gone | Class::Throttled | Class::Transient) => Self::Failed,
        }
    }
}

/// Receives the outcome of each effect and transition, for metrics.
pub trait Observer: Send + Sync {
    /// An effect was tried.
    fn effect(&self, kind: EffectKind, outcome: Outcome);

    /// The self-test tried a forgery.
    fn forgery(&self, forgery: Forgery, outcome: TrialOutcome);

    /// Access came into force. `after` is the time since the operator first saw the request; `None` if an earlier
    /// process saw it first.
    fn activated(&self, after: Option<jiff::SignedDuration>);

    /// A decision got a verdict.
    fn judged(&self, judged: &DecisionVerdict);

    /// Access ended; `at` is the time of the proof of absence.
    fn ended(&self, ending: &DueRevocation, at: jiff::Timestamp);
}
