//! Guard for reserved names: nobody can prepare an object with a name that Curfew will use.

use crate::api::NAME_PREFIX;
use crate::core::guard::manifest::{Validating, demand, namespaces_except, not_ours, requests};
use crate::core::guard::{Guard, GuardSettings};

/// A Job, Role or `RoleBinding` with a name `curfew-…` must carry Curfew's label. The namespaces of Curfew's own
/// manifests are exempt.
pub(super) fn reserved(settings: &GuardSettings) -> [Guard; 2] {
    let exempt = [settings.namespace.as_str(), settings.identities.as_str()];
    Validating {
        name: "reserved-names",
        objects: not_ours(),
        namespaces: namespaces_except(&exempt),
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
            "Names of Jobs, Roles and RoleBindings that start with curfew- are reserved for Curfew. Choose another name.",
        )],
        ..Validating::default()
    }
    .guards()
}
