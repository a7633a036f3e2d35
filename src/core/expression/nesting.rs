//! How deeply an expression nests, found out before a parser recurses over it: a stack that overflows cannot be
//! caught.

use std::iter::Peekable;
use std::str::CharIndices;

/// Brackets and `?:` within one another. The parser takes some 16 KiB of stack for each (200 KiB where it is not
/// optimized at all, hence its profile in Cargo.toml), of the 2 MiB that a thread of the operator has.
const MAX_NESTING: usize = 12;

/// Operators and field selections in a row, over all brackets that are open: each is one level more of the parsed
/// expression, over which everything that walks it recurses.
const MAX_CHAIN: usize = 64;

/// Why a text is not handed to the parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Where, in bytes from the beginning.
    pub byte: usize,
    /// What is wrong there and what would be accepted.
    pub message: String,
}

/// What stands open at one place: one for the whole text, and one for each open bracket.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Operators since the last thing that begins anew.
    chain: usize,
    /// `?` that nothing has closed: a `?:` reaches to the end of its bracket or argument.
    choices: usize,
}

/// Refuses what nests too deeply. Literals are read as strictly as the parser does: in one it took for an error,
/// brackets would count.
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
            // One that closes nothing is for the parser to refuse.
            ')' | ']' | '}' if levels.len() > 1 => drop(levels.pop()),
            '&' | '|' | ':' => anew(&mut levels, false),
            ',' => anew(&mut levels, true),
            '?' => {
                anew(&mut levels, false);
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

fn anew(levels: &mut [Level], argument: bool) {
    if let Some(level) = levels.last_mut() {
        level.chain = 0;
        if argument {
            level.choices = 0;
        }
    }
}

/// Reads to the end of the literal that a quote at `at` opened.
fn literal(
    characters: &mut Peekable<CharIndices<'_>>,
    text: &str,
    at: usize,
    quote: char,
    raw: bool,
) -> Result<(), String> {
    let unended = || format!("this literal has no end: it ends with {quote} on the same line");
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
            '\n' | '\r' if !long => return Err(unended()),
            '\\' if !raw => {
                let escaped = characters.next().map(|(_, escaped)| escaped);
                if !escaped.is_some_and(|escaped| "abfnrtv\\'\"`?".contains(escaped)) {
                    return Err(
                        r"after \ comes one of a b f n r t v \ ' and quotes; in a pattern write \\ or r'...'"
                            .to_owned(),
                    );
                }
            }
            _ => {}
        }
        quotes = 0;
    }
    Err(unended())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        bounded(text).unwrap_err().message
    }

    #[test]
    fn what_people_write_is_read() {
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
    fn brackets_and_choices_are_counted_together() {
        let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(bounded(&nested(MAX_NESTING)), Ok(()));
        assert!(refused(&nested(MAX_NESTING + 1)).contains("nest more than 12 deep"));
        assert!(refused(&"true ? 1 : ".repeat(13)).contains("nest more than 12 deep"));
        assert!(refused(&format!("{}(", "f(true ? [".repeat(4))).contains("nest more than 12 deep"));
        assert_eq!(bounded(&"f(true ? 1 : 2), ".repeat(40)), Ok(()));
    }

    #[test]
    fn operators_in_a_row_are_counted_until_something_begins_anew() {
        assert!(refused(&"a.".repeat(65)).contains("more than 64 operators"));
        assert!(refused(&"1+".repeat(65)).contains("more than 64 operators"));
        assert!(refused(&"1 in ".repeat(65)).contains("more than 64 operators"));
        assert_eq!(bounded(&"a.b == c && ".repeat(100)), Ok(()));
    }

    #[test]
    fn nothing_hides_in_a_literal_that_is_none() {
        assert!(refused("'\n((((((((((((((((((((((((((((((").contains("no end"));
        assert!(refused(r"'\q((((((((((((((((((((((((((((((('").contains("after \\ comes"));
        assert!(refused("'''((((((((((((((((((''").contains("no end"));
        assert!(refused("for'' ((((((((((((((((((((((((((").contains("nest"));
    }
}
