//! Limits rules to named objects.

use std::collections::BTreeSet;

use super::{ANY, canonical, list, number_of_atoms};
use crate::api::Rule;

/// Why rules cannot be limited to the objects named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNarrowable {
    /// No object is named, which in a rule would mean every object.
    #[error("name at least one object")]
    NoNames,
    /// The empty name stands for requests that name no object, such as a list of all.
    #[error("an object name must not be empty")]
    EmptyName,
    /// No rule is offered for these objects.
    #[error(
        "not offered for objects named {}; offered for {}",
        list(names),
        list(offered)
    )]
    NotOffered {
        /// The names for which nothing is offered.
        names: Vec<String>,
        /// The names for which something is.
        offered: Vec<String>,
    },
    /// The API server authorizes the verb without the name of an object: limited to names it would allow nothing.
    #[error("{verb} on {resource} cannot be limited to named objects: such requests carry no object name")]
    Nameless {
        /// The verb.
        verb: String,
        /// The first resource of which this is so.
        resource: String,
    },
    /// URLs are not objects.
    #[error("access to URL {url} cannot be limited to named objects")]
    Url {
        /// The first of the URLs.
        url: String,
    },
}

/// Limits the rules to the objects named, in [`canonical`] form. What results allows exactly those requests of
/// `offered` that carry one of the names, and `offered` covers it.
///
/// A rule that is limited to objects already keeps those among the names; one that keeps none is left out. Each
/// name must be offered by at least one rule. Rules of which nothing would be left unnoticed are refused
/// instead, whichever names are asked for: `create` on a resource (not on a subresource such as `pods/exec`, which
/// carries the name), `deletecollection`, a wildcard verb, which includes both, and URLs. `list` and `watch` are
/// kept; they then need the field selector `metadata.name=`
/// (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources>).
pub fn narrow(offered: &[Rule], names: &[String]) -> Result<Vec<Rule>, NotNarrowable> {
    if names.is_empty() {
        return Err(NotNarrowable::NoNames);
    }
    if names.iter().any(String::is_empty) {
        return Err(NotNarrowable::EmptyName);
    }
    let offered: Vec<&Rule> = offered.iter().filter(|rule| number_of_atoms(rule) > 0).collect();
    offered.iter().try_for_each(|rule| carries_names(rule))?;

    let offers = |name: &String| offered.iter().any(|rule| offers_object(rule, name));
    let outside: Vec<String> = names.iter().filter(|name| !offers(name)).cloned().collect();
    if !outside.is_empty() {
        let all: BTreeSet<&String> = offered.iter().flat_map(|rule| &rule.resource_names).collect();
        return Err(NotNarrowable::NotOffered {
            names: outside,
            offered: all.into_iter().cloned().collect(),
        });
    }
    let narrowed: Vec<Rule> = offered
        .into_iter()
        .map(|rule| Rule {
            resource_names: names
                .iter()
                .filter(|name| offers_object(rule, name))
                .cloned()
                .collect(),
            ..rule.clone()
        })
        .filter(|rule| !rule.resource_names.is_empty())
        .collect();
    Ok(canonical(&narrowed))
}

fn offers_object(rule: &Rule, name: &String) -> bool {
    rule.resource_names.is_empty() || rule.resource_names.contains(name)
}

/// Whether requests that the rule allows carry the name of their object (`RequestInfo.Name`,
/// `k8s.io/apiserver/pkg/endpoints/request`).
fn carries_names(rule: &Rule) -> Result<(), NotNarrowable> {
    if let Some(url) = rule.non_resource_urls.first() {
        return Err(NotNarrowable::Url { url: url.clone() });
    }
    let nameless = |verb: &str, resource: &str| match verb {
        ANY | "deletecollection" => true,
        // A PUT or an apply that creates does carry the name; a POST, which is what people mean, does not.
        "create" => !resource.contains('/'),
        _ => false,
    };
    for verb in &rule.verbs {
        if let Some(resource) = rule.resources.iter().find(|resource| nameless(verb, resource)) {
            return Err(NotNarrowable::Nameless {
                verb: verb.clone(),
                resource: resource.clone(),
            });
        }
    }
    Ok(())
}
