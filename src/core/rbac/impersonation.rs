//! The role that allows people to act as a service account.

use crate::api::{ACT_AS_PREFIX, Rule};
use crate::core::rbac::rules::canonical;

/// Name of the `ClusterRole` that allows people to act as a service account.
pub fn role_name(service_account: &str) -> String {
    format!("{ACT_AS_PREFIX}{service_account}")
}

/// The only rule of that role. A binding in the namespace of the service account allows to act as this account and as
/// no other one.
pub fn impersonation(service_account: &str) -> Rule {
    Rule {
        api_groups: vec![String::new()],
        resources: vec!["serviceaccounts".to_owned()],
        verbs: vec!["impersonate".to_owned()],
        resource_names: vec![service_account.to_owned()],
        non_resource_urls: Vec::new(),
    }
}

/// Whether rules allow exactly that. A role that allows more would give more under the same name.
pub fn allows_exactly(rules: &[Rule], service_account: &str) -> bool {
    canonical(rules) == [impersonation(service_account)]
}
