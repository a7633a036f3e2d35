//! Names that look like ours are ours, so that nobody has one ready for us to use.

use crate::api::NAME_PREFIX;

use super::manifest::{Validating, demand, namespaces_except, not_ours, requests};
use super::{Guard, GuardSettings};

/// What is named `curfew-…` carries our label, except where our own manifests live.
pub(super) fn reserved(settings: &GuardSettings) -> [Guard; 2] {
    let own = [settings.namespace.as_str(), settings.identities.as_str()];
    Validating {
        name: "reserved-names",
        objects: not_ours(),
        namespaces: namespaces_except(&own),
        rules: vec![
            requests("batch", "v1", &["CREATE"], &["jobs"]),
            requests(
                "rbac.authorization.k8s.io",
                "v1",
                &["CREATE"],
                &["roles", "rolebindings"],
            ),
        ],
        validations: vec![demand(
            format!("!object.metadata.name.startsWith('{NAME_PREFIX}')"),
            "names of Jobs, Roles and RoleBindings that start with curfew- are for what Curfew makes: choose another \
             name",
        )],
        ..Validating::default()
    }
    .guards()
}
