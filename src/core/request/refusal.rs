//! Reasons to deny a request.

use std::fmt;

/// One reason to deny a request: the field, its value, and what would be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Reason of the condition, one of [`crate::api::reasons`].
    pub reason: &'static str,
    /// Path of the field in the grant; empty if the reason is not a field of the grant.
    pub field: String,
    /// The value and what would be accepted, as a sentence.
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

/// One or more [`Refusal`]s, in the order of the checks. All of them are reported at once: a requester
/// corrects the request one time, not once for each mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals {
    first: Refusal,
    rest: Vec<Refusal>,
}

impl Refusals {
    /// `Err` with the refusals of a list; `Ok` if the list is empty.
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

    /// Reason of the condition: that of the first failed check.
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
        // Numbered, because each refusal is a sentence with colons and semicolons of its own.
        write!(f, "(1) {}", self.first)?;
        (2..)
            .zip(&self.rest)
            .try_for_each(|(number, refusal)| write!(f, " ({number}) {refusal}"))
    }
}
