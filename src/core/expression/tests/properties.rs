//! Properties: parsing any text gives a result, and an accepted expression has the value that the `cel` crate gives it.

use std::collections::BTreeMap;

use cel::{Context, Program, Value};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::api::Subject;
use crate::core::request::Request;
use crate::core::request::caller::Caller;
use crate::core::testing::{at, now, strings};
use crate::core::time::duration::AccessDuration;

/// Tokens of the language, and texts that are not tokens.
const TOKENS: [&str; 54] = [
    "request",
    ".reason",
    ".matches(",
    "'PAY-[0-9]+'",
    "requester",
    ".groups",
    ".exists(",
    "g, ",
    "g",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "'''",
    "\\",
    "r'",
    "b'",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "==",
    "<=",
    "<",
    "=",
    "?",
    ":",
    ",",
    ".",
    " in ",
    "true",
    "1",
    "0x",
    "1.5",
    "1u",
    "null",
    "now",
    "duration('1h')",
    "\n",
    "// ",
    "é",
    "\u{0}",
    "`",
    "has(",
    "size(",
    "a.b",
];

fn request() -> Request {
    Request {
        name: "pay-123".to_owned(),
        requester: Caller {
            username: "alice".to_owned(),
            groups: strings(&["devs", "leads", "a"]),
        },
        subject: Subject::user("alice"),
        entitlements: None,
        reason: "PAY-123".to_owned(),
        duration: None,
        not_before: None,
        not_after: None,
        references: Vec::new(),
    }
}

fn ours(expression: &Expression) -> Result<bool, String> {
    let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
    let held = expression.holds(&Variables {
        request: &request(),
        duration: AccessDuration::parse("1h").unwrap(),
        entitlements: Vec::new(),
        namespace_name: "prod",
        namespace_labels: &labels,
        policy_name: "prod-debug",
        policy_labels: &BTreeMap::new(),
        now: now(),
    });
    held.map_err(|failure| failure.to_string())
}

fn theirs(text: &str) -> Result<bool, String> {
    let mut context = Context::default();
    let mut set = |name: &str, value: serde_json::Value| {
        context.add_variable_from_value(name, cel::to_value(value).unwrap());
    };
    set(
        "request",
        serde_json::json!({"name": "pay-123", "reason": "PAY-123"}),
    );
    set(
        "requester",
        serde_json::json!({"username": "alice", "groups": ["devs", "leads", "a"]}),
    );
    set(
        "namespaceObject",
        serde_json::json!({"name": "prod", "labels": {"env": "prod"}}),
    );
    match Program::compile(text).unwrap().execute(&context) {
        Ok(Value::Bool(held)) => Ok(held),
        Ok(other) => panic!("{text} is {other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

/// Three expressions: one of type int, one string, one bool.
#[derive(Clone, Debug)]
struct Typed {
    int: String,
    text: String,
    bool: String,
}

#[allow(clippy::too_many_lines, reason = "a table of productions")]
fn typed() -> impl Strategy<Value = Typed> {
    let leaf = (
        select(vec!["0", "1", "2", "-3", "9223372036854775807"]),
        select(vec![
            "'a'",
            "'devs'",
            "''",
            "'PAY-123'",
            "'äß'",
            "request.reason",
            "requester.username",
            "requester.groups[0]",
            "requester.groups[7]",
            "namespaceObject.labels.env",
            "namespaceObject.labels['x']",
        ]),
        select(vec![
            "true",
            "false",
            "'env' in namespaceObject.labels",
            "has(namespaceObject.labels.x)",
            "'leads' in requester.groups",
        ]),
    );
    let leaf = leaf.prop_map(|(int, text, bool)| Typed {
        int: int.to_owned(),
        text: text.to_owned(),
        bool: bool.to_owned(),
    });
    leaf.prop_recursive(3, 24, 3, |inner| {
        let operators = (
            select(vec!["+", "-", "*", "/", "%"]),
            select(vec!["==", "!=", "<", "<=", ">", ">="]),
        );
        let kinds = (0..5_u8, 0..5_u8, 0..11_u8, select(vec!["g", "h", "i", "j"]));
        (inner.clone(), inner.clone(), inner, operators, kinds).prop_map(
            |(a, b, c, (calculate, compare), kinds)| {
                let x = kinds.3;
                let int = match kinds.0 {
                    0 => format!("({} {calculate} {})", a.int, b.int),
                    1 => format!("size({})", a.text),
                    2 => format!("({} ? {} : {})", a.bool, b.int, c.int),
                    3 => format!("[{}, {}][{}]", a.int, b.int, c.int),
                    _ => format!("requester.groups.map({x}, size({x} + {})).size()", a.text),
                };
                let text = match kinds.1 {
                    0 => format!("({} + {})", a.text, b.text),
                    1 => format!("({} ? {} : {})", a.bool, b.text, c.text),
                    2 => format!("requester.groups[{}]", a.int),
                    3 => format!("requester.groups.filter({x}, {x} != {})[0]", a.text),
                    _ => format!("requester.groups.map({x}, {x} + {})[{}]", a.text, b.int),
                };
                let bool = match kinds.2 {
                    0 => format!("({} && {})", a.bool, b.bool),
                    1 => format!("({} || {})", a.bool, b.bool),
                    2 => format!("!({})", a.bool),
                    3 => format!("({} {compare} {})", a.int, b.int),
                    4 => format!("({} {compare} {})", a.text, b.text),
                    5 => format!("{}.startsWith({})", a.text, b.text),
                    6 => format!("{}.contains({})", a.text, b.text),
                    7 => format!("({} in [{}, {}])", a.int, b.int, c.int),
                    8 => format!("requester.groups.all({x}, {x} != {} || {})", a.text, b.bool),
                    9 => format!("requester.groups.exists({x}, {x} == {} && {})", a.text, b.bool),
                    _ => format!("requester.groups.exists_one({x}, {x}.endsWith({}))", a.text),
                };
                Typed { int, text, bool }
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_gives_a_result(text in "\\PC{0,200}") {
        let answer = Expression::parse(&text).map(|_| ());
        prop_assert!(!answer.is_err_and(|malformed| malformed.message.contains("the parser cannot read this")));
    }

    #[test]
    fn tokens_in_any_order_give_a_result(pieces in prop::collection::vec(select(&TOKENS[..]), 0..120)) {
        let text = pieces.concat();
        if let Err(malformed) = Expression::parse(&text) {
            prop_assert!(!malformed.message.contains("the parser cannot read this"), "{text:?}");
            let lines: Vec<&str> = text.split('\n').collect();
            prop_assert!(malformed.line <= lines.len() + 1, "{text:?}: {malformed}");
        }
    }

    #[test]
    fn accepted_expressions_have_the_value_of_the_cel_crate(typed in typed()) {
        let text = typed.bool;
        // A random text may nest too deeply or use a name twice.
        let expression = Expression::parse(&text);
        prop_assume!(expression.is_ok(), "{:?}", expression);
        let (ours, theirs) = (ours(&expression.unwrap()), theirs(&text));
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs, "{}", text),
            (Err(_), Err(_)) => {}
            _ => prop_assert!(false, "{}: ours {:?}, theirs {:?}", text, ours, theirs),
        }
    }

    #[test]
    fn a_reason_is_only_a_value(reason in "\\PC{0,100}") {
        let mut request = request();
        request.reason.clone_from(&reason);
        let none = BTreeMap::new();
        let evidence = Variables {
            request: &request,
            duration: AccessDuration::parse("1h").unwrap(),
            entitlements: Vec::new(),
            namespace_name: "prod",
            namespace_labels: &none,
            policy_name: "prod-debug",
            policy_labels: &none,
            now: at("2026-12-01T09:00:00Z"),
        };
        let holds = |text: &str| Expression::parse(text).unwrap().holds(&evidence);
        prop_assert_eq!(holds("request.reason.matches('^PAY-[0-9]+$')"), Ok(
            reason.strip_prefix("PAY-").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
        ));
        prop_assert_eq!(holds("request.reason == 'PAY-1' || false"), Ok(reason == "PAY-1"));
    }
}
