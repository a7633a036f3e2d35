use std::collections::BTreeMap;

use crate::api::{
    AccessGrant, AccessPolicy, Day, Narrowing, PrincipalKind, RoleKind, SelectorOperator,
    SelectorRequirement, Subject, reasons,
};
use crate::core::evaluate::admit::{Admitted, admit};
use crate::core::evaluate::question::CheckInput;
use crate::core::facts::NamespaceFacts;
use crate::core::policy::Policy;
use crate::core::policy::entitlement::{Access, Entitlement};
use crate::core::request::Request;
use crate::core::request::refusal::Refusals;
use crate::core::testing::{
    at, grant, named, now, policy, principal, role_entitlement, rule, rules_entitlement, settings,
};
use crate::core::time::duration::AccessDuration;

/// Checks the request of `grant` under `policy`, 15 minutes after its creation.
fn admitted(grant: &AccessGrant, policy: &AccessPolicy) -> Result<Admitted, Refusals> {
    in_namespace(grant, policy, Some(&prod()))
}

fn in_namespace(
    grant: &AccessGrant,
    policy: &AccessPolicy,
    namespace: Option<&NamespaceFacts>,
) -> Result<Admitted, Refusals> {
    admit(&CheckInput {
        request: &Request::parse(grant)?,
        policy: &policy.parsed(),
        namespace_name: "prod",
        namespace,
        settings: &settings(),
        now: at("2026-12-01T09:15:00Z"),
        start: at("2026-12-01T09:15:00Z"),
    })
}

fn prod() -> NamespaceFacts {
    NamespaceFacts {
        uid: "uid-of-prod".to_owned(),
        labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
        terminating: false,
    }
}

fn default_entitlements(policy: &Policy) -> Vec<Entitlement> {
    policy.entitlement("look").cloned().into_iter().collect()
}

#[test]
fn a_minimal_request_gets_the_defaults_of_the_policy() {
    assert_eq!(
        admitted(&grant("g"), &policy()),
        Ok(Admitted {
            subject: Subject::user("alice@example.com"),
            duration: AccessDuration::parse("30m").unwrap(),
            not_after: None,
            window_end: None,
            entitlements: default_entitlements(&policy().parsed()),
        })
    );
}

#[test]
fn a_full_request_gets_exactly_what_it_names() {
    let narrowed = Entitlement {
        name: "exec".to_owned(),
        by_default: false,
        access: Access::Rules {
            narrowing: Narrowing::Optional,
            rules: vec![named(rule(&["create"], &["pods/exec"]), &["api-0", "api-1"])],
        },
    };
    let asked = grant("g")
        .asked_by_pipeline()
        .given_to(Subject::service_account("ci", "smoke-test"))
        .asking_for_objects("exec", &["api-1", "api-0"])
        .lasting("4h")
        .until("2026-12-01T12:00:00+01:00");
    let windowed = policy().open(&[Day::Tue], "09:00", "18:00");
    assert_eq!(
        admitted(&asked, &windowed),
        Ok(Admitted {
            subject: Subject::service_account("ci", "smoke-test"),
            duration: AccessDuration::parse("4h").unwrap(),
            not_after: Some(at("2026-12-01T11:00:00Z")),
            window_end: Some(at("2026-12-01T18:00:00Z")),
            entitlements: vec![narrowed],
        })
    );
}

#[test]
fn requesters_match_by_user_group_or_service_account() {
    let end = "2026-12-01T12:00:00Z";
    for (case, asked) in [
        ("group", grant("g")),
        ("user", grant("g").asked_by("carol@example.com", &[])),
        ("service account", grant("g").asked_by_pipeline().until(end)),
        (
            "service account by group",
            grant("g")
                .asked_by("system:serviceaccount:x:y", &["payments-devs"])
                .until(end),
        ),
    ] {
        assert!(admitted(&asked, &policy()).is_ok(), "{case}");
    }
    // An entry matches callers of its own kind only, even if the names are equal.
    let named_alike = policy().with(|spec| {
        spec.requesters = vec![
            principal(PrincipalKind::User, "system:serviceaccount:ci:deployer"),
            principal(PrincipalKind::Group, "alice@example.com"),
            principal(PrincipalKind::User, "payments-devs"),
            principal(PrincipalKind::ServiceAccount, "other/deployer"),
            principal(PrincipalKind::ServiceAccount, "ci/deploy"),
        ];
    });
    for asked in [grant("g"), grant("g").asked_by_pipeline().until(end)] {
        let refusals = admitted(&asked, &named_alike).unwrap_err();
        assert_eq!(refusals.reason(), reasons::REQUESTER_NOT_LISTED);
    }
}

#[test]
fn other_subjects_match_by_kind_name_and_namespace() {
    for subject in [
        Subject::user("dave@example.com"),
        Subject::service_account("ci", "smoke-test"),
        Subject::user("alice@example.com"),
    ] {
        let asked = grant("g").given_to(subject.clone());
        assert_eq!(
            admitted(&asked, &policy()).map(|admission| admission.subject),
            Ok(subject)
        );
    }
    for subject in [
        Subject::user("smoke-test"),
        Subject::service_account("prod", "smoke-test"),
        Subject::service_account("ci", "dave@example.com"),
        Subject::user("Dave@example.com"),
        Subject::service_account("x", "alice@example.com"),
    ] {
        let refusals = admitted(&grant("g").given_to(subject.clone()), &policy()).unwrap_err();
        assert_eq!(refusals.reason(), reasons::SUBJECT_NOT_LISTED, "{subject}");
    }
}

/// Asserts that the request is refused for one reason, and that the message contains the field and `says`.
fn refused(case: &str, grant: &AccessGrant, policy: &AccessPolicy, reason: &str, field: &str, says: &[&str]) {
    let refusals = admitted(grant, policy).unwrap_err();
    let message = refusals.to_string();
    assert_eq!(refusals.reason(), reason, "{case}: {message}");
    assert!(message.starts_with(&format!("{field}: ")), "{case}: {message}");
    assert!(
        !message.contains("; spec."),
        "{case} is refused for more than one reason: {message}"
    );
    for needle in says {
        assert!(
            message.contains(needle),
            "{case}: {needle:?} is not in {message:?}"
        );
    }
}

#[test]
fn a_malformed_field_is_refused_with_the_accepted_form() {
    let asked = || grant("g");
    refused(
        "no requester",
        &asked().with(|spec| spec.requester = None),
        &policy(),
        reasons::REQUESTER_UNKNOWN,
        "spec.requester",
        &[
            "Curfew cannot verify who made this request",
            "kubectl auth whoami",
        ],
    );
    refused(
        "a malformed duration",
        &asked().lasting("1 hour"),
        &policy(),
        reasons::DURATION_INVALID,
        "spec.duration",
        &["\"1 hour\" is not a duration", "8h, 1h30m or 90s"],
    );
    refused(
        "a duration out of range",
        &asked().lasting("769h"),
        &policy(),
        reasons::DURATION_INVALID,
        "spec.duration",
        &["769h is out of range", "between 1s and 768h"],
    );
    refused(
        "a malformed end",
        &asked().until("tomorrow"),
        &policy(),
        reasons::NOT_AFTER_INVALID,
        "spec.notAfter",
        &["\"tomorrow\" is not a time", "2026-12-01T18:00:00Z"],
    );
}

#[test]
fn an_unlisted_requester_or_a_bad_end_is_refused() {
    let asked = || grant("g");
    refused(
        "a user who is not listed",
        &asked().asked_by("mallory@example.com", &["system:authenticated"]),
        &policy(),
        reasons::REQUESTER_NOT_LISTED,
        "spec.requester",
        &[
            "mallory@example.com may not request access under policy prod-debug",
            "group payments-devs, user carol@example.com, service account ci/deployer",
        ],
    );
    refused(
        "a service account that is not listed",
        &asked()
            .asked_by("system:serviceaccount:ci:other", &[])
            .until("2026-12-01T10:00:00Z"),
        &policy(),
        reasons::REQUESTER_NOT_LISTED,
        "spec.requester",
        &[
            "system:serviceaccount:ci:other may not request access",
            "service account ci/deployer",
        ],
    );
    refused(
        "a service account without an end",
        &asked().asked_by_pipeline(),
        &policy(),
        reasons::NOT_AFTER_REQUIRED,
        "spec.notAfter",
        &[
            "required when the requester is a service account; set the latest end, such as 2026-12-01T18:00:00Z",
        ],
    );
    refused(
        "an end that has passed",
        &asked().until("2026-12-01T09:15:00Z"),
        &policy(),
        reasons::NOT_AFTER_PASSED,
        "spec.notAfter",
        &["2026-12-01T09:15:00Z has passed", "a time in the future"],
    );
}

#[test]
fn a_subject_outside_the_policy_is_refused() {
    let asked = || grant("g");
    let listing = |name: &str| {
        let name = name.to_owned();
        policy().with(|spec| spec.subjects = vec![principal(PrincipalKind::User, &name)])
    };
    refused(
        "a subject that is not listed",
        &asked().given_to(Subject::service_account("dev", "smoke-test")),
        &policy(),
        reasons::SUBJECT_NOT_LISTED,
        "spec.subject",
        &[
            "service account dev/smoke-test may not receive access under policy prod-debug",
            "user dave@example.com, service account ci/smoke-test",
        ],
    );
    refused(
        "a subject where none is listed",
        &asked().given_to(Subject::user("dave@example.com")),
        &policy().with(|spec| spec.subjects.clear()),
        reasons::SUBJECT_NOT_LISTED,
        "spec.subject",
        &[
            "user dave@example.com may not receive access",
            "only requesters themselves",
        ],
    );
    refused(
        "a name that begins with system:",
        &asked().given_to(Subject::user("system:admin")),
        &listing("system:admin"),
        reasons::SUBJECT_FORBIDDEN,
        "spec.subject",
        &[
            "\"system:admin\" cannot receive access",
            "name a user or a service account",
        ],
    );
    refused(
        "a service account of Curfew's own namespace",
        &asked().given_to(Subject::service_account("curfew-system", "curfew")),
        &policy().with(|spec| {
            spec.subjects = vec![principal(PrincipalKind::ServiceAccount, "curfew-system/curfew")];
        }),
        reasons::SUBJECT_FORBIDDEN,
        "spec.subject",
        &[
            "\"curfew\" cannot receive access: it is in Curfew's own namespace; name a user or another service account",
        ],
    );
}

#[test]
fn a_request_beyond_the_policy_is_refused_with_the_limit() {
    let asked = || grant("g");
    let patterned =
        || policy().with(|spec| spec.reason.as_mut().unwrap().pattern = Some("[A-Z]+-[0-9]+".to_owned()));
    refused(
        "a reason that is too short",
        &asked().because("  PAY-1234\u{2003} "),
        &policy(),
        reasons::REASON_INSUFFICIENT,
        "spec.reason",
        &["8 characters given, at least 10 required"],
    );
    refused(
        "a reason that matches only in part",
        &asked().because("PAY-123 checkout"),
        &patterned(),
        reasons::REASON_INSUFFICIENT,
        "spec.reason",
        &["\"PAY-123 checkout\" does not match the required pattern \"[A-Z]+-[0-9]+\""],
    );
    refused(
        "longer than the policy allows",
        &asked().lasting("4h1s"),
        &policy(),
        reasons::DURATION_TOO_LONG,
        "spec.duration",
        &["4h1s asked, at most 4h allowed by policy prod-debug"],
    );
    refused(
        "outside the windows",
        &asked(),
        &policy().open(&[Day::Mon, Day::Wed], "08:00", "18:00"),
        reasons::OUTSIDE_WINDOWS,
        "metadata.creationTimestamp",
        &[
            "no window of policy prod-debug is open at 2026-12-01T09:15:00Z",
            "the next opens at 2026-12-02T08:00:00Z",
        ],
    );
}

#[test]
fn a_wrong_entitlement_is_refused_with_the_accepted_form() {
    let asked = || grant("g");
    let only = |entitlement| policy().with(|spec| spec.entitlements = vec![entitlement]);
    let exec = |narrowing| only(rules_entitlement("exec", narrowing));
    refused(
        "an entitlement that is not offered",
        &asked().asking_for(&["lok"]),
        &policy(),
        reasons::ENTITLEMENT_UNKNOWN,
        "spec.entitlements[lok]",
        &["policy prod-debug offers look, exec"],
    );
    refused(
        "nothing by default",
        &asked(),
        &exec(Narrowing::Optional),
        reasons::ENTITLEMENT_UNKNOWN,
        "spec.entitlements",
        &["policy prod-debug grants nothing by default; name one of exec"],
    );
}

#[test]
fn a_wrong_narrowing_is_refused_with_the_accepted_form() {
    let asked = || grant("g");
    let only = |entitlement| policy().with(|spec| spec.entitlements = vec![entitlement]);
    let exec = |narrowing| only(rules_entitlement("exec", narrowing));
    refused(
        "narrowing required",
        &asked().asking_for(&["exec"]),
        &exec(Narrowing::Required),
        reasons::NARROWING_REFUSED,
        "spec.entitlements[exec].resourceNames",
        &["name the objects you need"],
    );
    refused(
        "narrowing forbidden",
        &asked().asking_for_objects("exec", &["api-0"]),
        &exec(Narrowing::Forbidden),
        reasons::NARROWING_REFUSED,
        "spec.entitlements[exec].resourceNames",
        &["granted as a whole; leave resourceNames out"],
    );
    refused(
        "a role cannot be narrowed",
        &asked().asking_for_objects("look", &["api-0"]),
        &only(role_entitlement("look", "view")),
        reasons::NARROWING_REFUSED,
        "spec.entitlements[look].resourceNames",
        &["a role is bound as it is and cannot be narrowed; leave resourceNames out"],
    );
    refused(
        "narrowed to no object",
        &asked().asking_for_objects("exec", &[]),
        &exec(Narrowing::Optional),
        reasons::NARROWING_REFUSED,
        "spec.entitlements[exec].resourceNames",
        &["name at least one object"],
    );
    refused(
        "narrowed to an object that is not offered",
        &asked().asking_for_objects("exec", &["api-1"]),
        &exec(Narrowing::Optional).with(|spec| {
            let items = &mut spec.entitlements[0].rules.as_mut().unwrap().items;
            items[0].resource_names = vec!["api-0".to_owned()];
        }),
        reasons::NARROWING_REFUSED,
        "spec.entitlements[exec].resourceNames",
        &["not offered for objects named api-1; offered for api-0"],
    );
}

#[test]
#[allow(clippy::large_stack_arrays, reason = "a table of whole objects")]
fn a_request_at_each_bound_is_admitted() {
    let asked = || grant("g");
    let exec =
        |narrowing| policy().with(|spec| spec.entitlements = vec![rules_entitlement("exec", narrowing)]);
    let whole = "PAY-[0-9]+ .*";
    for (case, grant, policy) in [
        ("the longest duration", asked().lasting("4h"), policy()),
        (
            "an end in the future",
            asked().until("2026-12-01T09:15:00.000001Z"),
            policy(),
        ),
        ("the shortest reason", asked().because(" PAY-123456 "), policy()),
        (
            "ten characters of many bytes",
            asked().because("ÄÖÜÄÖÜÄÖÜß"),
            policy(),
        ),
        (
            "a reason that matches after trimming",
            asked().because(" PAY-123 checkout "),
            policy().with(|spec| spec.reason.as_mut().unwrap().pattern = Some(whole.to_owned())),
        ),
        (
            "no requirement on reasons",
            asked().because("x"),
            policy().with(|spec| spec.reason = None),
        ),
        (
            "an open window",
            asked(),
            policy().open(&[Day::Tue], "09:15", "09:16"),
        ),
        (
            "narrowed, where that is required",
            asked().asking_for_objects("exec", &["a"]),
            exec(Narrowing::Required),
        ),
        (
            "whole, where narrowing is forbidden",
            asked().asking_for(&["exec"]),
            exec(Narrowing::Forbidden),
        ),
        (
            "whole, where narrowing is optional",
            asked().asking_for(&["exec"]),
            exec(Narrowing::Optional),
        ),
    ] {
        assert!(
            admitted(&grant, &policy).is_ok(),
            "{case}: {:?}",
            admitted(&grant, &policy)
        );
    }
}

#[test]
fn deceptive_names_never_receive_access_even_if_listed() {
    for name in [
        "system:masters",
        "system:serviceaccount:ci:deployer",
        "*",
        " alice",
        "alice\u{a0}",
        "al\u{200b}ice",
        "al\u{202e}ecila",
        "alice\u{2066}",
        "alice\u{7}",
        "alice\u{feff}",
        "al\u{ad}ice",
        "alice\u{e0041}",
        "alice\u{2028}bob",
        "alice\u{3164}",
        "alice\u{fe0f}",
    ] {
        let listed = policy().with(|spec| {
            spec.subjects = vec![principal(PrincipalKind::User, name)];
            spec.requesters.push(principal(PrincipalKind::User, name));
        });
        for asked in [
            grant("g").given_to(Subject::user(name)),
            grant("g").asked_by(name, &["payments-devs"]),
        ] {
            match admitted(&asked, &listed) {
                // The requester is then a service account with that account as subject, not a `system:` user.
                Err(refusals)
                    if name.starts_with("system:serviceaccount:") && asked.spec.subject.is_none() =>
                {
                    assert_eq!(refusals.reason(), reasons::NOT_AFTER_REQUIRED);
                }
                other => {
                    let refusals = other.unwrap_err();
                    assert_eq!(
                        refusals.reason(),
                        reasons::SUBJECT_FORBIDDEN,
                        "{name:?}: {refusals}"
                    );
                }
            }
        }
    }
    for name in [
        "alice",
        "Älice Müller",
        "爱丽丝",
        "oidc:alice@example.com",
        "a-system:b",
    ] {
        let asked = grant("g").asked_by(name, &["payments-devs"]);
        assert!(admitted(&asked, &policy()).is_ok(), "{name:?}");
    }
}

#[test]
fn namespaces_match_by_label_and_the_refusal_names_the_selector() {
    let requiring = |key: &str, operator, values: &[&str]| {
        let requirement = SelectorRequirement {
            key: key.to_owned(),
            operator,
            values: crate::core::testing::strings(values),
        };
        policy().with(|spec| {
            spec.namespace_selector.match_labels.clear();
            spec.namespace_selector.match_expressions.push(requirement);
        })
    };
    let everywhere = policy().with(|spec| spec.namespace_selector.match_labels.clear());
    for (selected, policy, selector) in [
        (true, policy(), "env=prod"),
        (true, everywhere, "all namespaces"),
        (
            true,
            requiring("env", SelectorOperator::In, &["dev", "prod"]),
            "env in (dev,prod)",
        ),
        (
            false,
            requiring("env", SelectorOperator::In, &["dev", "test"]),
            "env in (dev,test)",
        ),
        (
            false,
            requiring("env", SelectorOperator::NotIn, &["prod"]),
            "env notin (prod)",
        ),
        (
            true,
            requiring("tier", SelectorOperator::NotIn, &["prod"]),
            "tier notin (prod)",
        ),
        (true, requiring("env", SelectorOperator::Exists, &[]), "env"),
        (false, requiring("tier", SelectorOperator::Exists, &[]), "tier"),
        (
            false,
            requiring("env", SelectorOperator::DoesNotExist, &[]),
            "!env",
        ),
    ] {
        assert_eq!(policy.parsed().selector(), selector);
        let expected = format!(
            "metadata.namespace: policy prod-debug covers namespaces with {selector}; prod is not one of them"
        );
        let message = admitted(&grant("g"), &policy)
            .map(|_| ())
            .map_err(|refusals| refusals.to_string());
        assert_eq!(message, if selected { Ok(()) } else { Err(expected) });
    }
}

#[test]
fn a_request_in_a_terminating_or_missing_namespace_is_refused() {
    let terminating = NamespaceFacts {
        terminating: true,
        ..prod()
    };
    for namespace in [None, Some(&terminating)] {
        let refusals = in_namespace(&grant("g"), &policy(), namespace).unwrap_err();
        assert_eq!(refusals.reason(), reasons::NAMESPACE_TERMINATING);
        assert_eq!(
            refusals.to_string(),
            "metadata.namespace: namespace prod is being deleted; request access in another namespace"
        );
    }
}

#[test]
fn all_refusals_are_reported_and_the_first_gives_the_reason() {
    let asked = grant("g")
        .asked_by("mallory", &[])
        .given_to(Subject::user("eve"))
        .because("x")
        .lasting("5h")
        .until("2026-12-01T09:00:00Z")
        .asking_for(&["everything", "look"])
        .asking_for_objects("look", &["api-0"]);
    let closed = policy().open(&[Day::Sun], "08:00", "18:00");
    let nowhere = NamespaceFacts::default();
    let refusals = in_namespace(&asked, &closed, Some(&nowhere)).unwrap_err();
    assert_eq!(refusals.reason(), reasons::NAMESPACE_NOT_SELECTED);
    let message = refusals.to_string();
    let fields: Vec<&str> = (1..)
        .map_while(|number| message.split_once(&format!("({number}) ")))
        .filter_map(|(_, rest)| rest.split_once(": "))
        .map(|(field, _)| field)
        .collect();
    assert_eq!(
        fields,
        [
            "metadata.namespace",
            "spec.requester",
            "spec.notAfter",
            "spec.subject",
            "spec.reason",
            "spec.duration",
            "metadata.creationTimestamp",
            "spec.entitlements[everything]",
            "spec.entitlements[look].resourceNames",
        ]
    );
    let unreadable = grant("g")
        .lasting("soon")
        .until("never")
        .with(|spec| spec.requester = None);
    let refusals = Request::parse(&unreadable).unwrap_err();
    assert_eq!(refusals.reason(), reasons::REQUESTER_UNKNOWN);
    for needle in [
        "spec.requester: ",
        "(2) spec.duration: \"soon\"",
        "(3) spec.notAfter: \"never\"",
    ] {
        assert!(
            refusals.to_string().contains(needle),
            "{needle:?} is not in {refusals}"
        );
    }
}

#[test]
fn the_cap_bounds_a_policy_that_allows_more() {
    let mut settings = settings();
    settings.cap = AccessDuration::parse("1h").unwrap();
    let asked = |duration| {
        admit(&CheckInput {
            request: &Request::parse(&grant("g").lasting(duration)).unwrap(),
            policy: &policy().parsed(),
            namespace_name: "prod",
            namespace: Some(&prod()),
            settings: &settings,
            now: now(),
            start: now(),
        })
    };
    assert!(asked("1h").is_ok());
    assert_eq!(
        asked("61m").unwrap_err().to_string(),
        "spec.duration: 1h1m asked, at most 1h allowed by policy prod-debug"
    );
}

#[test]
fn a_namespaced_role_is_admitted_like_a_cluster_role() {
    let mut own = role_entitlement("look", "debug");
    own.role.as_mut().unwrap().kind = RoleKind::Role;
    let policy = policy().with(|spec| spec.entitlements = vec![own]);
    let admission = admitted(&grant("g"), &policy).unwrap();
    assert_eq!(admission.entitlements, default_entitlements(&policy.parsed()));
}

/// Reason and message of a request under a policy with this condition; empty if it is admitted.
fn unmet(grant: &AccessGrant, expression: &str) -> Vec<String> {
    let policy = policy().demanding("ticket", expression, "name the ticket");
    match admitted(grant, &policy) {
        Ok(_) => Vec::new(),
        Err(refusals) => vec![refusals.reason().to_owned(), refusals.to_string()],
    }
}

#[test]
fn an_unmet_condition_refuses_with_its_message() {
    let asking = || grant("g").because("PAY-123 checkout returns 500");
    assert_eq!(unmet(&asking(), "request.reason.matches('PAY-[0-9]+')"), [""; 0]);
    assert_eq!(
        unmet(&asking(), "request.reason.matches('OPS-[0-9]+')"),
        [
            reasons::CONDITION_NOT_MET,
            "spec: condition ticket of policy prod-debug is not met: name the ticket"
        ]
    );
}

#[test]
fn a_condition_that_cannot_be_evaluated_is_not_met() {
    assert_eq!(
        unmet(&grant("g"), "namespaceObject.labels.team == 'payments'"),
        [
            reasons::CONDITION_NOT_MET,
            "spec: condition ticket of policy prod-debug cannot be evaluated and counts as not met: there is no label \"team\"; \
             check for it with 'in' first; name the ticket"
        ]
    );
    assert_eq!(
        unmet(&grant("g").because("namespaceObject"), "request.notAfter > now").len(),
        2
    );
}

#[test]
fn conditions_read_request_policy_namespace_and_time() {
    for expression in [
        "request.name == 'g' && requester.username == 'alice@example.com' && 'payments-devs' in requester.groups",
        "subject.kind == 'User' && subject.name == 'alice@example.com' && !has(subject.namespace)",
        "request.duration == duration('30m') && size(request.entitlements) == 1 && request.entitlements[0] == 'look'",
        "namespaceObject.name == 'prod' && namespaceObject.labels.env == 'prod'",
        "policy.name == 'prod-debug' && size(policy.labels) == 0",
        "now == timestamp('2026-12-01T09:15:00Z')",
    ] {
        assert_eq!(unmet(&grant("g"), expression), [""; 0], "{expression}");
    }
    let asking = grant("g")
        .lasting("2h")
        .until("2026-12-01T12:00:00Z")
        .asking_for(&["exec"])
        .with(|spec| {
            spec.references = vec![crate::api::Reference {
                kind: "Ticket".to_owned(),
                id: "PAY-123".to_owned(),
            }];
        });
    let expression = "request.duration == duration('2h') && request.notAfter - now < duration('3h') && \
                      request.entitlements[0] == 'exec' && request.references.exists(r, r.id == 'PAY-123')";
    assert_eq!(unmet(&asking, expression), [""; 0]);
}

#[test]
fn unmet_conditions_are_reported_after_all_other_refusals() {
    let policy = policy()
        .demanding(
            "short",
            "request.duration < duration('1h')",
            "ask for less than an hour",
        )
        .demanding("office", "now.getHours() < 9", "ask before nine")
        .demanding("human", "subject.kind == 'User'", "name a person");
    let refusals = admitted(&grant("g").lasting("5h"), &policy).unwrap_err();
    assert_eq!(refusals.reason(), reasons::DURATION_TOO_LONG);
    assert_eq!(
        refusals.to_string(),
        "(1) spec.duration: 5h asked, at most 4h allowed by policy prod-debug \
         (2) spec: condition short of policy prod-debug is not met: ask for less than an hour \
         (3) spec: condition office of policy prod-debug is not met: ask before nine"
    );
}
