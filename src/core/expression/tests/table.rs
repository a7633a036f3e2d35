//! Tests: table, properties.

use std::collections::BTreeMap;

use super::*;
use crate::api::{Reference, Subject};
use crate::core::request::Request;
use crate::core::request::caller::Caller;
use crate::core::testing::{at, strings};
use crate::core::time::duration::AccessDuration;

/// A request, its namespace and its policy: the variables of the expressions in these tests.
struct Asked {
    request: Request,
    namespace: BTreeMap<String, String>,
    policy: BTreeMap<String, String>,
}

impl Asked {
    fn new() -> Self {
        let label = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        Self {
            request: Request {
                name: "pay-123".to_owned(),
                requester: Caller {
                    username: "alice@example.com".to_owned(),
                    groups: strings(&["payments-devs", "system:authenticated"]),
                },
                subject: Subject::user("alice@example.com"),
                entitlements: None,
                reason: "PAY-123 checkout returns 500".to_owned(),
                duration: None,
                not_before: None,
                not_after: None,
                references: vec![Reference {
                    kind: "Ticket".to_owned(),
                    id: "PAY-123".to_owned(),
                }],
            },
            namespace: label("env", "prod"),
            policy: label("tier", "gold"),
        }
    }

    fn because(reason: impl Into<String>) -> Self {
        let mut asked = Self::new();
        asked.request.reason = reason.into();
        asked
    }

    fn of_groups(groups: impl IntoIterator<Item = String>) -> Self {
        let mut asked = Self::new();
        asked.request.requester.groups = groups.into_iter().collect();
        asked
    }

    fn evaluate(&self, text: &str) -> Result<bool, Failure> {
        Expression::parse(text)
            .unwrap_or_else(|malformed| panic!("{text}: {malformed}"))
            .holds(&Variables {
                request: &self.request,
                duration: AccessDuration::parse("90m").unwrap(),
                entitlements: strings(&["look"]),
                namespace_name: "prod",
                namespace_labels: &self.namespace,
                policy_name: "prod-debug",
                policy_labels: &self.policy,
                now: at("2026-12-01T09:15:30Z"),
            })
    }
}

fn wrong(text: &str) -> String {
    Expression::parse(text).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn expressions_that_hold() {
    for text in [
        "true",
        "request.name == 'pay-123'",
        "request.reason.matches('PAY-[0-9]+')",
        "matches(request.reason, r'^PAY-\\d+ ')",
        "!request.reason.matches('^checkout')",
        "request.reason.contains('checkout') && request.reason.startsWith('PAY') && request.reason.endsWith('500')",
        "request.duration == duration('1h30m') && request.duration < duration('2h')",
        "request.duration.getMinutes() == 90 && request.duration.getHours() == 1",
        "!has(request.notAfter) && !has(subject.namespace) && has(request.reason)",
        "request.references.exists(r, r.type == 'Ticket' && request.reason.startsWith(r.id))",
        "request.references[0].id == 'PAY-123' && size(request.references) == 1",
        "'look' in request.entitlements && request.entitlements.size() == 1",
        "request.entitlements.all(e, e in ['look', 'exec'])",
        "requester.username.endsWith('@example.com') && 'payments-devs' in requester.groups",
        "requester.groups.exists_one(g, g.startsWith('payments-'))",
        "requester.groups.filter(g, !g.startsWith('system:')) .size() == 1",
        "requester.groups.map(g, size(g))[0] == 13",
        "requester.groups.map(g, g + '!').exists(g, g == 'payments-devs!')",
        "subject.kind == 'User' && subject.name == requester.username",
        "namespaceObject.name == 'prod' && namespaceObject.labels.env == 'prod'",
        "namespaceObject.labels['env'] in ['prod', 'stage'] && has(namespaceObject.labels.env)",
        "'env' in namespaceObject.labels && !('team' in namespaceObject.labels)",
        "policy.name == 'prod-debug' && policy.labels['ti' + 'er'] == 'gold' && size(policy.labels) == 1",
        "now == timestamp('2026-12-01T09:15:30Z') && now - timestamp('2026-12-01T09:00:00Z') > duration('15m')",
        "now + duration('1h') > now && duration('1h') + now - duration('1h') == now",
        "now.getHours() == 9 && now.getHours('Europe/Berlin') == 10 && now.getMinutes() == 15",
        "now.getDayOfWeek() == 2 && now.getMonth() == 11 && now.getDate() == 1 && now.getDayOfMonth() == 0",
        "now.getFullYear() == 2026 && now.getDayOfYear() == 334 && now.getSeconds() == 30",
        "1 + 2 * 3 - 8 / 2 == 3 && 7 % 3 == 1 && -(1) < 0 && 2 >= 2 && 2 != 3 && 'a' <= 'b'",
        "(request.duration > duration('1h') ? 'long' : 'short') == 'long'",
        "size('äöü') == 3",
        // A deciding operand hides a failure of the other operand.
        "namespaceObject.labels.team == 'x' || true",
        "!(1 / 0 == 1 && false)",
        "['x', 'env'].exists(k, namespaceObject.labels[k] == 'prod')",
        "// why\nrequest.name == 'pay-123' // so",
    ] {
        assert_eq!(Asked::new().evaluate(text), Ok(true), "{text}");
    }
}

#[test]
fn expressions_that_do_not_hold() {
    for text in [
        "false",
        "request.reason.matches('^OPS-')",
        "request.references.all(r, r.type == 'Incident')",
        "requester.groups.exists_one(g, true)",
        "request.duration > duration('90m')",
        "['x', 'env'].all(k, namespaceObject.labels[k] == 'stage')",
    ] {
        assert_eq!(Asked::new().evaluate(text), Ok(false), "{text}");
    }
}

#[test]
fn a_missing_or_out_of_range_value_is_a_failure() {
    for (text, failure) in [
        (
            "request.notAfter > now",
            "request.notAfter is not set; check has(request.notAfter) first",
        ),
        (
            "subject.namespace == 'ci'",
            "subject.namespace is not set; check has(subject.namespace) first",
        ),
        (
            "namespaceObject.labels.team == 'x'",
            "there is no label \"team\"; check for it with 'in' first",
        ),
        ("request.references[1].id == ''", "a list of 1 has no element 1"),
        ("request.references[-1].id == ''", "a list of 1 has no element -1"),
        ("9223372036854775807 + size('a') > 0", "a result is out of range"),
        ("-9223372036854775808 / -1 > 0", "a result is out of range"),
        (
            "now + duration('2000000h') + duration('99999999h') > now",
            "a result is out of range",
        ),
        ("1 / (size('a') - 1) == 1", "a number is divided by zero"),
        ("1 % 0 == 1", "a number is divided by zero"),
        (
            "request.references.exists_one(r, r.id == namespaceObject.labels.x)",
            "there is no label \"x\"; check for it with 'in' first",
        ),
        (
            "false || namespaceObject.labels.team == 'x'",
            "there is no label \"team\"; check for it with 'in' first",
        ),
    ] {
        let answered = Asked::new().evaluate(text).map_err(|failure| failure.to_string());
        assert_eq!(answered, Err(failure.to_owned()), "{text}");
    }
}

fn each_gives_the_message(cases: &[(&str, &str)]) {
    for (text, message) in cases {
        let found = wrong(text);
        assert!(
            found.starts_with(message),
            "{text}\n  found    {found}\n  expected {message}"
        );
    }
}

#[test]
fn an_unreadable_expression_is_reported_with_place_and_fix() {
    each_gives_the_message(&[
        (
            "request.reason ==",
            "line 1, column 18: mismatched input '<EOF>' expecting",
        ),
        (
            "request.reason = 'x'",
            "line 1, column 16: token recognition error at: '= '",
        ),
        (
            "true &&\n  (request.name == 'x'",
            "line 2, column 23: missing ')' at '<EOF>'",
        ),
        (
            "true &&\n  'é' == requst.reason",
            "line 2, column 10: there is no variable requst; there are request, requester,",
        ),
        (
            "namespace.labels.env == 'x'",
            "line 1, column 1: namespace is a reserved word of CEL; write namespaceObject",
        ),
        (
            "request.ticket == 'x'",
            "line 1, column 8: request has no ticket; it has name, reason, duration, notAfter,",
        ),
        (
            "request == 'x'",
            "line 1, column 1: request is not a value; use one of its fields: name,",
        ),
        (
            "request.reason",
            "line 1, column 1: a condition is true or false; this is string",
        ),
        (
            "size(request.reason)",
            "line 1, column 1: a condition is true or false; this is int",
        ),
    ]);
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn a_type_error_is_reported_with_place_and_fix() {
    each_gives_the_message(&[
        (
            "request.reason && true",
            "line 1, column 8: expected bool, found string",
        ),
        (
            "request.duration > '1h'",
            "line 1, column 18: cannot compare duration with string; write duration('2h')",
        ),
        (
            "requester.groups == ['a']",
            "line 1, column 18: cannot compare list(string) with list(string); use in, all or exists",
        ),
        (
            "1 in requester.groups",
            "line 1, column 3: in is not defined for int and list(string)",
        ),
        (
            "request.reason - 'x' == ''",
            "line 1, column 16: - is not defined for string and string",
        ),
        (
            "request.duration > duration('1 hour')",
            "line 1, column 20: duration takes a literal of hours",
        ),
        (
            "request.duration > duration(request.reason)",
            "line 1, column 20: duration takes a literal of hours",
        ),
        (
            "now > timestamp('tomorrow')",
            "line 1, column 7: timestamp takes a literal",
        ),
        (
            "request.reason.matches('(')",
            "line 1, column 24: this is not a regular expression (RE2 syntax): unclosed group",
        ),
        (
            "request.reason.matches('(?=x)')",
            "line 1, column 24: this is not a regular expression (RE2 syntax): look-around",
        ),
        (
            "request.reason.matches('\\\\w{500}')",
            "line 1, column 24: this pattern is too large: compiled it takes more than 65536",
        ),
        (
            "request.reason.matches(request.name)",
            "line 1, column 31: a pattern must be a literal",
        ),
        (
            "request.reason.lowerAscii() == 'x'",
            "line 1, column 16: lowerAscii with these arguments is not defined; there are has,",
        ),
        (
            "contains(request.reason, 'x')",
            "line 1, column 1: contains with these arguments is not defined",
        ),
        (
            "now.getHours('Mars/Base') == 1",
            "line 1, column 5: there is no time zone \"Mars/Base\"; give an IANA name",
        ),
        (
            "namespaceObject.labels.all(k, true)",
            "line 1, column 24: all needs a list; this is map(string, string)",
        ),
        (
            "requester.groups.all(now, true)",
            "line 1, column 22: the name now is already used",
        ),
        (
            "requester.groups.all('g', true)",
            "line 1, column 22: the first argument of all is a name for the element",
        ),
        (
            "requester.groups.all(g, g)",
            "line 1, column 25: expected bool, found string",
        ),
        (
            "[1, 'a'].size() == 2",
            "line 1, column 5: expected int, found string",
        ),
        ("[] == []", "line 1, column 1: an empty list has no type"),
        (
            "1.5 < 2.5",
            "line 1, column 1: a literal must be bool, int or string",
        ),
        (
            "request.notAfter == null",
            "line 1, column 21: null is not supported; use has(...)",
        ),
        (
            "{'a': 1}.a == 1",
            "line 1, column 1: maps and messages are not supported",
        ),
        (
            "request.?name == 'x'",
            "line 1, column 8: unsupported syntax '.?'",
        ),
        ("", "line 1, column 1: mismatched input '<EOF>' expecting"),
    ]);
}

#[test]
fn the_text_of_a_request_is_never_parsed_as_an_expression() {
    for reason in [
        "' || true || '",
        "PAY-1') || true || request.reason.matches('",
        "\" + request.name + \"",
        "true",
        "${now} {{now}} %s \\",
        "(((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((",
        "(a+)+$ [[[ *",
    ] {
        let asked = Asked::because(reason);
        assert_eq!(
            asked.evaluate("request.reason.matches('^OPS-[0-9]+')"),
            Ok(false),
            "{reason}"
        );
        assert_eq!(
            asked.evaluate("request.reason == 'true' && request.name == 'x'"),
            Ok(false),
            "{reason}"
        );
        // Nor as a pattern or a name: at most as a key of a missing label.
        let failure = asked
            .evaluate("namespaceObject.labels[request.reason] == 'prod'")
            .unwrap_err();
        assert!(failure.to_string().starts_with("there is no label"), "{failure}");
        assert!(failure.to_string().chars().count() < 256, "{failure}");
    }
}

#[test]
fn an_expression_that_could_take_too_long_is_rejected() {
    let thrice = "requester.groups.all(a, requester.groups.all(b, requester.groups.all(c, a + b != c)))";
    assert!(
        wrong(thrice).starts_with("line 1, column 66: more than 2 nested loops"),
        "{}",
        wrong(thrice)
    );
    assert!(wrong(&"(".repeat(2000)).contains("line 1, column 13: brackets and ?: nest more than 12 deep"));
    assert!(wrong(&"1+".repeat(1000)).contains("more than 64 operators follow one another"));
    assert!(wrong(&"a".repeat(MAX_LENGTH + 1)).contains("at most 2048 characters"));
}

#[test]
fn an_evaluation_fails_when_no_steps_remain() {
    let crowd = Asked::of_groups((0..1024).map(|number| format!("group-{number}")));
    let twice = "requester.groups.all(a, requester.groups.exists(b, a == b))";
    assert_eq!(Asked::new().evaluate(twice), Ok(true));
    assert_eq!(crowd.evaluate(twice), Err(Failure::Exhausted));
    // No other operand turns that failure into a value.
    assert_eq!(
        crowd.evaluate(&format!("{twice} || true")),
        Err(Failure::Exhausted)
    );
    assert_eq!(
        crowd.evaluate(&format!("!({twice} && false)")),
        Err(Failure::Exhausted)
    );
    // Usual expressions succeed for the largest request.
    assert_eq!(
        crowd.evaluate("requester.groups.exists(g, g.matches('^group-1023$'))"),
        Ok(true)
    );
    let loud = Asked::because("\u{10348}".repeat(1024));
    assert_eq!(
        loud.evaluate("request.reason.matches('[A-Z]+-[0-9]+')"),
        Ok(false)
    );
}

#[test]
fn a_panic_of_the_parser_is_an_error() {
    let refused = parse_without_panic::<()>("true", || panic!("a mistake in the parser"));
    assert_eq!(
        refused,
        Err(Malformed::at("true", 0, "the parser cannot read this"))
    );
}

/// A thread of the operator has a stack of 2 MiB; half of it remains for the callers.
#[test]
fn the_deepest_accepted_expression_needs_1_mib_of_stack() {
    let deepest = [
        format!("{}true{}", "(".repeat(12), ")".repeat(12)),
        format!("{}1{} == 1", "[".repeat(12), "][0]".repeat(12)),
        format!("{}true", "true?true:".repeat(12)),
        format!("{}true{}", "!(".repeat(12), ")".repeat(12)),
        format!("{}1{} == 1", "(1+1+1+1+".repeat(12), ")".repeat(12)),
        format!("1{} == 65", "+1".repeat(61)),
        format!(
            "requester.groups.all(g, requester.groups.all(h, {}g == h{}))",
            "(true && ".repeat(10),
            ")".repeat(10)
        ),
        format!("size('a{}') > 0", "' + 'a".repeat(60)),
        "[{a:(f(".repeat(3),
    ];
    let small = std::thread::Builder::new().stack_size(1024 * 1024);
    let thread = small.spawn(move || {
        let mut answers = 0;
        for text in &deepest {
            if let Ok(expression) = Expression::parse(text) {
                let copy = Expression(expression.0.clone());
                drop(expression);
                drop(copy);
                answers += usize::from(Asked::new().evaluate(text).is_ok());
            }
        }
        answers
    });
    assert_eq!(thread.unwrap().join().unwrap(), 8);
}
