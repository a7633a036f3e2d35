//! Tests: parsing, preflight.

use crate::api;
use crate::api::{AccessPolicy, DurationText, Escalation, Narrowing, OnChange, PrincipalKind, RoleKind};
use crate::core::policy::Policy;
use crate::core::policy::approval::ApprovalRule;
use crate::core::policy::entitlement::{Access, Entitlement};
use crate::core::policy::problem::Problem;
use crate::core::testing::{named, policy, principal, rule, rules_entitlement, settings, strings};
use crate::core::time::duration::AccessDuration;

fn problems(policy: &AccessPolicy) -> Vec<String> {
    let problems = Policy::parse(policy, &settings()).map(|_| ()).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_policy_is_parsed_as_written() {
    let written = policy().with(|spec| {
        spec.on_policy_change = OnChange::Keep;
        spec.limits.active_per_subject = 7;
        spec.retention = DurationText::from("48h");
    });
    let parsed = written.parsed();
    assert_eq!(
        (parsed.name.as_str(), parsed.uid.as_str(), parsed.generation),
        ("prod-debug", "uid-of-prod-debug", 3)
    );
    assert_eq!(
        (parsed.default_duration, parsed.max_duration, parsed.retention),
        (
            AccessDuration::parse("30m").unwrap(),
            AccessDuration::parse("4h").unwrap(),
            AccessDuration::parse("48h").unwrap()
        )
    );
    assert_eq!(
        (parsed.active_per_subject, parsed.on_policy_change),
        (7, OnChange::Keep)
    );
    assert!(matches!(parsed.approval, ApprovalRule::Never));
    assert!(parsed.windows.is_empty());
    assert_eq!(
        (parsed.reason.min_length, parsed.reason.pattern.is_none()),
        (10, true)
    );
    assert_eq!(
        parsed.entitlements,
        [
            Entitlement {
                name: "look".to_owned(),
                by_default: true,
                access: Access::Role {
                    kind: RoleKind::ClusterRole,
                    name: "view".to_owned(),
                    on_change: OnChange::Revoke,
                    escalation: Escalation::Refuse,
                },
            },
            Entitlement {
                name: "exec".to_owned(),
                by_default: false,
                access: Access::Rules {
                    narrowing: Narrowing::Optional,
                    rules: vec![rule(&["create"], &["pods/exec"])],
                },
            },
        ]
    );
    assert_eq!(
        parsed.requesters(),
        "group payments-devs, user carol@example.com, service account ci/deployer"
    );
    assert_eq!(
        parsed.subjects(),
        "user dave@example.com, service account ci/smoke-test"
    );
    assert_eq!(parsed.entitlement("nothing"), None);
}

#[test]
fn rules_are_parsed_into_canonical_order() {
    let shuffled = policy().with(|spec| {
        let items = &mut spec.entitlements[1].rules.as_mut().unwrap().items;
        let first = items[0].clone();
        items[0].verbs = strings(&["watch", "get", "get"]);
        items[0].resource_names = strings(&["b", "a"]);
        items.push(first.clone());
        items.push(first);
    });
    assert_eq!(
        shuffled.parsed().entitlements[1].access,
        Access::Rules {
            narrowing: Narrowing::Optional,
            rules: vec![
                rule(&["create"], &["pods/exec"]),
                named(rule(&["get", "watch"], &["pods/exec"]), &["a", "b"]),
            ],
        }
    );
}

type Edit = fn(&mut crate::api::AccessPolicySpec);

/// Asserts that each edit alone makes exactly one problem, in the stated field.
fn each_edit_is_one_problem(cases: &[(Edit, &str, &[&str])]) {
    for (edit, field, needles) in cases {
        let problems = problems(&policy().with(edit));
        let [problem] = problems.as_slice() else {
            panic!("{problems:?}");
        };
        assert!(problem.starts_with(field), "{problem}");
        for needle in *needles {
            assert!(problem.contains(needle), "{needle:?} is not in {problem:?}");
        }
    }
}

#[test]
fn a_malformed_field_is_a_problem_with_the_accepted_form() {
    let cases: &[(Edit, &str, &[&str])] = &[
        (
            |spec| spec.duration.max = "4 h".into(),
            "spec.duration.max: ",
            &["\"4 h\" is not a duration"],
        ),
        (
            |spec| spec.duration.default = Some("x".into()),
            "spec.duration.default: ",
            &["\"x\" is not a duration"],
        ),
        (
            |spec| spec.retention = "30d".into(),
            "spec.retention: ",
            &["\"30d\" is not a duration"],
        ),
        (
            |spec| spec.duration.max = "8h1s".into(),
            "spec.duration.max: ",
            &["8h1s exceeds the cluster's cap: at most 8h", "--max-duration"],
        ),
        (
            |spec| spec.duration.default = Some("4h1m".into()),
            "spec.duration.default: ",
            &["4h1m exceeds spec.duration.max: at most 4h"],
        ),
        (
            |spec| {
                spec.windows = policy()
                    .open(&[], "08:00", "18:00")
                    .open(&[], "8", "9:00")
                    .spec
                    .windows;
            },
            "spec.windows[1]: ",
            &["from is \"8\""],
        ),
        (
            |spec| spec.reason.as_mut().unwrap().pattern = Some("[A-Z".to_owned()),
            "spec.reason.pattern: ",
            &["\"[A-Z\" is not a regular expression"],
        ),
        (
            |spec| spec.reason.as_mut().unwrap().pattern = Some("(?=x)".to_owned()),
            "spec.reason.pattern: ",
            &["\"(?=x)\" is not a regular expression"],
        ),
        (
            |spec| spec.reason.as_mut().unwrap().pattern = Some("a)|(?:b".to_owned()),
            "spec.reason.pattern: ",
            &["\"a)|(?:b\" is not a regular expression"],
        ),
        (
            |spec| spec.reason.as_mut().unwrap().pattern = Some("(a{100}){100}{100}".to_owned()),
            "spec.reason.pattern: ",
            &["size limit"],
        ),
    ];
    each_edit_is_one_problem(cases);
}

#[test]
fn an_entitlement_that_cannot_be_granted_is_a_problem() {
    let cases: &[(Edit, &str, &[&str])] = &[
        (
            |spec| spec.entitlements[0].role = None,
            "spec.entitlements[0]: ",
            &["give exactly one of role, rules and actAs"],
        ),
        (
            |spec| spec.entitlements[0].rules = spec.entitlements[1].rules.clone(),
            "spec.entitlements[0]: ",
            &["give exactly one of role, rules and actAs"],
        ),
        (
            |spec| spec.entitlements[1].rules.as_mut().unwrap().items[0].verbs = strings(&["get", "*"]),
            "spec.entitlements[1].rules: ",
            &["cannot be granted", "a wildcard verb"],
        ),
        (
            |spec| {
                let item = &mut spec.entitlements[1].rules.as_mut().unwrap().items[0];
                item.resources = strings(&["users"]);
                item.verbs = strings(&["impersonate:user-info"]);
            },
            "spec.entitlements[1].rules: ",
            &["cannot be granted", "impersonate acts as someone else"],
        ),
        (
            |spec| {
                let item = &mut spec.entitlements[1].rules.as_mut().unwrap().items[0];
                item.api_groups = strings(&["rbac.authorization.k8s.io"]);
                item.resources = strings(&["roles"]);
                item.verbs = strings(&["escalate"]);
            },
            "spec.entitlements[1].rules: ",
            &["cannot be granted", "escalate adds rights to roles"],
        ),
    ];
    each_edit_is_one_problem(cases);
}

#[test]
fn an_invalid_condition_is_a_problem_with_line_and_column() {
    let wrong = policy()
        .demanding(
            "ticket",
            "true &&\n  request.reason.matches('(')",
            "name the ticket",
        )
        .demanding("sound", "request.reason != ''", "say why")
        .demanding("typed", "request.reason", "say why");
    let problems = Policy::parse(&wrong, &settings()).map(|_| ()).unwrap_err();
    assert_eq!(
        problems,
        [
            Problem::new(
                "spec.conditions[ticket].expression",
                "line 2, column 26: this is not a regular expression (RE2 syntax): unclosed group"
            ),
            Problem::new(
                "spec.conditions[typed].expression",
                "line 1, column 1: a condition is true or false; this is string"
            ),
        ]
    );
}

#[test]
fn all_problems_are_reported_at_once() {
    let wrong = policy().open(&[], "x", "y").with(|spec| {
        spec.duration.max = "9h".into();
        spec.duration.default = Some("10h".into());
        spec.retention = "forever".into();
        spec.reason.as_mut().unwrap().pattern = Some("(".to_owned());
        spec.entitlements[0].role = None;
        spec.entitlements
            .push(rules_entitlement("more", Narrowing::Optional));
        spec.entitlements[2].rules = None;
    });
    let fields: Vec<String> = Policy::parse(&wrong, &settings())
        .map(|_| ())
        .unwrap_err()
        .into_iter()
        .map(|problem| problem.field)
        .collect();
    assert_eq!(
        fields,
        [
            "spec.retention",
            "spec.duration.max",
            "spec.duration.default",
            "spec.windows[0]",
            "spec.reason.pattern",
            "spec.entitlements[0]",
            "spec.entitlements[2]",
        ]
    );
}

#[test]
fn durations_equal_to_their_bounds_are_accepted() {
    let widest = policy().with(|spec| {
        spec.duration.max = "8h".into();
        spec.duration.default = Some("8h".into());
    });
    let parsed = widest.parsed();
    assert_eq!(
        (parsed.default_duration, parsed.max_duration),
        (settings().cap, settings().cap)
    );
    let without_default = policy().with(|spec| spec.duration.default = None).parsed();
    assert_eq!(without_default.default_duration, without_default.max_duration);
    let without_reason = policy().with(|spec| spec.reason = None).parsed();
    assert_eq!(
        (
            without_reason.reason.min_length,
            without_reason.reason.pattern.is_none()
        ),
        (0, true)
    );
}

#[test]
fn a_pattern_must_match_the_whole_reason() {
    for (pattern, text, matches) in [
        ("PAY-[0-9]+", "PAY-1", true),
        ("PAY-[0-9]+", "PAY-1 ", false),
        ("PAY-[0-9]+", "xPAY-1", false),
        ("PAY-[0-9]+", "PAY-1\n", false),
        ("a|b", "ab", false),
        ("a|b", "b", true),
        ("a|bc", "ac", false),
        ("(?m)a", "a\nb", false),
        ("(?s).*b", "a\nb", true),
        ("^a$", "a", true),
    ] {
        let parsed = policy()
            .with(|spec| spec.reason.as_mut().unwrap().pattern = Some(pattern.to_owned()))
            .parsed();
        let (written, regex) = parsed.reason.pattern.unwrap();
        assert_eq!(written, pattern);
        assert_eq!(regex.is_match(text), matches, "{pattern:?} {text:?}");
    }
}

fn approval(stages: Vec<api::ApprovalStage>, required_when: Option<&str>) -> api::ApprovalSpec {
    api::ApprovalSpec {
        required_when: required_when.map(str::to_owned),
        timeout: DurationText::from("1h"),
        stages,
    }
}

fn stage(name: &str, required: u8, approvers: &[(PrincipalKind, &str)]) -> api::ApprovalStage {
    api::ApprovalStage {
        name: name.to_owned(),
        required,
        approvers: approvers
            .iter()
            .map(|(kind, name)| principal(*kind, name))
            .collect(),
    }
}

#[test]
fn a_stage_with_too_few_approvers_is_a_problem() {
    use PrincipalKind::{Group, User};
    let problems_of = |stages: Vec<api::ApprovalStage>| {
        let policy = policy().with(|spec| {
            spec.path = api::Path::Manual;
            spec.approval = Some(approval(stages, None));
        });
        Policy::parse(&policy, &settings()).map_or_else(
            |problems| problems.iter().map(ToString::to_string).collect(),
            |_| String::new(),
        )
    };
    assert_eq!(
        problems_of(vec![stage(
            "leads",
            3,
            &[(User, "bob"), (User, "dave"), (User, "bob")]
        )]),
        "spec.approval.stages[leads].required: 3 required, but 2 listed: at most 2"
    );
    assert_eq!(
        problems_of(vec![
            stage("team", 1, &[(User, "bob")]),
            stage("security", 1, &[(User, "bob")])
        ]),
        "spec.approval.stages: 2 different people required over all stages, but 1 listed: at most 1, each person counts once"
    );
    // A group counts as any number of people.
    assert_eq!(problems_of(vec![stage("leads", 9, &[(Group, "leads")])]), "");
    assert_eq!(
        problems_of(vec![
            stage("team", 1, &[(User, "bob")]),
            stage("security", 1, &[(User, "bob"), (Group, "security")])
        ]),
        ""
    );
}

#[test]
fn an_invalid_required_when_is_a_problem_with_its_position() {
    let policy = policy().with(|spec| {
        spec.path = api::Path::SelfServe;
        spec.approval = Some(approval(
            vec![stage("team", 1, &[(PrincipalKind::Group, "leads")])],
            Some("request.duration >\n  request.age"),
        ));
    });
    let problems = problems(&policy);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("spec.approval.requiredWhen: line 2, column "),
        "{problems:?}"
    );
}

#[test]
fn a_manual_path_without_stages_is_a_problem() {
    let policy = policy().with(|spec| spec.path = api::Path::Manual);
    assert_eq!(
        problems(&policy),
        ["spec.approval: required by paths SelfServe and Manual: set stages with approvers"]
    );
}
