use crate::api::Rule;
use crate::core::rbac::describe::describe;
use crate::core::rbac::escalation::{first_escalation, permits_persistence};
use crate::core::rbac::narrow::narrow;
use crate::core::rbac::rules::{Uncovered, canonical, covers};

fn owned(items: &[&str]) -> Vec<String> {
    items.iter().map(|&item| item.to_owned()).collect()
}

fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
    Rule {
        verbs: owned(verbs),
        api_groups: owned(groups),
        resources: owned(resources),
        resource_names: owned(names),
        non_resource_urls: Vec::new(),
    }
}

fn url(verbs: &[&str], urls: &[&str]) -> Rule {
    Rule {
        verbs: owned(verbs),
        non_resource_urls: owned(urls),
        ..Rule::default()
    }
}

#[test]
fn reordered_or_repeated_rules_are_equal_in_canonical_form() {
    let written = [
        rule(
            &["get", "list"],
            &["apps", ""],
            &["pods", "pods/log"],
            &["b", "a"],
        ),
        url(&["get"], &["/b", "/a"]),
    ];
    let otherwise = [
        url(&["get", "get"], &["/a", "/b"]),
        rule(
            &["list", "get", "list"],
            &["", "apps"],
            &["pods/log", "pods"],
            &["a", "b", "a"],
        ),
        url(&["get"], &["/b", "/a"]),
    ];
    assert_eq!(canonical(&written), canonical(&otherwise));
    assert_ne!(
        canonical(&written),
        canonical(&[rule(&["get"], &[""], &["pods"], &[]), url(&["get"], &["/a"])])
    );
}

#[test]
fn offered_rules_cover_a_subset_of_them() {
    let cases: &[(&str, &[Rule], &[Rule])] = &[
        ("nothing covers nothing", &[], &[]),
        (
            "a rule without verbs asks for nothing",
            &[],
            &[rule(&[], &["*"], &["*"], &[])],
        ),
        (
            "a rule without groups asks for nothing",
            &[],
            &[rule(&["*"], &[], &["*"], &[])],
        ),
        (
            "several rules cover one together",
            &[
                rule(&["get"], &[""], &["pods"], &[]),
                rule(&["list"], &["", "apps"], &["pods"], &[]),
            ],
            &[rule(&["get", "list"], &[""], &["pods"], &[])],
        ),
        (
            "a list of names is covered by several rules together",
            &[
                rule(&["get"], &[""], &["secrets"], &["a"]),
                rule(&["get"], &[""], &["secrets"], &["b"]),
            ],
            &[rule(&["get"], &[""], &["secrets"], &["a", "b"])],
        ),
        (
            "an offer without names covers every name",
            &[rule(&["get"], &[""], &["secrets"], &[])],
            &[rule(&["get"], &[""], &["secrets"], &["a"])],
        ),
        (
            "wildcards cover what they stand for, and wildcards",
            &[rule(&["*"], &["*"], &["*"], &[])],
            &[
                rule(&["create"], &["apps"], &["deployments/scale"], &[]),
                rule(&["*"], &["*"], &["*", "*/scale"], &[]),
            ],
        ),
        (
            "*/scale covers that subresource of everything",
            &[rule(&["get"], &["apps"], &["*/scale"], &[])],
            &[rule(&["get"], &["apps"], &["deployments/scale", "*/scale"], &[])],
        ),
        (
            "URLs are covered by what they begin with",
            &[url(&["get"], &["/healthz", "/apis/*"])],
            &[url(&["get"], &["/healthz", "/apis/apps", "/apis/x*", "/apis/*"])],
        ),
        (
            "every URL",
            &[url(&["*"], &["*"])],
            &[url(&["get"], &["/a", "*"])],
        ),
    ];
    for (name, offered, asked) in cases {
        assert_eq!(covers(offered, asked), Ok(()), "{name}");
    }
}

#[test]
fn an_uncovered_right_is_reported() {
    let cases: &[(&str, &[Rule], Rule, &str)] = &[
        (
            "nothing offered",
            &[],
            rule(&["get"], &[""], &["pods"], &[]),
            "get pods, for every object",
        ),
        (
            "names offered never cover all objects",
            &[rule(&["get"], &[""], &["secrets"], &["a", "b"])],
            rule(&["get"], &[""], &["secrets"], &[]),
            "get secrets, for every object",
        ),
        (
            "one name too many",
            &[rule(&["get"], &["apps"], &["deployments"], &["a", "b"])],
            rule(&["get"], &["apps"], &["deployments"], &["b", "c"]),
            "get deployments (apps) named c",
        ),
        (
            "names are no wildcards",
            &[rule(&["get"], &[""], &["secrets"], &["*"])],
            rule(&["get"], &[""], &["secrets"], &["a"]),
            "get secrets named a",
        ),
        (
            "a resource does not cover its subresources",
            &[rule(&["create"], &[""], &["pods", "pods/*"], &[])],
            rule(&["create"], &[""], &["pods/exec"], &["api-0"]),
            "create pods/exec named api-0",
        ),
        (
            "a subresource does not cover its resource",
            &[rule(&["get"], &[""], &["pods/log", "*/log"], &[])],
            rule(&["get"], &[""], &["pods"], &["a"]),
            "get pods named a",
        ),
        (
            "everything known today does not cover a wildcard",
            &[rule(&["get", "list"], &["", "apps"], &["pods"], &[])],
            rule(&["*"], &[""], &["pods"], &[]),
            "* pods, for every object",
        ),
        (
            "a subresource of everything is not everything",
            &[rule(&["get"], &["*"], &["*/scale", "*/*"], &[])],
            rule(&["get"], &["*"], &["*"], &[]),
            "get * (*), for every object",
        ),
        (
            "verbs and resources of different rules do not combine",
            &[
                rule(&["get"], &[""], &["pods"], &[]),
                rule(&["delete"], &["apps"], &["deployments"], &[]),
            ],
            rule(&["delete"], &[""], &["pods"], &["a"]),
            "delete pods named a",
        ),
        (
            "resources do not cover URLs",
            &[rule(&["*"], &["*"], &["*"], &[])],
            url(&["get"], &["/metrics"]),
            "get /metrics",
        ),
        (
            "URLs do not cover resources",
            &[url(&["*"], &["*"])],
            rule(&["get"], &[""], &["pods"], &["a"]),
            "get pods named a",
        ),
        (
            "a URL pattern is wider than its beginning",
            &[url(&["get"], &["/apis/*"])],
            url(&["get"], &["/apis*"]),
            "get /apis*",
        ),
    ];
    for (name, offered, asked, expected) in cases {
        let uncovered = covers(offered, std::slice::from_ref(asked)).unwrap_err();
        assert_eq!(
            uncovered.to_string(),
            format!("not offered: {expected}"),
            "{name}"
        );
    }
}

#[test]
fn a_rule_too_large_to_split_is_covered_only_as_a_whole() {
    let many: Vec<String> = (0..300).map(|n| format!("x{n}")).collect();
    let huge = Rule {
        verbs: many.clone(),
        api_groups: many.clone(),
        resources: many.clone(),
        resource_names: many,
        non_resource_urls: Vec::new(),
    };
    assert_eq!(
        covers(std::slice::from_ref(&huge), std::slice::from_ref(&huge)),
        Ok(())
    );
    let nearly = Rule {
        verbs: huge.verbs[1..].to_vec(),
        ..huge.clone()
    };
    assert!(matches!(
        covers(&[nearly], &[huge]),
        Err(Uncovered::TooLarge { .. })
    ));
}

#[test]
fn narrowing_keeps_the_named_objects() {
    type Case<'a> = (&'a str, &'a [Rule], &'a [&'a str], &'a [Rule]);
    let cases: &[Case<'_>] = &[
        (
            "create on a subresource carries the name",
            &[rule(&["create"], &[""], &["pods/exec"], &[])],
            &["api-1", "api-0", "api-1"],
            &[rule(&["create"], &[""], &["pods/exec"], &["api-0", "api-1"])],
        ),
        (
            "names offered are intersected",
            &[rule(&["get"], &[""], &["pods"], &["a", "b", "c"])],
            &["c", "a"],
            &[rule(&["get"], &[""], &["pods"], &["a", "c"])],
        ),
        (
            "a rule for other objects is left out",
            &[
                rule(&["get"], &[""], &["pods"], &["a"]),
                rule(&["get"], &[""], &["services"], &["b"]),
            ],
            &["a"],
            &[rule(&["get"], &[""], &["pods"], &["a"])],
        ),
        (
            "each rule keeps what it offers",
            &[
                rule(&["get"], &[""], &["pods"], &["a"]),
                rule(&["get"], &[""], &["pods/log"], &[]),
            ],
            &["a", "b"],
            &[
                rule(&["get"], &[""], &["pods"], &["a"]),
                rule(&["get"], &[""], &["pods/log"], &["a", "b"]),
            ],
        ),
    ];
    for (name, offered, names, expected) in cases {
        assert_eq!(narrow(offered, &owned(names)), Ok(expected.to_vec()), "{name}");
    }
}

#[test]
fn narrowing_that_would_change_the_access_silently_is_refused() {
    let cases: &[(&str, &[Rule], &[&str], &str)] = &[
        (
            "no names would mean every object",
            &[rule(&["get"], &[""], &["secrets"], &[])],
            &[],
            "name at least one object",
        ),
        (
            "the empty name would mean a list of all",
            &[rule(&["list"], &[""], &["secrets"], &[])],
            &[""],
            "an object name must not be empty",
        ),
        (
            "names outside are named, with those offered",
            &[rule(&["get"], &[""], &["pods"], &["b", "a"])],
            &["a", "x", "y"],
            "not offered for objects named x, y; offered for a, b",
        ),
        (
            "a rule that allows nothing offers no names",
            &[rule(&[], &[""], &["pods"], &[])],
            &["a"],
            "not offered for objects named a; offered for nothing",
        ),
        (
            "create",
            &[rule(&["get", "create"], &[""], &["pods/exec", "pods"], &[])],
            &["a"],
            "create on pods cannot be limited to named objects: such requests carry no object name",
        ),
        (
            "deletecollection",
            &[rule(&["deletecollection"], &[""], &["pods"], &[])],
            &["a"],
            "deletecollection on pods cannot be limited to named objects: such requests carry no object name",
        ),
        (
            "a wildcard verb, which includes both",
            &[rule(&["*"], &[""], &["pods"], &["a"])],
            &["a"],
            "* on pods cannot be limited to named objects: such requests carry no object name",
        ),
        (
            "every resource, which includes some without subresource",
            &[rule(&["create"], &["*"], &["*"], &[])],
            &["a"],
            "create on * cannot be limited to named objects: such requests carry no object name",
        ),
        (
            "URLs",
            &[url(&["get"], &["/metrics"])],
            &["a"],
            "access to URL /metrics cannot be limited to named objects",
        ),
    ];
    for (name, offered, names, expected) in cases {
        assert_eq!(
            narrow(offered, &owned(names)).unwrap_err().to_string(),
            *expected,
            "{name}"
        );
    }
}

#[test]
fn escalating_rules_are_found() {
    const RBAC: &str = "rbac.authorization.k8s.io";
    let cases: &[(&str, Rule, bool)] = &[
        (
            "wildcard verb",
            rule(&["get", "*"], &["apps"], &["deployments"], &["a"]),
            true,
        ),
        (
            "bind",
            rule(&["bind"], &[RBAC], &["clusterroles"], &["view"]),
            true,
        ),
        ("escalate", rule(&["escalate"], &[RBAC], &["roles"], &[]), true),
        (
            "bind in every group",
            rule(&["bind"], &["*"], &["roles"], &[]),
            true,
        ),
        (
            "bind on every resource",
            rule(&["bind"], &[RBAC], &["*"], &[]),
            true,
        ),
        (
            "bind elsewhere is another verb",
            rule(&["bind"], &["apis.kcp.io"], &["*"], &[]),
            false,
        ),
        (
            "bind on bindings means nothing",
            rule(&["bind"], &[RBAC], &["rolebindings"], &[]),
            false,
        ),
        (
            "impersonate, as in `edit`",
            rule(&["impersonate"], &[""], &["serviceaccounts"], &[]),
            true,
        ),
        (
            "impersonate extras",
            rule(
                &["impersonate"],
                &["authentication.k8s.io"],
                &["userextras/a"],
                &[],
            ),
            true,
        ),
        (
            "impersonate in every group",
            rule(&["impersonate"], &["*"], &["users"], &[]),
            true,
        ),
        (
            "impersonate elsewhere",
            rule(&["impersonate"], &["example.com"], &["users"], &[]),
            false,
        ),
        (
            "impersonate in a mode",
            rule(
                &["impersonate:user-info"],
                &["authentication.k8s.io"],
                &["users"],
                &[],
            ),
            true,
        ),
        (
            "the action alone",
            rule(&["impersonate-on:user-info:get"], &[""], &["pods"], &[]),
            false,
        ),
        ("wildcard resources", rule(&["get"], &["*"], &["*"], &[]), false),
    ];
    let harmless = rule(&["get"], &[""], &["pods"], &[]);
    for (name, rule, expected) in cases {
        assert_eq!(
            first_escalation(&[harmless.clone(), rule.clone()]).is_some(),
            *expected,
            "{name}"
        );
    }
    assert_eq!(
        first_escalation(&[harmless, rule(&["get", "bind"], &[RBAC], &["roles"], &["view"])]).as_deref(),
        Some(
            "get, bind roles (rbac.authorization.k8s.io) named view: bind grants roles that the holder does not have"
        )
    );
}

#[test]
fn rules_that_allow_persistence_are_found() {
    const RBAC: &str = "rbac.authorization.k8s.io";
    const CERTIFICATES: &str = "certificates.k8s.io";
    let cases: &[(bool, Rule)] = &[
        (true, rule(&["create"], &[RBAC], &["rolebindings"], &[])),
        (
            true,
            rule(&["get", "patch"], &["apps", RBAC], &["roles"], &["one"]),
        ),
        (true, rule(&["bind"], &[RBAC], &["clusterroles"], &["view"])),
        (true, rule(&["update"], &["*"], &["clusterrolebindings"], &[])),
        (
            false,
            rule(&["get", "list", "watch", "delete"], &[RBAC], &["*"], &[]),
        ),
        (false, rule(&["create"], &["apps"], &["roles"], &[])),
        (true, rule(&["create"], &[""], &["serviceaccounts/token"], &[])),
        (true, rule(&["create"], &[""], &["*/token"], &[])),
        (true, rule(&["*"], &[""], &["serviceaccounts/token"], &[])),
        (false, rule(&["create"], &[""], &["serviceaccounts"], &[])),
        (true, rule(&["create"], &[""], &["secrets"], &[])),
        (
            true,
            rule(&["update"], &[""], &["configmaps", "secrets"], &["one"]),
        ),
        (false, rule(&["get", "delete"], &[""], &["secrets"], &[])),
        (
            true,
            rule(&["create"], &[CERTIFICATES], &["certificatesigningrequests"], &[]),
        ),
        (
            true,
            rule(
                &["update"],
                &[CERTIFICATES],
                &["certificatesigningrequests/approval"],
                &[],
            ),
        ),
        (
            true,
            rule(&["approve"], &[CERTIFICATES], &["signers"], &["example.com/*"]),
        ),
        (
            true,
            rule(&["impersonate"], &[""], &["serviceaccounts"], &["robot"]),
        ),
        (
            true,
            rule(
                &["impersonate:user-info"],
                &["authentication.k8s.io"],
                &["users"],
                &[],
            ),
        ),
        (
            true,
            rule(
                &["impersonate"],
                &["authentication.k8s.io"],
                &["userextras/scopes"],
                &[],
            ),
        ),
        (true, rule(&["*"], &["*"], &["*"], &[])),
        (true, rule(&["patch"], &["*"], &["*"], &[])),
        (false, rule(&["*"], &[""], &["pods", "pods/exec"], &[])),
        (false, rule(&["get"], &["*"], &["*"], &[])),
        (false, rule(&[], &["*"], &["*"], &[])),
        (false, url(&["*"], &["*"])),
    ];
    for (expected, case) in cases {
        let harmless = rule(&["get"], &[""], &["pods"], &[]);
        let rules = [harmless, case.clone()];
        assert_eq!(permits_persistence(&rules), *expected, "{}", describe(case));
    }
}

#[test]
fn a_rule_is_described_on_one_short_line() {
    let cases = [
        (
            rule(&["get", "list"], &["apps"], &["pods"], &["a", "b"]),
            "get, list pods (apps) named a, b",
        ),
        (
            rule(&["get"], &[""], &["pods", "pods/log"], &[]),
            "get pods, pods/log",
        ),
        (rule(&["get"], &["", "apps"], &["*"], &[]), "get * (core, apps)"),
        (url(&["get"], &["/metrics", "/healthz"]), "get /metrics, /healthz"),
        (rule(&[], &[""], &["pods"], &[]), "nothing pods"),
        (
            rule(&["get"], &[""], &["pods"], &["a\n\u{202e}b", ""]),
            "get pods named a\\n\\u{202e}b, \"\"",
        ),
    ];
    for (rule, expected) in cases {
        assert_eq!(describe(&rule), expected);
    }
    let many: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let long = Rule {
        verbs: many,
        non_resource_urls: vec!["\u{10fffe}".repeat(1 << 20); 100],
        ..Rule::default()
    };
    let text = describe(&long);
    assert!(
        text.starts_with("0, 1, 2, 3, 4, 5, 6, 7, 2 more \\u{10fffe}"),
        "{text}"
    );
    assert!(text.len() < (32 << 10) / 4, "{}", text.len());
}
