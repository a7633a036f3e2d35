//! Which rules gain more, or allow persistence.

use crate::api::Rule;
use crate::core::rbac::describe::describe;
use crate::core::rbac::rules::{ANY, IMPERSONATED, PERSISTENCE, resource_matches};

/// The first rule that lets its holder gain more access, with the reason; `None` if there is none.
///
/// Such rules are:
/// - every wildcard verb;
/// - `bind` and `escalate` on roles, which bypass RBAC's own escalation check
///   (`pkg/registry/rbac/escalation_check.go`);
/// - `impersonate` in the core and the authentication group, also limited to a mode (`impersonate:user-info`,
///   KEP-5284).
pub fn first_escalation(rules: &[Rule]) -> Option<String> {
    rules
        .iter()
        .find_map(|rule| escalation(rule).map(|why| format!("{}: {why}", describe(rule))))
}

fn escalation(rule: &Rule) -> Option<&'static str> {
    let reaches = |groups: &[&str]| {
        rule.api_groups
            .iter()
            .any(|group| groups.contains(&group.as_str()))
    };
    let names = |resources: &[&str]| {
        rule.resources
            .iter()
            .any(|name| resources.contains(&name.as_str()))
    };
    let on_roles = || reaches(&["rbac.authorization.k8s.io", ANY]) && names(&["roles", "clusterroles", ANY]);
    let on_identities = || !rule.resources.is_empty() && reaches(&["", "authentication.k8s.io", ANY]);
    rule.verbs.iter().find_map(|verb| match verb.as_str() {
        ANY => Some("a wildcard verb allows everything, also what is added later"),
        "bind" if on_roles() => Some("bind grants roles that the holder does not have"),
        "escalate" if on_roles() => Some("escalate adds rights to roles that the holder does not have"),
        "impersonate" if on_identities() => Some("impersonate acts as someone else"),
        mode if mode.starts_with("impersonate:") && on_identities() => {
            Some("impersonate acts as someone else")
        }
        _ => None,
    })
}

/// Whether one of these rules allows persistence, directly or by acting as another account. Object names are
/// ignored: a rule limited to some objects counts as well.
///
/// # Caveats
/// This set neither contains nor is contained in that of [`first_escalation`]. Writing Secrets alone gains no more
/// access. Every verb on pods creates nothing that lasts.
pub fn permits_persistence(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| {
        PERSISTENCE
            .iter()
            .any(|(group, resources, verbs)| allows_any(rule, group, resources, verbs))
            || acts_as_others(rule)
    })
}

fn allows_any(rule: &Rule, group: &str, resources: &[&str], verbs: &[&str]) -> bool {
    let offers = |offered: &[String], asked: &[&str], matches: fn(&str, &str) -> bool| {
        asked
            .iter()
            .any(|asked| offered.iter().any(|offered| matches(asked, offered)))
    };
    let same = |asked: &str, offered: &str| offered == ANY || offered == asked;
    offers(&rule.api_groups, &[group], same)
        && offers(&rule.resources, resources, resource_matches)
        && offers(&rule.verbs, verbs, same)
}

fn acts_as_others(rule: &Rule) -> bool {
    let of_identities = |group: &String| ["", "authentication.k8s.io", ANY].contains(&group.as_str());
    // `userextras/scopes` and `*/scopes` count as well.
    let identity = |resource: &String| {
        let whole = resource.split('/').next().unwrap_or_default();
        whole == ANY || IMPERSONATED.contains(&whole)
    };
    // A verb limited to a mode counts as well: `impersonate:user-info`.
    let impersonates = |verb: &String| verb == ANY || verb.starts_with("impersonate");
    rule.api_groups.iter().any(of_identities)
        && rule.resources.iter().any(identity)
        && rule.verbs.iter().any(impersonates)
}
