//! Limits rules to named objects.

use std::collections::BTreeSet;

use crate::api::Rule;
use crate::core::rbac::describe::list;
use crate::core::rbac::rules::{ANY, canonical, number_of_atoms};

/// Why rules cannot be limited to the named objects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNarrowable {
    /// No object is named. In a rule, an empty list means every object.
    #[error("name at least one object")]
    NoNames,
    /// The empty name stands for requests without an object name, such as a list of all objects.
    #[error("an object name must not be empty")]
    EmptyName,
    /// No rule is offered for these objects.
    #[error(
        "not offered for objects named {}; offered for {}",
        list(names),
        list(offered)
    )]
    NotOffered {
        /// Names that no rule offers.
        names: Vec<String>,
        /// Names that rules offer.
        offered: Vec<String>,
    },
    /// The API server authorizes the verb without an object name. Limited to names, the rule would allow
    /// nothing.
    #[error("{verb} on {resource} cannot be limited to named objects: such requests carry no object name")]
    Nameless {
        /// The verb.
        verb: String,
        /// The first resource with such requests.
        resource: String,
    },
    /// URLs are not objects.
    #[error("access to URL {url} cannot be limited to named objects")]
    Url {
        /// The first URL.
        url: String,
    },
}

/// Limits the rules to the named objects, in [`canonical`] form.
///
/// A rule that is already limited to objects keeps those that are named. A rule that keeps no object is left
/// out. `list` and `watch` are kept; such requests then need the field selector `metadata.name=`
/// <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources>.
///
/// # Guarantees
/// The result allows exactly those requests of `offered` that carry one of the names. `offered` covers the
/// result.
///
/// # Errors
/// - No name, an empty name, or a name that no rule offers.
/// - A rule that would silently allow nothing, whichever names are asked for: `create` on a resource,
///   `deletecollection`, a wildcard verb (it includes both), and URLs. `create` on a subresource such as
///   `pods/exec` is accepted, because such requests carry the name.
pub fn narrow(offered: &[Rule], names: &[String]) -> Result<Vec<Rule>, NotNarrowable> {
    if names.is_empty() {
        return Err(NotNarrowable::NoNames);
    }
    if names.iter().any(String::is_empty) {
        return Err(NotNarrowable::EmptyName);
    }
    let offered: Vec<&Rule> = offered.iter().filter(|rule| number_of_atoms(rule) > 0).collect();
    offered.iter().try_for_each(|rule| requests_carry_names(rule))?;

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

/// `Ok` if the requests that the rule allows carry the name of their object (`RequestInfo.Name`,
/// `k8s.io/apiserver/pkg/endpoints/request`).
fn requests_carry_names(rule: &Rule) -> Result<(), NotNarrowable> {
    if let Some(url) = rule.non_resource_urls.first() {
        return Err(NotNarrowable::Url { url: url.clone() });
    }
    let nameless = |verb: &str, resource: &str| match verb {
        ANY | "deletecollection" => true,
        // A PUT, or an apply that creates, carries the name. A POST, the usual way to create, does not.
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
