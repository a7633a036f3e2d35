//! A Role of ours says what it said.

use super::expression::{
    creator_asks, ends_within_cap, held_by_fuse_or_grant, metadata, metadata_only_narrowed_or_handed_over, on,
};
use super::manifest::{Validating, demand, ours, requests};
use super::{Guard, GuardSettings};

/// A Role has the name of its fuse.
const NAMED: &str = "object.metadata.name == owner.name";

/// Roles with our label.
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
            demand(
                on("CREATE", &creator_asks(settings)),
                "only Curfew makes these: leave the label access.curfew.dev/grant-uid out, or ask for access with an \
                 AccessGrant",
            ),
            demand(
                on("CREATE", &held_by_fuse_or_grant(settings, NAMED)),
                "a Role of Curfew is held by exactly one fuse, of its own name, or by the grant it is labelled with: \
                 leave making it to Curfew",
            ),
            demand(
                on("CREATE", &format!("size(variables.finalizers) == 0 && {}", ends_within_cap(settings.cap))),
                format!(
                    "a Role of Curfew has no finalizer and states access.curfew.dev/not-after, at most {} ahead: ask \
                     for a shorter time",
                    settings.cap
                ),
            ),
            demand(
                on(
                    "CREATE",
                    "!has(object.rules) || object.rules.all(rule, !rule.verbs.exists(verb, \
                     verb in ['*', 'bind', 'escalate', 'impersonate']))",
                ),
                "verbs *, bind, escalate and impersonate are never given for a time: name other verbs",
            ),
            demand(
                on(
                    "UPDATE",
                    &format!(
                        "object.?rules.orValue([]) == oldObject.?rules.orValue([]) && {}",
                        metadata_only_narrowed_or_handed_over(settings, NAMED)
                    ),
                ),
                "rules, labels, end, fuse and finalizers of this Role do not change: delete its AccessGrant to end \
                 the access, make another one for more",
            ),
        ],
        ..Validating::default()
    }
    .guards()
}
