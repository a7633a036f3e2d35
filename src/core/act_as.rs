//! Acting as a service account: which role allows it, and what that role must say.

use super::rules::canonical;
use crate::api::{ACT_AS_PREFIX, Rule};

/// Name of the `ClusterRole` that allows to act as a service account.
pub fn role_name(service_account: &str) -> String {
    format!("{ACT_AS_PREFIX}{service_account}")
}

/// The one rule of that role. Bound in the namespace of the service account it allows to act as that one and nobody
/// else.
pub fn impersonation(service_account: &str) -> Rule {
    Rule {
        api_groups: vec![String::new()],
        resources: vec!["serviceaccounts".to_owned()],
        verbs: vec!["impersonate".to_owned()],
        resource_names: vec![service_account.to_owned()],
        non_resource_urls: Vec::new(),
    }
}

/// Whether rules allow exactly that: whoever may edit the role could otherwise hand out more under its name.
pub fn allows_exactly(rules: &[Rule], service_account: &str) -> bool {
    canonical(rules) == [impersonation(service_account)]
}

#[cfg(test)]
mod tests;
