//! Verdict: counted, ignored or waiting.

use jiff::Timestamp;

use crate::api::{AccessDecisionStatus, Blocks, conditions, reasons};
use crate::core::conditions::condition;
use crate::core::decision::{Decision, MESSAGE_LENGTH};

/// Whether a decision counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counting {
    /// The decision had an effect. Final.
    Counted,
    /// The decision has no effect. Final.
    Ignored,
    /// The decision waits for its stage.
    Waiting,
}

impl Counting {
    /// Status of the condition `Counted`.
    pub(crate) const fn status(self) -> &'static str {
        match self {
            Self::Counted => "True",
            Self::Ignored => "False",
            Self::Waiting => "Unknown",
        }
    }
}

/// Verdict on a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the decision counts.
    pub standing: Counting,
    /// Reason of the condition `Counted`.
    pub reason: &'static str,
    /// Message for people, at most 512 characters.
    pub message: String,
    /// The request that the decision blocks from now on.
    pub blocks: Option<Blocks>,
}

impl Verdict {
    /// Verdict: the decision had an effect.
    pub fn counted(message: impl Into<String>) -> Self {
        Self::new(Counting::Counted, reasons::COUNTED, message)
    }

    /// Verdict: the decision has no effect.
    pub fn ignored(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Counting::Ignored, reason, message)
    }

    /// Verdict: the decision waits for its stage.
    pub fn waiting(message: impl Into<String>) -> Self {
        Self::new(Counting::Waiting, reasons::STAGE_NOT_REACHED, message)
    }

    fn new(standing: Counting, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            standing,
            reason,
            message: message.into().chars().take(MESSAGE_LENGTH).collect(),
            blocks: None,
        }
    }

    /// The verdict as the status of the decision.
    pub fn status(&self, at: Timestamp) -> AccessDecisionStatus {
        // The spec never changes.
        let generation = Some(1);
        let wanted = (
            conditions::COUNTED,
            self.standing.status(),
            self.reason,
            self.message.as_str(),
        );
        AccessDecisionStatus {
            observed_generation: generation,
            conditions: vec![condition(&[], &wanted, generation, at)],
            blocks: self.blocks.clone(),
        }
    }
}

/// A decision and the verdict on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionVerdict {
    /// The decision.
    pub decision: Decision,
    /// The verdict on it.
    pub verdict: Verdict,
}
