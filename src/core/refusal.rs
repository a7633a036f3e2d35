//! Why a request is not granted.

use std::fmt;

/// One reason not to grant a request: which field, what was asked, what would be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Condition reason, one of [`crate::api::reasons`].
    pub reason: &'static str,
    /// Field of the grant that was refused, as a path; empty where it is not for what the grant says.
    pub field: String,
    /// What was asked and what would be accepted, as a sentence.
    pub message: String,
}

impl Refusal {
    /// A refusal of one field.
    pub fn new(reason: &'static str, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason,
            field: field.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// At least one [`Refusal`], in the order of the checks. All of them are given, so that a request is corrected
/// once and not once for each mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals {
    first: Refusal,
    rest: Vec<Refusal>,
}

impl Refusals {
    /// The refusals of a list, if there is any.
    pub fn from_list(list: Vec<Refusal>) -> Result<(), Self> {
        let mut list = list.into_iter();
        match list.next() {
            None => Ok(()),
            Some(first) => Err(Self {
                first,
                rest: list.collect(),
            }),
        }
    }

    /// The condition reason: that of the first check that failed.
    pub fn reason(&self) -> &'static str {
        self.first.reason
    }
}

impl From<Refusal> for Refusals {
    fn from(first: Refusal) -> Self {
        Self {
            first,
            rest: Vec::new(),
        }
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rest.is_empty() {
            return write!(f, "{}", self.first);
        }
        // Numbered, since each is a sentence with its own colons and semicolons.
        write!(f, "(1) {}", self.first)?;
        (2..)
            .zip(&self.rest)
            .try_for_each(|(number, refusal)| write!(f, " ({number}) {refusal}"))
    }
}
