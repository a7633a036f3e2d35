//! Boolean expressions of policies, in the Common Expression Language (CEL).
//!
//! ```text
//! text ─► nesting    rejects a text that nests too deeply for a recursive parser
//!      ─► cel        parses the grammar of CEL, with the `cel` crate
//!      ─► check      checks names, types and literals
//!      ─► evaluate   evaluates on the facts of one request, with a limit of steps
//! ```
//!
//! Only the parser of the `cel` crate is used. Its evaluation has no limit of steps, compiles patterns again for each
//! text, and contains a second time zone database. The parsed expression becomes a typed tree. Its evaluation can fail
//! only for a missing label or field, an index, an overflow, a division by zero or too many steps.

mod check;
pub mod evaluate;
mod functions;
mod nesting;
mod node;
mod types;
pub mod variables;

use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::Env;

use crate::core::expression::node::Node;
use crate::core::expression::types::Type;

pub use crate::core::expression::evaluate::Failure;
pub use crate::core::expression::variables::Variables;

/// Maximum length of an expression in characters, as in the CRD.
pub const MAX_LENGTH: usize = 2048;

/// Maximum length of a parser message in characters. The parser lists each token that it would accept.
const MAX_PARSER_MESSAGE: usize = 200;

/// A parsed boolean expression.
#[derive(Clone, Debug)]
pub struct Expression(Node);

/// Error in the text of an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Malformed {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// The error at that place, and what would be accepted.
    pub message: String,
}

impl Malformed {
    /// Error at a byte offset of the text.
    fn at(text: &str, byte: usize, message: impl Into<String>) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: message.into(),
        }
    }
}

impl Expression {
    /// Parses and checks a text. Takes a few milliseconds at most, and needs a stack of 1 MiB.
    ///
    /// # Errors
    ///
    /// The first error in the text.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if let Some((end, _)) = text.char_indices().nth(MAX_LENGTH) {
            let message = format!("an expression has at most {MAX_LENGTH} characters");
            return Err(Malformed::at(text, end, message));
        }
        nesting::bounded(text)
            .map_err(|unreadable| Malformed::at(text, unreadable.byte, unreadable.message))?;
        let (node, found) = parse_without_panic(text, || {
            let parser = Env::default().with_optional_support(false).parser();
            match parser.parse_with_source_info(text) {
                Ok((expression, source)) => check::check(text, &source, &expression),
                Err(errors) => Err(first_error(text, &errors)),
            }
        })?;
        if found != Type::Bool {
            let message = format!("a condition is true or false; this is {found}");
            return Err(Malformed::at(text, 0, message));
        }
        Ok(Self(node))
    }

    /// Value of the expression for one request.
    ///
    /// # Errors
    ///
    /// Why the expression has no value.
    pub fn holds(&self, evidence: &Variables<'_>) -> Result<bool, Failure> {
        evaluate::holds(&self.0, evidence)
    }
}

/// Result of `parse`, or an error if it panics. The parser is large and generated; a panic must not end the operator.
fn parse_without_panic<T>(text: &str, parse: impl FnOnce() -> Result<T, Malformed>) -> Result<T, Malformed> {
    catch_unwind(AssertUnwindSafe(parse))
        .unwrap_or_else(|_| Err(Malformed::at(text, 0, "the parser cannot read this")))
}

/// First error of the parser.
fn first_error(text: &str, errors: &cel::ParseErrors) -> Malformed {
    let Some(error) = errors.errors.first() else {
        return Malformed::at(text, 0, "this cannot be parsed");
    };
    let position = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
    let parser_message = error.msg.trim_start_matches("Syntax error: ");
    let message = if parser_message.ends_with("reserved identifier: namespace") {
        "namespace is a reserved word of CEL; write namespaceObject".to_owned()
    } else if parser_message.chars().count() > MAX_PARSER_MESSAGE {
        let kept: String = parser_message.chars().take(MAX_PARSER_MESSAGE).collect();
        format!("{kept}...")
    } else {
        parser_message.to_owned()
    };
    Malformed {
        line: position(error.pos.0),
        column: position(error.pos.1),
        message,
    }
}

#[cfg(test)]
#[path = "tests/properties.rs"]
mod properties;
#[cfg(test)]
#[path = "tests/table.rs"]
mod tests;
