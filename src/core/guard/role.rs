//! Guard for Roles of Curfew: a Role never changes.

use crate::core::guard::cel::{
    ends_in_time, has_one_owner, metadata, metadata_only_narrowed_or_handed_over, on, only_curfew_creates,
};
use crate::core::guard::manifest::{Validating, demand, ours, requests};
use crate::core::guard::{Guard, GuardSettings};

/// CEL: the Role has the name of its fuse.
const NAMED: &str = "object.metadata.name == owner.name";

/// Guard for Roles with Curfew's label. Their rules, reserved metadata and owner never change.
pub(super) fn never_changes(settings: &GuardSettings) -> [Guard; 2] {
    Validating {
        name: "role",
        objects: ours(),
        rules: vec![requests(
            "rbac.authorization.k8s.io",
            "v1",
            &["CREATE", "UPDATE"],
            &["roles"],
        )],
        variables: metadata(),
        validations: vec![
            only_curfew_creates(settings, "Roles"),
            has_one_owner(settings, "A Role of Curfew", NAMED),
            ends_in_time(settings, "A Role of Curfew"),
            demand(
                on(
                    "CREATE",
                    "!has(object.rules) || object.rules.all(rule, !rule.verbs.exists(verb, \
                     verb in ['*', 'bind', 'escalate', 'impersonate']))",
                ),
                "The verbs *, bind, escalate and impersonate are never granted temporarily. Choose other verbs.",
            ),
            demand(
                on(
                    "UPDATE",
                    &format!(
                        "object.?rules.orValue([]) == oldObject.?rules.orValue([]) && {}",
                        metadata_only_narrowed_or_handed_over(settings, NAMED)
                    ),
                ),
                "Rules, labels, end, owner and finalizers of this Role cannot be changed. To end the access, delete its \
                 AccessGrant. To get other access, create another AccessGrant.",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}
