//! Types of expressions.

use std::fmt;

/// Type of an expression. `Display` gives the name in CEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Text,
    Duration,
    Time,
    Labels,
    Reference,
    List(Box<Self>),
}

impl Type {
    /// True if `==` can compare values of this type.
    pub fn is_plain(&self) -> bool {
        matches!(
            self,
            Self::Bool | Self::Int | Self::Text | Self::Duration | Self::Time
        )
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Text => "string",
            Self::Duration => "duration",
            Self::Time => "timestamp",
            Self::Labels => "map(string, string)",
            Self::Reference => "reference",
            Self::List(element) => return write!(f, "list({element})"),
        })
    }
}
