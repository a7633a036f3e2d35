//! Limit on the nesting of an expression, checked before the recursive parser runs. A stack overflow cannot be caught.

use std::iter::Peekable;
use std::str::CharIndices;

/// Maximum nesting of brackets and `?:`. The parser takes about 16 KiB of stack for each level. Without optimization it
/// takes 200 KiB, hence its profile in Cargo.toml. A thread of the operator has 2 MiB.
const MAX_NESTING: usize = 12;

/// Maximum number of operators and field selections in a row, added up over all open brackets. Each is one more level
/// of the parsed expression, and each function that walks the expression recurses once per level.
const MAX_CHAIN: usize = 64;

/// Error in a text that must not reach the parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Byte offset of the error.
    pub byte: usize,
    /// The error at that place, and what would be accepted.
    pub message: String,
}

/// Counters of one level: one level for the whole text, and one for each open bracket.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Operators since the last `&&`, `||`, `?`, `:` or `,`.
    chain: usize,
    /// Number of `?` in this bracket or argument. A `?:` extends to the end of its bracket or argument.
    choices: usize,
}

/// Rejects a text that nests too deeply.
///
/// Literals are read exactly as strictly as the parser reads them. Otherwise brackets could be hidden in a text that is
/// a literal here and an error in the parser.
pub(super) fn bounded(text: &str) -> Result<(), Unreadable> {
    let mut levels = vec![Level::default()];
    let mut word = String::new();
    let mut characters = text.char_indices().peekable();
    let refuse = |byte: usize, message: String| Err(Unreadable { byte, message });
    while let Some((at, character)) = characters.next() {
        let before = std::mem::take(&mut word);
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => {
                word = before;
                word.push(character);
                let ends = characters
                    .peek()
                    .is_none_or(|(_, next)| !next.is_ascii_alphanumeric() && *next != '_');
                if ends && word == "in" {
                    operator(&mut levels);
                }
            }
            '\'' | '"' => {
                let raw = ["r", "R", "br", "bR", "Br", "BR"].contains(&before.as_str());
                if let Err(message) = literal(&mut characters, text, at, character, raw) {
                    return refuse(at, message);
                }
            }
            '/' if characters.peek().is_some_and(|(_, next)| *next == '/') => {
                while characters.next_if(|(_, next)| *next != '\n').is_some() {}
            }
            '(' | '[' | '{' => levels.push(Level::default()),
            // The parser rejects a bracket that closes nothing.
            ')' | ']' | '}' if levels.len() > 1 => drop(levels.pop()),
            '&' | '|' | ':' => start_operand(&mut levels, false),
            ',' => start_operand(&mut levels, true),
            '?' => {
                start_operand(&mut levels, false);
                if let Some(level) = levels.last_mut() {
                    level.choices += 1;
                }
            }
            '.' | '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '!' => operator(&mut levels),
            _ => {}
        }
        let brackets = levels.len() - 1;
        let nesting = brackets + levels.iter().map(|level| level.choices).sum::<usize>();
        if nesting > MAX_NESTING {
            return refuse(
                at,
                format!("brackets and ?: nest more than {MAX_NESTING} deep; split the condition in two"),
            );
        }
        if levels.iter().map(|level| level.chain).sum::<usize>() > MAX_CHAIN {
            return refuse(
                at,
                format!("more than {MAX_CHAIN} operators follow one another; split the condition in two"),
            );
        }
    }
    Ok(())
}

fn operator(levels: &mut [Level]) {
    if let Some(level) = levels.last_mut() {
        level.chain += 1;
    }
}

/// Resets the operator count; a new argument also ends each `?:`.
fn start_operand(levels: &mut [Level], argument: bool) {
    if let Some(level) = levels.last_mut() {
        level.chain = 0;
        if argument {
            level.choices = 0;
        }
    }
}

/// Skips to the end of the literal that the quote at byte `at` opens.
fn literal(
    characters: &mut Peekable<CharIndices<'_>>,
    text: &str,
    at: usize,
    quote: char,
    raw: bool,
) -> Result<(), String> {
    let no_end = || format!("this string has no end: close it with {quote} on the same line");
    let long = text
        .get(at..)
        .is_some_and(|rest| rest.chars().take(3).eq([quote; 3]));
    if long {
        characters.next();
        characters.next();
    }
    let mut quotes = 0;
    while let Some((_, character)) = characters.next() {
        match character {
            _ if character == quote => {
                quotes += 1;
                if !long || quotes == 3 {
                    return Ok(());
                }
                continue;
            }
            '\n' | '\r' if !long => return Err(no_end()),
            '\\' if !raw => {
                let escaped = characters.next().map(|(_, escaped)| escaped);
                if !escaped.is_some_and(|escaped| "abfnrtv\\'\"`?".contains(escaped)) {
                    return Err(
                        r"\ must be followed by one of a b f n r t v \ ' and quotes; in a pattern write \\ or r'...'"
                            .to_owned(),
                    );
                }
            }
            _ => {}
        }
        quotes = 0;
    }
    Err(no_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        bounded(text).unwrap_err().message
    }

    #[test]
    fn usual_expressions_are_accepted() {
        for text in [
            "request.reason.matches('PAY-[0-9]+') && request.duration <= duration('2h')",
            r#"requester.groups.exists(g, g in ["a", 'b']) || has(request.notAfter)"#,
            r"request.reason.matches(r'\d+') // why, (((((((((((((((((((",
            "'''a ' (( \n \"'''.size() == 1",
            r"'it\'s (((((((((((((((((((((('.size() > 1",
        ] {
            assert_eq!(bounded(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn brackets_and_choices_share_one_limit() {
        let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(bounded(&nested(MAX_NESTING)), Ok(()));
        assert!(refused(&nested(MAX_NESTING + 1)).contains("nest more than 12 deep"));
        assert!(refused(&"true ? 1 : ".repeat(13)).contains("nest more than 12 deep"));
        assert!(refused(&format!("{}(", "f(true ? [".repeat(4))).contains("nest more than 12 deep"));
        assert_eq!(bounded(&"f(true ? 1 : 2), ".repeat(40)), Ok(()));
    }

    #[test]
    fn an_operator_chain_ends_at_a_logical_operator() {
        assert!(refused(&"a.".repeat(65)).contains("more than 64 operators"));
        assert!(refused(&"1+".repeat(65)).contains("more than 64 operators"));
        assert!(refused(&"1 in ".repeat(65)).contains("more than 64 operators"));
        assert_eq!(bounded(&"a.b == c && ".repeat(100)), Ok(()));
    }

    #[test]
    fn a_malformed_literal_hides_no_brackets() {
        assert!(refused("'\n((((((((((((((((((((((((((((((").contains("no end"));
        assert!(refused(r"'\q((((((((((((((((((((((((((((((('").contains("\\ must be followed by"));
        assert!(refused("'''((((((((((((((((((''").contains("no end"));
        assert!(refused("for'' ((((((((((((((((((((((((((").contains("nest"));
    }
}
