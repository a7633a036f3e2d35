//! Rule operations compared with a model of the Kubernetes RBAC authorizer, for every request of a small universe.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::api::Rule;
use crate::core::rbac::narrow::narrow;
use crate::core::rbac::rules::{canonical, covers, number_of_atoms};

/// A request as the authorizer sees it. The name is empty if the request names no object.
#[derive(Clone, Copy, Debug)]
enum Request {
    Resource {
        verb: &'static str,
        group: &'static str,
        resource: &'static str,
        name: &'static str,
    },
    Url {
        verb: &'static str,
        url: &'static str,
    },
}

/// `RulesAllow` of `plugin/pkg/auth/authorizer/rbac/rbac.go`, with the matchers of
/// `pkg/apis/rbac/v1/evaluation_helpers.go`, in the same form as there.
fn allows(rules: &[Rule], request: Request) -> bool {
    rules.iter().any(|rule| match request {
        Request::Resource {
            verb,
            group,
            resource,
            name,
        } => {
            has(&rule.verbs, verb)
                && has(&rule.api_groups, group)
                && resource_allowed(rule, resource)
                && (rule.resource_names.is_empty() || rule.resource_names.iter().any(|n| n == name))
        }
        Request::Url { verb, url } => has(&rule.verbs, verb) && url_allowed(rule, url),
    })
}

fn has(items: &[String], wanted: &str) -> bool {
    items.iter().any(|item| item == "*" || item == wanted)
}

fn resource_allowed(rule: &Rule, combined: &str) -> bool {
    let subresource = combined
        .split_once('/')
        .map_or("", |(_, subresource)| subresource);
    rule.resources.iter().any(|resource| {
        resource == "*"
            || resource == combined
            || (!subresource.is_empty()
                && resource.len() == subresource.len() + 2
                && resource.starts_with("*/")
                && resource.ends_with(subresource))
    })
}

fn url_allowed(rule: &Rule, requested: &str) -> bool {
    rule.non_resource_urls.iter().any(|url| {
        url == "*"
            || url == requested
            || (url.ends_with('*') && requested.starts_with(url.trim_end_matches('*')))
    })
}

/// Every request of the model. Of each kind there is a value that no generated rule names.
fn universe() -> Vec<Request> {
    let mut requests = Vec::new();
    for verb in ["get", "list", "create", "deletecollection", "watch"] {
        for group in ["", "apps", "batch"] {
            for resource in [
                "pods",
                "pods/exec",
                "pods/log",
                "jobs",
                "jobs/exec",
                "jobs/status",
            ] {
                for name in ["", "a", "b", "c", "d"] {
                    requests.push(Request::Resource {
                        verb,
                        group,
                        resource,
                        name,
                    });
                }
            }
        }
        for url in ["/", "/a", "/a/", "/a/b", "/ab", "/b"] {
            requests.push(Request::Url { verb, url });
        }
    }
    requests
}

fn some_of(items: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    subsequence(items, 0..=most).prop_map(|items| items.into_iter().map(str::to_owned).collect())
}

fn any_rule(verbs: &'static [&'static str], wild: bool) -> impl Strategy<Value = Rule> {
    let groups: &[&str] = if wild { &["*", "", "apps"] } else { &["", "apps"] };
    let resources: &[&str] = if wild {
        &[
            "*",
            "*/exec",
            "pods",
            "pods/exec",
            "jobs/exec",
            "jobs",
            "pods/*",
            "*/*",
        ]
    } else {
        &["pods", "pods/exec", "jobs/exec", "jobs"]
    };
    let urls: &[&str] = if wild {
        &["*", "/a*", "/a/*", "/a/**", "/a"]
    } else {
        &["/a", "/a/b"]
    };
    let of_resources = || {
        (
            some_of(verbs, verbs.len()),
            some_of(groups, 2),
            some_of(resources, 3),
            some_of(&["", "a", "b", "c"], 3),
        )
            .prop_map(|(verbs, api_groups, resources, resource_names)| Rule {
                api_groups,
                resources,
                verbs,
                resource_names,
                non_resource_urls: Vec::new(),
            })
    };
    let of_urls = (some_of(verbs, 2), some_of(urls, 2)).prop_map(|(verbs, non_resource_urls)| Rule {
        verbs,
        non_resource_urls,
        ..Rule::default()
    });
    // The API server refuses a rule with resources and URLs. The model accepts it, because it must be total.
    let of_both = (of_resources(), some_of(urls, 1)).prop_map(|(rule, non_resource_urls)| Rule {
        non_resource_urls,
        ..rule
    });
    prop_oneof![6 => of_resources(), 2 => of_urls, 1 => of_both]
}

const VERBS: &[&str] = &["get", "list", "create", "deletecollection"];
const WILD_VERBS: &[&str] = &["*", "get", "list", "create"];

fn any_rules(most: usize) -> impl Strategy<Value = Vec<Rule>> {
    proptest::collection::vec(
        prop_oneof![any_rule(WILD_VERBS, true), any_rule(VERBS, false)],
        0..=most,
    )
}

/// Rules, and rules made of parts of them. The first often cover the second.
fn rules_and_parts() -> impl Strategy<Value = (Vec<Rule>, Vec<Rule>)> {
    any_rules(4).prop_flat_map(|rules| {
        let parts: Vec<_> = rules
            .iter()
            .map(|rule| {
                let part = |items: &Vec<String>| subsequence(items.clone(), 0..=items.len());
                (
                    part(&rule.verbs),
                    part(&rule.api_groups),
                    part(&rule.resources),
                    part(&rule.resource_names),
                    part(&rule.non_resource_urls),
                )
                    .prop_map(
                        |(verbs, api_groups, resources, resource_names, non_resource_urls)| Rule {
                            api_groups,
                            resources,
                            verbs,
                            resource_names,
                            non_resource_urls,
                        },
                    )
            })
            .collect();
        (Just(rules), parts)
    })
}

fn asked_and_offered() -> impl Strategy<Value = (Vec<Rule>, Vec<Rule>)> {
    prop_oneof![
        rules_and_parts().prop_map(|(rules, parts)| (parts, rules)),
        (any_rules(1), any_rules(4)),
        (proptest::collection::vec(any_rule(VERBS, false), 1), any_rules(4)),
    ]
}

fn name() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned)
}

fn is_plain(rule: &Rule) -> bool {
    [
        &rule.verbs,
        &rule.api_groups,
        &rule.resources,
        &rule.non_resource_urls,
    ]
    .into_iter()
    .flatten()
    .all(|item| !item.contains('*'))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn covers_is_reflexive(rules in any_rules(4)) {
        prop_assert_eq!(covers(&rules, &rules), Ok(()));
        prop_assert_eq!(covers(&rules, &canonical(&rules)), Ok(()));
        prop_assert_eq!(covers(&canonical(&rules), &rules), Ok(()));
    }

    #[test]
    fn covers_is_transitive((small, middle) in asked_and_offered(), more in any_rules(4), wide in any_rule(WILD_VERBS, true)) {
        let mut large = more;
        large.push(wide);
        if covers(&middle, &small).is_ok() && covers(&large, &middle).is_ok() {
            prop_assert_eq!(covers(&large, &small), Ok(()));
        }
        large.extend(middle);
        if covers(&large, &small).is_err() {
            prop_assert!(covers(&large[..1], &small).is_err());
        }
    }

    #[test]
    fn covered_means_allowed((asked, offered) in asked_and_offered()) {
        let not_offered = |request: &Request| allows(&asked, *request) && !allows(&offered, *request);
        let beyond = universe().into_iter().find(not_offered);
        match covers(&offered, &asked) {
            Ok(()) => prop_assert!(beyond.is_none(), "allowed and not offered: {beyond:?}"),
            // Without wildcards, the universe always contains the uncovered request.
            Err(uncovered) if asked.iter().all(is_plain) => prop_assert!(beyond.is_some(), "{uncovered}"),
            Err(_) => {}
        }
    }

    #[test]
    fn canonical_allows_the_same(rules in any_rules(4)) {
        let canonical_rules = canonical(&rules);
        prop_assert_eq!(canonical(&canonical_rules), canonical_rules.clone());
        for request in universe() {
            prop_assert_eq!(allows(&rules, request), allows(&canonical_rules, request));
        }
    }

    #[test]
    fn narrowed_rules_allow_exactly_the_offer_on_named_objects(
        offered in proptest::collection::vec(any_rule(&["get", "list", "create"], false), 1..3),
        names in proptest::collection::vec(name(), 1..3),
    ) {
        if let Ok(narrowed) = narrow(&offered, &names) {
            prop_assert_eq!(covers(&offered, &narrowed), Ok(()));
            prop_assert!(!narrowed.is_empty());
            for request in universe() {
                let on_these = matches!(request, Request::Resource { name, .. } if names.iter().any(|n| n == name));
                prop_assert_eq!(allows(&narrowed, request), allows(&offered, request) && on_these);
            }
            let allows_something = |rule: &&Rule| number_of_atoms(rule) > 0;
            let within = |rule: &Rule| {
                !rule.resource_names.is_empty() && rule.resource_names.iter().all(|name| names.contains(name))
            };
            prop_assert_eq!(covers(&narrowed, &offered).is_ok(), offered.iter().filter(allows_something).all(within));
        }
    }
}
