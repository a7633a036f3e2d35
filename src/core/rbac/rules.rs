//! Operations on sets of RBAC rules: is a set within another set, and what remains of a set that is limited
//! to named objects.
//!
//! Rules have the meaning that the Kubernetes RBAC authorizer gives them
//! (`pkg/apis/rbac/v1/evaluation_helpers.go`).

use crate::api::Rule;
use crate::core::rbac::describe::describe;

pub use crate::core::rbac::narrow::{NotNarrowable, narrow};

/// Matches every verb, API group or resource. It never matches an object: `resourceNames` has no wildcard.
pub(crate) const ANY: &str = "*";

/// Most atoms into which [`covers`] splits one rule. Ordinary rules of a policy are far below this. A role of
/// another author can be as large as an object, and the number of its atoms is a product.
pub const MAX_ATOMS: usize = 1 << 16;

/// The rules in one fixed order, without duplicates. Rules that differ only in order or in repeated entries
/// become equal.
///
/// # Caveats
/// Rules are not split or joined. The same access, cut into rules in another way, can therefore differ. Two
/// equal results always mean the same access.
pub fn canonical(rules: &[Rule]) -> Vec<Rule> {
    let sorted = |items: &[String]| {
        let mut items = items.to_vec();
        items.sort_unstable();
        items.dedup();
        items
    };
    let mut rules: Vec<Rule> = rules
        .iter()
        .map(|rule| Rule {
            api_groups: sorted(&rule.api_groups),
            resources: sorted(&rule.resources),
            verbs: sorted(&rule.verbs),
            resource_names: sorted(&rule.resource_names),
            non_resource_urls: sorted(&rule.non_resource_urls),
        })
        .collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

/// A right that is asked for and not offered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Uncovered {
    /// A rule with one verb and one resource (with at most one object) or one URL. No offered rule allows it.
    #[error("not offered: {}{}", describe(atom), every_object_suffix(atom))]
    Atom {
        /// The rule.
        atom: Rule,
    },
    /// A rule that no offered rule covers as a whole, and that is too large to be split.
    #[error(
        "not offered as one rule, and too large to check in parts (more than {MAX_ATOMS} single rights): {}",
        describe(rule)
    )]
    TooLarge {
        /// The rule.
        rule: Rule,
    },
}

/// Suffix for a rule that asks for every object. An offer of named objects does not cover it.
fn every_object_suffix(atom: &Rule) -> &'static str {
    if atom.resource_names.is_empty() && !atom.resources.is_empty() {
        ", for every object"
    } else {
        ""
    }
}

/// Proves that `offered` allows every request that `asked` allows.
///
/// The method is that of the API server against escalation (`Covers`,
/// `pkg/registry/rbac/validation/policy_comparator.go`). `asked` is split into atoms. One offered rule must
/// cover each atom by itself; different atoms of a rule can be covered by different offered rules.
///
/// A rule that allows nothing (no verbs, no groups, or no resources) asks for nothing.
///
/// # Errors
/// Returns the first right that `offered` does not allow.
///
/// # Caveats
/// - A rule without `resourceNames` asks for every object. No list of names covers it, however long.
/// - Only an offered wildcard covers an asked wildcard. A list of everything that the wildcard means today
///   does not.
/// - A rule of more than [`MAX_ATOMS`] atoms is covered only if one offered rule covers it as a whole.
pub fn covers(offered: &[Rule], asked: &[Rule]) -> Result<(), Uncovered> {
    asked.iter().try_for_each(|rule| covers_rule(offered, rule))
}

fn covers_rule(offered: &[Rule], asked: &Rule) -> Result<(), Uncovered> {
    if offered.iter().any(|offer| covers_whole(offer, asked)) {
        return Ok(());
    }
    if number_of_atoms(asked) > MAX_ATOMS {
        return Err(Uncovered::TooLarge { rule: asked.clone() });
    }
    match atoms(asked).find(|atom| !offered.iter().any(|offer| covers_whole(offer, atom))) {
        None => Ok(()),
        Some(atom) => Err(Uncovered::Atom { atom }),
    }
}

pub(crate) fn number_of_atoms(rule: &Rule) -> usize {
    let resources = [
        rule.api_groups.len(),
        rule.resources.len(),
        rule.resource_names.len().max(1),
    ]
    .into_iter()
    .fold(1, usize::saturating_mul);
    resources
        .saturating_add(rule.non_resource_urls.len())
        .saturating_mul(rule.verbs.len())
}

fn atoms(rule: &Rule) -> impl Iterator<Item = Rule> {
    rule.verbs
        .iter()
        .flat_map(move |verb| resource_atoms(rule, verb).chain(url_atoms(rule, verb)))
}

fn resource_atoms(rule: &Rule, verb: &str) -> impl Iterator<Item = Rule> {
    let objects = move || {
        let every_object = rule.resource_names.is_empty().then(Vec::new);
        let each_named = rule.resource_names.iter().map(|name| vec![name.clone()]);
        every_object.into_iter().chain(each_named)
    };
    rule.api_groups.iter().flat_map(move |group| {
        rule.resources.iter().flat_map(move |resource| {
            objects().map(move |resource_names| Rule {
                api_groups: vec![group.clone()],
                resources: vec![resource.clone()],
                verbs: vec![verb.to_owned()],
                resource_names,
                non_resource_urls: Vec::new(),
            })
        })
    })
}

fn url_atoms(rule: &Rule, verb: &str) -> impl Iterator<Item = Rule> {
    rule.non_resource_urls.iter().map(move |url| Rule {
        verbs: vec![verb.to_owned()],
        non_resource_urls: vec![url.clone()],
        ..Rule::default()
    })
}

/// Whether one offered rule covers the whole asked rule. For an atom this is the exact answer.
fn covers_whole(offer: &Rule, asked: &Rule) -> bool {
    let asks_for_resources = !asked.api_groups.is_empty() && !asked.resources.is_empty();
    all_match(&asked.verbs, &offer.verbs, |asked, offered| {
        offered == ANY || offered == asked
    }) && all_match(&asked.non_resource_urls, &offer.non_resource_urls, url_matches)
        && (!asks_for_resources
            || all_match(&asked.api_groups, &offer.api_groups, |asked, offered| {
                offered == ANY || offered == asked
            }) && all_match(&asked.resources, &offer.resources, resource_matches)
                && covers_objects(offer, asked))
}

fn covers_objects(offer: &Rule, asked: &Rule) -> bool {
    offer.resource_names.is_empty()
        || !asked.resource_names.is_empty()
            && all_match(&asked.resource_names, &offer.resource_names, |asked, offered| {
                offered == asked
            })
}

fn all_match(asked: &[String], offered: &[String], matches: fn(&str, &str) -> bool) -> bool {
    asked
        .iter()
        .all(|asked| offered.iter().any(|offered| matches(asked, offered)))
}

/// `*` matches subresources too. `*/scale` matches that subresource of every resource. `pods` does not match
/// `pods/exec`, and `pods/*` is not a wildcard.
pub(crate) fn resource_matches(asked: &str, offered: &str) -> bool {
    let same_subresource = || match (offered.strip_prefix("*/"), asked.split_once('/')) {
        (Some(offered), Some((_, asked))) => offered == asked,
        _ => false,
    };
    offered == ANY || offered == asked || same_subresource()
}

/// A trailing `*` matches every URL with that prefix.
fn url_matches(asked: &str, offered: &str) -> bool {
    offered == asked || (offered.ends_with('*') && asked.starts_with(offered.trim_end_matches('*')))
}

/// API group, resources and verbs that allow persistence (MITRE ATT&CK TA0003): creating something that
/// outlasts the access. These are roles and bindings, tokens of service accounts, Secrets (a token can be
/// written into one) and client certificates.
pub(crate) const PERSISTENCE: [(&str, &[&str], &[&str]); 6] = [
    (
        "rbac.authorization.k8s.io",
        &["roles", "rolebindings", "clusterroles", "clusterrolebindings"],
        &["create", "update", "patch", "bind", "escalate"],
    ),
    ("", &["serviceaccounts/token"], &["create"]),
    ("", &["secrets"], &["create", "update", "patch"]),
    (
        "certificates.k8s.io",
        &["certificatesigningrequests"],
        &["create", "approve"],
    ),
    (
        "certificates.k8s.io",
        &["certificatesigningrequests/approval"],
        &["update", "patch"],
    ),
    ("certificates.k8s.io", &["signers"], &["approve", "sign"]),
];

/// Resources that stand for another user or account in impersonation.
pub(crate) const IMPERSONATED: [&str; 5] = ["users", "groups", "serviceaccounts", "uids", "userextras"];

#[cfg(test)]
#[path = "tests/properties.rs"]
mod properties;
#[cfg(test)]
#[path = "tests/rules.rs"]
mod tests;
