//! Boolean expressions of policies, in the Common Expression Language (CEL).
//!
//! ```text
//! text ─► nesting    too deep for a parser that recurses? then it never sees it
//!      ─► cel        the language's own grammar, from the `cel` crate
//!      ─► check      names, types and literals; what is left cannot be wrong about them
//!      ─► evaluate   on the facts of one request, by counted steps
//! ```
//!
//! The crate's own evaluation has no bound of steps, compiles patterns anew for each text, and brings a second time
//! zone database. So only its parser is used, and what it parsed becomes a tree with types, in which little is left
//! that can fail: a label or an end that is not there, an index, an overflow.

mod check;
mod evaluate;
mod functions;
mod nesting;
mod node;
mod types;
mod variables;

use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::Env;

pub use evaluate::Failure;
pub use variables::Evidence;

use node::Node;
use types::Type;

/// Characters of an expression, as in the CRD.
pub const MAX_LENGTH: usize = 2048;

/// Characters of what a parser says that are kept of it: it lists everything it would have accepted.
const MAX_PARSER_MESSAGE: usize = 200;

/// A parsed boolean expression.
#[derive(Clone, Debug)]
pub struct Expression(Node);

/// Why a text is no boolean expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Malformed {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong there and what would be accepted.
    pub message: String,
}

impl Malformed {
    /// Something wrong at a byte of the text.
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
    /// Parses a text, or says the first thing that is wrong with it. Takes some milliseconds at most, and a stack
    /// of 1 MiB.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if let Some((end, _)) = text.char_indices().nth(MAX_LENGTH) {
            let message = format!("an expression has at most {MAX_LENGTH} characters");
            return Err(Malformed::at(text, end, message));
        }
        nesting::bounded(text)
            .map_err(|unreadable| Malformed::at(text, unreadable.byte, unreadable.message))?;
        let (node, found) = survived(text, || {
            let parser = Env::default().with_optional_support(false).parser();
            match parser.parse_with_source_info(text) {
                Ok((expression, source)) => check::check(text, &source, &expression),
                Err(errors) => Err(first(text, &errors)),
            }
        })?;
        if found != Type::Bool {
            let message = format!("a condition is true or false; this is {found}");
            return Err(Malformed::at(text, 0, message));
        }
        Ok(Self(node))
    }

    /// Whether it holds, or why that cannot be told.
    pub fn holds(&self, evidence: &Evidence<'_>) -> Result<bool, Failure> {
        evaluate::holds(&self.0, evidence)
    }
}

/// What parsing answers. The parser is a large generated one; what it does not survive must not end the operator.
fn survived<T>(text: &str, parse: impl FnOnce() -> Result<T, Malformed>) -> Result<T, Malformed> {
    catch_unwind(AssertUnwindSafe(parse))
        .unwrap_or_else(|_| Err(Malformed::at(text, 0, "the parser cannot read this")))
}

/// The first thing the parser says.
fn first(text: &str, errors: &cel::ParseErrors) -> Malformed {
    let Some(error) = errors.errors.first() else {
        return Malformed::at(text, 0, "this cannot be parsed");
    };
    let position = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
    let said = error.msg.trim_start_matches("Syntax error: ");
    let message = if said.ends_with("reserved identifier: namespace") {
        "namespace is a reserved word of CEL; write namespaceObject".to_owned()
    } else if said.chars().count() > MAX_PARSER_MESSAGE {
        let kept: String = said.chars().take(MAX_PARSER_MESSAGE).collect();
        format!("{kept}...")
    } else {
        said.to_owned()
    };
    Malformed {
        line: position(error.pos.0),
        column: position(error.pos.1),
        message,
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
